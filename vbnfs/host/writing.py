"""Writing all of what is to be written: a disk that fills up may take a part of it, without an error."""

import errno
import os
from collections.abc import Sequence
from typing import Final

_MOST_VIEWS: Final = 512  # in one pwritev(2), which takes 1,024


def write_all(descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
    """Write adjacent parts to a file from `offset` on, not joined. Raises `OSError` where not all of it is taken.

    pwritev(2) says how much it has written, and fails only where that is nothing.
    """
    views = [memoryview(part) for part in parts if part]
    while views:
        written = os.pwritev(descriptor, views[:_MOST_VIEWS], offset)
        if not written:  # and no error: it would be the same again
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]
