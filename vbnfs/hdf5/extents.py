"""Where the larger arrays of a file lie, as far as a walk has found them (pure).

One that is stored in one piece has one extent. One in chunks has one for those that lie one behind the other: it says
where each of these begins if they are large.

What a program reads of such an array says what it reads next: the rest of it, in the same steps. Of a ragged array
(HDMF's VectorIndex) the index says where the rows end: it has the name of the array and `_index` behind it, and its
number i is that of the first element behind row i.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from vbnfs.hdf5.branches import File
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.layouts import ChunkedLayout, ContiguousLayout
from vbnfs.hdf5.structure import Chunked, Contiguous, Dataset, Extent, RowEnds
from vbnfs.objects import ByteRange

LEAST_BYTES: Final = 64 << 10  # of an array that is worth knowing
_LEAST_CHUNK_BYTES: Final = 128 << 10  # on average; where smaller ones end is soon read anyway
_MOST_CHUNKS: Final = 30_000  # of a file; those of an LFP of 30 GB in chunks of 1 MiB
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
    left = _MOST_CHUNKS
    for extents in found.values():
        for extent in extents:
            left -= len(extent.chunks)
            yield extent if left >= 0 else extent._replace(chunks=())


def _extents(file: File, draft: Draft) -> list[Extent]:
    built = _dataset(file, draft)
    if built is None or built.datatype is None or built.shape is None:
        return []
    extents: list[Extent] = []
    if (piece := _in_one_piece(built)) is not None:
        row_bytes = built.datatype.size_bytes * prod(built.shape[1:])
        extents = [Extent(piece.start, piece.stop, row_bytes if row_bytes <= len(piece) else 0)]
    elif isinstance(built.layout, Chunked):
        extents = [Extent(place.start, place.stop, 0) for place in built.layout.places or ()]
    large = [each for each in extents if each.stop - each.start >= LEAST_BYTES and each.stop <= file.size_bytes]
    if isinstance(built.layout, Chunked):
        starts = draft.index.starts(file.base)
        return [_with_chunks(each, starts, is_filtered=bool(built.filters)) for each in large]
    return large


def _with_chunks(extent: Extent, starts: Sequence[int], *, is_filtered: bool) -> Extent:
    """An extent with those of the chunks that are in it. `starts`: where all of the array begin, in order."""
    chunks = starts[bisect_left(starts, extent.start) : bisect_left(starts, extent.stop)]
    are_large = len(chunks) * _LEAST_CHUNK_BYTES <= extent.stop - extent.start
    return extent._replace(chunks=tuple(chunks), is_filtered=is_filtered) if are_large else extent


def _row_ends(file: File, draft: Draft) -> RowEnds | None:
    built = _dataset(file, draft)
    if built is None or built.datatype is None or built.shape is None or len(built.shape) != 1:
        return None
    piece, [count], width = _in_one_piece(built), built.shape, built.datatype.size_bytes
    if piece is None or piece.stop > file.size_bytes or count * width > len(piece):
        return None
    is_number = built.datatype.kind == "integer" and 0 < width <= _WIDEST_BYTES
    return RowEnds(piece.start, count, width, built.datatype.is_big_endian) if is_number else None


def _dataset(file: File, draft: Draft) -> Dataset | None:
    """The dataset that a draft is, with elements, if all of its header was read."""
    if draft.pending or not isinstance(draft.layout, ContiguousLayout | ChunkedLayout):
        return None
    built = draft.build(file.base)
    return built if isinstance(built, Dataset) and built.shape else None


def _in_one_piece(dataset: Dataset) -> ByteRange | None:
    """Where all elements of a dataset stand, one behind the other.

    The chunks of a list are taken to be in order, where they lie side by side: if they are not, other bytes are read
    ahead.
    """
    match dataset.layout:
        case Contiguous(int(start), size_bytes):
            return ByteRange(start, start + size_bytes)
        case Chunked(places=(ByteRange() as place,)) if not dataset.filters and len(dataset.shape or ()) == 1:
            return place
    return None
