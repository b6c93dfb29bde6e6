"""The walk of a content's structure to its end, for a program that waits for it: not ahead of a reader."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.errors import StorageError
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Structure
from vbnfs.hdf5.walk import Walk
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.fetches import Bytes


@dataclass(frozen=True, slots=True)
class Walked:
    """What was found, and the blocks of each wave: the second has those to which the file's beginning leads.

    Blocks of indexes of chunks are not among them. `has_all`: nothing but these was left out. `beside` are blocks
    that are read along. `failure` is why blocks did not come that were asked for.
    """

    structure: Structure
    waves: tuple[frozenset[int], ...]
    has_all: bool
    beside: tuple[int, ...]
    failure: StorageError | None = None


async def walk_content(
    cache: BlockCache, source: BlockSource, content: Content, *, bounds: Bounds, wanted: Wanted
) -> Walked:
    """Walk a content. Blocks that the cache lacks are fetched, wave by wave; after a failure, no more are."""
    blocks: dict[int, Bytes] = {}
    failure: StorageError | None = None
    walk, waves = Walk(content.size_bytes, blocks.get, bounds=bounds, wanted=wanted), list[frozenset[int]]()
    while True:
        wave = await trio.to_thread.run_sync(walk.advance, abandon_on_cancel=True)  # Ctrl-C does not wait for it
        waves += [wave] if wave and not wave & walk.index_blocks else []
        blocks.clear()  # the walk has what it wants of them
        asked = sorted(walk.outstanding)
        blocks |= await trio.to_thread.run_sync(partial(_stored, cache, content, asked), abandon_on_cancel=True)
        if not asked or (failure is not None and not blocks):
            structure = await trio.to_thread.run_sync(walk.result, abandon_on_cancel=True)
            return Walked(structure, tuple(waves), walk.has_all_but_indexes, walk.beside, failure)
        lacking = [index for index in asked if index not in blocks]
        try:
            blocks |= await source.get(content, lacking) if lacking and failure is None else {}
        except StorageError as error:
            failure = error


def _stored(cache: BlockCache, content: Content, indices: Iterable[int]) -> dict[int, Bytes]:
    """Those of the blocks that the cache has. Copies: the file of a view could be cut short."""
    found = ((index, cache.read_anew(content, block_range(content, index))) for index in indices)
    return {index: bytes(data) for index, data in found if data is not None}
