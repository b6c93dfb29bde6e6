"""What a daemon and the process that receives for it say to each other (host/message_link.py): values.

daemon -> process    Setup; then Begin, Taken, End of GETs by their numbers, Ping
process -> daemon    Ready; then Came, Ended, Retired, Pong, Said
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vbnfs.objects import StorePlan
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import Event, RangeGet
from vbnfs.s3.trust import Trust


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message. A process of another version of this program ends."""

    version: str
    trust: Trust
    proxy: Proxy | None
    max_connections: int


@dataclass(frozen=True, slots=True)
class Begin:
    """A GET, without its sink. With a plan come the descriptors of `data` and `checksums`: then blocks are stored.

    `generation` is that of the daemon's connections (generations.py).
    """

    number: int
    get: RangeGet
    plan: StorePlan | None
    generation: int


@dataclass(frozen=True, slots=True)
class Taken:
    """So many bytes of a GET were taken: as many more may come."""

    number: int
    count_bytes: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more of a GET is wanted."""

    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    """A question, whether the process is alive."""


@dataclass(frozen=True, slots=True)
class Ready:
    """GETs may begin."""


@dataclass(frozen=True, slots=True)
class Came:
    """An event of a GET. A `Piece` is empty: its bytes come behind the message."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of a GET that was ended will come any more, nor be stored."""

    number: int


@dataclass(frozen=True, slots=True)
class Retired:
    """Connections to this server are dead, as far as they were open before (generations.py)."""


@dataclass(frozen=True, slots=True)
class Pong:
    """It is: the answer of libcurl's thread."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message for the log."""

    level: str
    event: str
    fields: Mapping[str, str]
