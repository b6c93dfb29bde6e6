r"""A program: has the kernel read blocks of files, as standard input names them, and does not wait for it.

    <where the block begins> <how long it is> <path>\0

Run as a script, by path: `python -I -S page_filler_program.py`. It ends with its input. A file is open for as long as
it takes: one that is open keeps a mount from being unmounted. So of many blocks that are named at once, only the
last ones are read.
"""

import os
from contextlib import suppress
from typing import Final

_MOST_BYTES: Final = 1 << 16
_MOST_BLOCKS: Final = 4


def read_ahead(path: bytes, start: int, length: int) -> None:
    """Have the kernel read what it does not have of a part of a file. Raises `OSError`."""
    # O_NONBLOCK means nothing to a file; the mount knows this program by it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # Twice as far as the kernel reads ahead of its own: 256 KiB, by default.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def main() -> None:
    """Read ahead until there is no more input."""
    rest = b""
    while received := os.read(0, _MOST_BYTES):
        *blocks, rest = (rest + received).split(b"\0")
        for block in blocks[-_MOST_BLOCKS:]:
            start, length, path = block.split(b" ", 2)
            with suppress(OSError):
                read_ahead(path, int(start), int(length))


if __name__ == "__main__":
    main()
