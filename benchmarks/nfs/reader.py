"""Runs in a machine: reads files from their beginning to their end, and prints what came of it, as JSON.

    {"sums": {"FILE": "<blake2b of its bytes>"}, "failed": {"FILE": "why"}, "longest_seconds": 1.2}

`longest_seconds` is how long the slowest of all reads took.
"""

import hashlib
import json
import os
import sys
import time
from typing import Final

_READ_BYTES: Final = 1 << 20


def main() -> None:
    """Read the files that the command line names."""
    sums, failed, longest = {}, {}, 0.0
    for path in sys.argv[1:]:
        digest = hashlib.blake2b()
        try:
            with open(path, "rb", buffering=0) as file:
                while True:
                    began = time.monotonic()
                    data = os.read(file.fileno(), _READ_BYTES)
                    longest = max(longest, time.monotonic() - began)
                    if not data:
                        break
                    digest.update(data)
            sums[path] = digest.hexdigest()
        except OSError as error:
            failed[path] = str(error)
    print(json.dumps({"sums": sums, "failed": failed, "longest_seconds": longest}))


if __name__ == "__main__":
    main()
