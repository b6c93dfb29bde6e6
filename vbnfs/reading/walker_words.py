"""What the daemon and the process that walks (walker_program.py) have in common: the form of messages, the bounds."""

import json
from typing import Final

from vbnfs.host.message_link import Codec

BOUNDED_BYTES: Final = 12 << 20  # of blocks, for a walk
BOUNDED_SECONDS: Final = 10.0  # for a walk, without those in which no program follows it
MOST_EXTENTS: Final = 2000  # of a file, that are known to the daemon

CODEC: Final = Codec(lambda message: json.dumps(message).encode(), json.loads)
