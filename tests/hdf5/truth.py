"""What h5py says of a file, in the values of `vbnfs.hdf5.structure`."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import h5py
from h5py import h5d, h5o, h5t

from vbnfs.hdf5.structure import (
    Chunked,
    CommittedType,
    Compact,
    Contiguous,
    Dataset,
    Datatype,
    Elsewhere,
    ExternalLink,
    Filter,
    Group,
    HardLink,
    Index,
    Layout,
    Link,
    Member,
    Object,
    SoftLink,
)

_KINDS: Final = {
    h5t.INTEGER: "integer",
    h5t.FLOAT: "float",
    h5t.TIME: "time",
    h5t.STRING: "string",
    h5t.BITFIELD: "bitfield",
    h5t.OPAQUE: "opaque",
    h5t.COMPLEX: "complex",
}


def objects_of(path: Path) -> dict[int, Object]:
    """All objects that hard links lead to, by the byte at which their headers begin.

    An index is always called "single": h5py does not say which kind it is.
    """
    with h5py.File(path, "r") as file:
        start = file.userblock_size
        return {start + _address(each): _object(each, start) for each in _all(file["/"])}


def _address(item: Any) -> int:
    return int(h5o.get_info(item.id).addr)


def _all(root: Any) -> Iterator[Any]:
    seen, found = set(), [root]
    for item in found:  # which grows meanwhile
        if _address(item) not in seen:
            seen.add(_address(item))
            yield item
            if isinstance(item, h5py.Group):
                found += [item[name] for name in item if isinstance(item.get(name, getlink=True), h5py.HardLink)]


def _object(item: Any, start: int) -> Object:
    attributes = frozenset(item.attrs)
    if isinstance(item, h5py.Group):
        return Group({name: _link(item, name, start) for name in item}, attributes)
    if isinstance(item, h5py.Datatype):
        return CommittedType(datatype(item.id), attributes)
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    return Dataset(
        shape=item.shape,
        most=None if item.shape is None else item.maxshape,
        datatype=datatype(item.id.get_type()),
        layout=_layout(item, properties, start),
        filters=tuple(Filter(code, tuple(values)) for code, _, values, _ in filters),
        attributes=attributes,
    )


def _link(group: Any, name: str, start: int) -> Link:
    match group.get(name, getlink=True):
        case h5py.SoftLink(path=path):
            return SoftLink(path)
        case h5py.ExternalLink(filename=file, path=path):
            return ExternalLink(file, path)
    return HardLink(start + _address(group[name]))


def _layout(item: Any, properties: Any, start: int) -> Layout:
    stored = item.id.get_storage_size()
    match properties.get_layout():
        case h5d.COMPACT:
            return Compact(stored)
        case h5d.CONTIGUOUS:
            if properties.get_external_count():
                return Elsewhere("external")
            return Contiguous(item.id.get_offset() if stored else None, stored)
        case h5d.VIRTUAL:
            return Elsewhere("virtual")
    chunks = item.id.get_num_chunks() if item.shape is not None else 0
    return Chunked(properties.get_chunk(), "single", None, chunks, stored)


def comparable(found: Object) -> Object:
    """An object as h5py sees it: types as they are in memory, and indexes of chunks of no kind and at no place."""
    match found:
        case CommittedType(datatype=Datatype() as one):
            return replace(found, datatype=_in_memory(one))
        case Dataset(datatype=Datatype() as one):
            found = replace(found, datatype=_in_memory(one))
    if isinstance(found, Dataset) and isinstance(found.layout, Chunked):
        return replace(found, layout=replace(found.layout, index="single", start=None))
    return found


_BYTES_IN_MEMORY: Final = {"text": 8, "sequence": 16, "object reference": 8, "region reference": 12}


def _in_memory(found: Datatype) -> Datatype:
    """The HDF5 library gives what refers to something the size that it has in memory, and moves what is behind it."""
    base = None if found.base is None else _in_memory(found.base)
    members, behind = [], 0
    for member in found.members:
        inner = _in_memory(member.datatype)
        members.append(Member(member.name, member.offset_bytes + behind, inner))
        behind += inner.size_bytes - member.datatype.size_bytes
    size_bytes = _BYTES_IN_MEMORY.get(found.kind, found.size_bytes + behind)
    if found.kind == "array" and base is not None:
        size_bytes = math.prod(found.shape) * base.size_bytes
    is_big_endian = found.is_big_endian and found.kind != "time"  # of which h5py does not say it
    return replace(found, size_bytes=size_bytes, is_big_endian=is_big_endian, base=base, members=tuple(members))


def index_of(found: Object) -> Index | None:
    """Which kind of index a dataset has."""
    return found.layout.index if isinstance(found, Dataset) and isinstance(found.layout, Chunked) else None


def datatype(found: Any) -> Datatype:  # noqa: PLR0911 - one for each class of types
    """A type of h5py's low-level interface."""
    size_bytes, kind = found.get_size(), found.get_class()
    match found:
        case h5t.TypeStringID() if found.is_variable_str():
            return Datatype("text", size_bytes)
        case h5t.TypeCompoundID():
            return Datatype("compound", size_bytes, members=tuple(_members(found)))
        case h5t.TypeReferenceID():
            return Datatype("object reference" if found == h5t.STD_REF_OBJ else "region reference", size_bytes)
        case h5t.TypeEnumID():
            names = [found.get_member_name(number) for number in range(found.get_nmembers())]
            values = tuple((name.decode(), int(found.enum_valueof(name))) for name in names)
            return Datatype("enum", size_bytes, base=datatype(found.get_super()), values=values)
        case h5t.TypeVlenID():
            return Datatype("sequence", size_bytes, base=datatype(found.get_super()))
        case h5t.TypeArrayID():
            return Datatype("array", size_bytes, shape=found.get_array_dims(), base=datatype(found.get_super()))
        case h5t.TypeComplexID():
            return Datatype("complex", size_bytes, base=datatype(found.get_super()))
    has_order = kind in {h5t.INTEGER, h5t.FLOAT, h5t.BITFIELD}
    return Datatype(
        _KINDS[kind],
        size_bytes,
        is_big_endian=has_order and found.get_order() == h5t.ORDER_BE,
        is_signed=kind == h5t.INTEGER and found.get_sign() == h5t.SGN_2,
        mantissa_bits=found.get_fields()[4] if kind == h5t.FLOAT else 0,
        tag=found.get_tag().decode() if kind == h5t.OPAQUE else "",
    )


def _members(found: Any) -> Iterator[Member]:
    for number in range(found.get_nmembers()):
        name = found.get_member_name(number).decode()
        yield Member(name, found.get_member_offset(number), datatype(found.get_member_type(number)))


def joined(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places in order, of which adjacent ones are one: their first bytes, and those behind the last."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
