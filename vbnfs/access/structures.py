"""The structure of an HDF5 file: of one of the dataset, or of any other.

Of the dataset's, blocks that are not cached are fetched in waves. They are those that structure is in, and no others.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.stored_blocks import block_range
from vbnfs.errors import StorageError
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Structure
from vbnfs.hdf5.walk import Walk
from vbnfs.objects import Content

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


async def find_in_content(dataset: Dataset, content: Content, wanted: Wanted) -> Found:
    """What of `wanted` there is in a content. All blocks that came are on the disk when this returns."""
    came: dict[int, bytes | memoryview] = {}
    failure: StorageError | None = None

    def block(number: int) -> bytes | memoryview | None:
        if (found := came.pop(number, None)) is None:
            found = dataset.cache.read(content, block_range(content, number))
        return None if found is None else bytes(found)  # a copy: the file of a view may be cut short

    walk = _walk(content.size_bytes, block, wanted)
    advance = partial(trio.to_thread.run_sync, walk.advance, abandon_on_cancel=True)  # Ctrl-C does not wait for it
    async with dataset.fetching() as (source, _):
        while failure is None and (wave := await advance()):
            try:
                came |= await source.get(content, sorted(wave))
            except StorageError as error:
                failure = error
        await advance()  # with those of the last wave that did come
    return Found(await trio.to_thread.run_sync(walk.result), failure)


def find_in_file(descriptor: int, size_bytes: int, wanted: Wanted) -> Found:
    """What of `wanted` there is in an open file. Raises `OSError`."""

    def block(number: int) -> bytes:
        return os.pread(descriptor, BLOCK_BYTES, number * BLOCK_BYTES)

    walk = _walk(size_bytes, block, wanted)
    walk.advance()
    return Found(walk.result())


def _walk(size_bytes: int, block: Callable[[int], bytes | memoryview | None], wanted: Wanted) -> Walk:
    return Walk(size_bytes, block, bounds=BOUNDS, wanted=wanted)
