"""Where the larger arrays of a file lie, as far as a walk has found them (pure).

One that is stored in one piece has one extent. One in chunks has one for all chunks that lie one behind the other.

What a program reads of such an array says what it reads next: the rest of it, in the same steps. Of a ragged array
(HDMF's VectorIndex) the index says where the rows end: it has the name of the array and `_index` behind it, and its
number i is that of the first element behind row i.
"""

from collections.abc import Iterator
from math import prod
from typing import Final

from vbnfs.hdf5.branches import File
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.layouts import ChunkedLayout, ContiguousLayout
from vbnfs.hdf5.structure import Chunked, Contiguous, Dataset, Extent, RowEnds

LEAST_BYTES: Final = 64 << 10  # of an array that is worth knowing
_INDEX: Final = "_index"
_WIDEST_BYTES: Final = 8  # of a number


def extents_of(file: File) -> Iterator[Extent]:
    """The arrays of at least 64 KiB that are known by now, each once; those in chunks only where these are wanted."""
    found = {draft.address: _extents(file, draft) for draft in file.drafts.values()}
    for draft in file.drafts.values():
        for name, to in draft.hard_links():
            index = draft.links.get(name + _INDEX)
            if isinstance(index, int) and index in file.drafts and len(found.get(to, ())) == 1:
                [extent] = found[to]
                found[to] = [extent._replace(rows=_row_ends(file, file.drafts[index]) if extent.row_bytes else None)]
    for extents in found.values():
        yield from extents


def _extents(file: File, draft: Draft) -> list[Extent]:
    if draft.pending or not isinstance(draft.layout, ContiguousLayout | ChunkedLayout):
        return []
    built = draft.build(file.base)
    if not isinstance(built, Dataset) or built.datatype is None or not built.shape:
        return []
    extents: list[Extent] = []
    match built.layout:
        case Contiguous(int(start), size_bytes):
            extents = [Extent(start, start + size_bytes, built.datatype.size_bytes * prod(built.shape[1:]))]
        case Chunked(places=tuple(places)):
            extents = [Extent(place.start, place.stop, 0) for place in places]
    return [each for each in extents if each.stop - each.start >= LEAST_BYTES and each.stop <= file.size_bytes]


def _row_ends(file: File, draft: Draft) -> RowEnds | None:
    built = draft.build(file.base)
    if not isinstance(built, Dataset) or built.datatype is None or not built.shape:
        return None
    match built.layout:
        case Contiguous(int(start), size_bytes) if built.datatype.kind == "integer" and len(built.shape) == 1:
            [count], width = built.shape, built.datatype.size_bytes
            if width <= _WIDEST_BYTES and count * width <= size_bytes and start + size_bytes <= file.size_bytes:
                return RowEnds(start, count, width, built.datatype.is_big_endian)
    return None
