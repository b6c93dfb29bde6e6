"""Reading a place of a file into memory that is there already: preadv(2), where the system has it."""

import os


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from `offset` on; how many bytes there were. Other threads run meanwhile. Raises `OSError`."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = os.pread(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)
