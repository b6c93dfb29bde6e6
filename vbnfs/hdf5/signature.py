"""By what an HDF5 file is recognized (specification, II; pure).

It begins with the superblock, or with a user block of 512, 1024, 2048, ... bytes. One of up to 128 KiB is looked for
behind: so one block of the file shows that it is none of HDF5's.
"""

from typing import Final

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
STARTS: Final = (0, *(512 << step for step in range(9)))


def is_hdf5(first: bytes | memoryview) -> bool:
    """Whether a file with these first bytes, 128 KiB and some or all of them, is of HDF5's."""
    return any(bytes(first[start : start + len(SIGNATURE)]) == SIGNATURE for start in STARTS)
