"""The structure of an HDF5 file: of one of the dataset, or of any other.

Of the dataset's, blocks that are not cached are fetched in waves. They are those that structure is in, and no others.
"""

from dataclasses import dataclass
from typing import Final

from vbnfs.access.dataset import Dataset
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import StorageError
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Structure
from vbnfs.hdf5.walk import Walk
from vbnfs.host.positioned import read_at
from vbnfs.objects import Content
from vbnfs.reading.content_walk import walk_content

# A user waits for one file: these are more than a mount spends on a file that a program may only have touched.
BOUNDS: Final = Bounds(
    fetched_bytes=128 << 20,
    index_bytes=64 << 20,
    objects=100_000,
    reads=10_000_000,
    seconds=120.0,
    block_bytes=512 << 20,
    branches=1_000_000,
    kept_bytes=512 << 20,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a file. `failure` is why blocks did not come that were asked for."""

    structure: Structure
    failure: StorageError | None = None


async def find_in_content(dataset: Dataset, content: Content, wanted: Wanted, bounds: Bounds = BOUNDS) -> Found:
    """What of `wanted` there is in a content. All blocks that came are on the disk when this returns."""
    async with dataset.fetching() as (source, _):
        walked = await walk_content(dataset.cache, source, content, bounds=bounds, wanted=wanted)
    return Found(walked.structure, walked.failure)


def find_in_file(descriptor: int, size_bytes: int, wanted: Wanted) -> Found:
    """What of `wanted` there is in an open file. Raises `OSError`."""

    def block(number: int) -> bytes:
        return read_at(descriptor, BLOCK_BYTES, number * BLOCK_BYTES)

    walk = Walk(size_bytes, block, bounds=BOUNDS, wanted=wanted)
    walk.advance()
    return Found(walk.result())
