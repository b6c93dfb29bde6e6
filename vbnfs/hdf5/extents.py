"""Where the larger arrays of a file lie, as far as a walk has found them: those that are stored in one piece (pure).

What a program reads of such an array says what it reads next: the rest of it, in the same steps. Of a ragged array
(HDMF's VectorIndex) the index says where the rows end: it has the name of the array and `_index` behind it, and its
number i is that of the first element behind row i.
"""

from collections.abc import Iterator
from math import prod
from typing import Final

from vbnfs.hdf5.branches import File
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.layouts import ContiguousLayout
from vbnfs.hdf5.structure import Contiguous, Dataset, Extent, RowEnds

LEAST_BYTES: Final = 64 << 10  # of an array that is worth knowing
_INDEX: Final = "_index"
_WIDEST_BYTES: Final = 8  # of a number


def extents_of(file: File) -> Iterator[Extent]:
    """The arrays of at least 64 KiB that are known by now, each once."""
    found = {draft.address: extent for draft in file.drafts.values() if (extent := _extent(file, draft)) is not None}
    for draft in file.drafts.values():
        for name, to in draft.links.items():
            index = draft.links.get(name + _INDEX)
            if isinstance(to, int) and isinstance(index, int) and to in found and index in file.drafts:
                found[to] = found[to]._replace(rows=_row_ends(file, file.drafts[index]))
    yield from found.values()


def _extent(file: File, draft: Draft) -> Extent | None:
    if draft.pending or not isinstance(draft.layout, ContiguousLayout):
        return None
    built = draft.build(file.base)
    if not isinstance(built, Dataset) or not isinstance(built.layout, Contiguous) or built.layout.start is None:
        return None
    start, size_bytes = built.layout.start, built.layout.storage_bytes
    if built.datatype is None or not built.shape or not LEAST_BYTES <= size_bytes <= file.size_bytes - start:
        return None
    return Extent(start, start + size_bytes, built.datatype.size_bytes * prod(built.shape[1:]))


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
