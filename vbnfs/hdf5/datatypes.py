"""Datatype messages, and where in an element the global heap is referred to (specification, IV.A.2.d; pure).

Version 5 of the message and the complex class are HDF5 2.0's (specification, version 4.0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from vbnfs.hdf5.fields import Fields, as_text
from vbnfs.hdf5.structure import Datatype, Kind, Member

_DEEPEST: Final = 32  # types within types
_VERSIONS: Final = range(1, 6)
# The classes that consist of no other types, and how many bytes follow their heads.
_PLAIN: Final[dict[int, tuple[Kind, int]]] = {
    0: ("integer", 4),
    2: ("time", 2),
    3: ("string", 0),
    4: ("bitfield", 4),
}
_REFERENCES: Final[dict[int, Kind]] = {0: "object reference", 1: "region reference"}


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of a type that stands within `depth` others. What `bits` mean depends on its class."""

    version: int
    bits: int
    size_bytes: int
    depth: int

    @property
    def count(self) -> int:
        """How many members it has."""
        return self.bits & 0xFFFF

    def name(self, fields: Fields) -> str:
        """The next name, which older versions fill up to a multiple of 8 bytes."""
        return fields.name(multiple=8 if self.version < 3 else 1)

    def inner(self, fields: Fields) -> Datatype:
        """The type that follows, which stands within this one."""
        return read_datatype(fields, self.depth + 1)


def read_datatype(fields: Fields, depth: int = 0) -> Datatype:
    """The type that is described from here on. Raises `UnparsableError`."""
    first = fields.number(4)
    number, head = first & 15, _Head(first >> 4 & 15, first >> 8, fields.number(4), depth)
    if head.version not in _VERSIONS or depth > _DEEPEST:
        raise fields.error()
    if number in _PLAIN:
        return _plain(fields, head, *_PLAIN[number])
    if number in _READ:
        return _READ[number](fields, head)
    raise fields.error()


def _plain(fields: Fields, head: _Head, kind: Kind, rest_bytes: int) -> Datatype:
    fields.skip(rest_bytes)
    is_big_endian = kind != "string" and bool(head.bits & 1)
    return Datatype(kind, head.size_bytes, is_big_endian, is_signed=kind == "integer" and bool(head.bits & 8))


def _float(fields: Fields, head: _Head) -> Datatype:
    fields.skip(7)
    mantissa_bits = fields.number(1)
    fields.skip(4)
    return Datatype("float", head.size_bytes, is_big_endian=bool(head.bits & 1), mantissa_bits=mantissa_bits)


def _opaque(fields: Fields, head: _Head) -> Datatype:
    tag = fields.take(head.bits & 255)
    return Datatype("opaque", head.size_bytes, tag=as_text(tag.partition(b"\0")[0]))


def _compound(fields: Fields, head: _Head) -> Datatype:
    offset_bytes = 4 if head.version < 3 else (max(head.size_bytes, 1).bit_length() + 7) // 8
    members = tuple(_member(fields, head, offset_bytes) for _ in range(head.count))
    return Datatype("compound", head.size_bytes, members=members)


def _member(fields: Fields, head: _Head, offset_bytes: int) -> Member:
    name, offset = head.name(fields), fields.number(offset_bytes)
    shape: tuple[int, ...] = ()
    if head.version == 1:  # which has arrays as members, and no class of them
        rank = fields.number(1)
        fields.skip(11)
        shape = tuple(fields.number(4) for _ in range(4))[:rank]
    inner = head.inner(fields)
    if not shape:
        return Member(name, offset, inner)
    size_bytes = inner.size_bytes
    for length in shape:
        size_bytes *= length
    return Member(name, offset, Datatype("array", size_bytes, shape=shape, base=inner))


def _reference(fields: Fields, head: _Head) -> Datatype:
    return Datatype(_REFERENCES.get(head.bits & 15, "reference"), head.size_bytes)


def _enum(fields: Fields, head: _Head) -> Datatype:
    base = head.inner(fields)
    names = [head.name(fields) for _ in range(head.count)]
    order: Literal["big", "little"] = "big" if base.is_big_endian else "little"
    taken = [fields.take(base.size_bytes) for _ in range(head.count)]
    values = [int.from_bytes(each, order, signed=base.is_signed) for each in taken]
    return Datatype("enum", head.size_bytes, base=base, values=tuple(zip(names, values, strict=True)))


def _of_variable_length(fields: Fields, head: _Head) -> Datatype:
    base = head.inner(fields)
    is_text = head.bits & 15 == 1
    return Datatype("text", head.size_bytes) if is_text else Datatype("sequence", head.size_bytes, base=base)


def _array(fields: Fields, head: _Head) -> Datatype:
    rank = fields.number(1)
    fields.skip(3 if head.version < 3 else 0)
    shape = tuple(fields.number(4) for _ in range(rank))
    fields.skip(4 * rank if head.version < 3 else 0)  # a permutation, which was never used
    return Datatype("array", head.size_bytes, shape=shape, base=head.inner(fields))


def _complex(fields: Fields, head: _Head) -> Datatype:
    return Datatype("complex", head.size_bytes, base=head.inner(fields))


_READ: Final[dict[int, Callable[[Fields, _Head], Datatype]]] = {
    1: _float,
    5: _opaque,
    6: _compound,
    7: _reference,
    8: _enum,
    9: _of_variable_length,
    10: _array,
    11: _complex,
}


def pointers(datatype: Datatype, most: int) -> list[int]:
    """Where in an element references to the global heap begin, as bytes from its start; at most so many.

    What is of variable length stands there as a length of 4 bytes and a global heap id; a reference to a region is
    such an id (specification, IV.B).
    """
    match datatype.kind:
        case "text" | "sequence":
            return [4]
        case "region reference":
            return [0]
        case "array" if datatype.base is not None and datatype.base.size_bytes:
            within = pointers(datatype.base, most)
            starts = range(0, datatype.size_bytes, datatype.base.size_bytes) if within else range(0)
            return list(islice((start + each for start in starts for each in within), most))
        case "compound":
            parts = ((member.offset_bytes, pointers(member.datatype, most)) for member in datatype.members)
            return list(islice((start + each for start, within in parts for each in within), most))
    return []


def may_refer(datatype: Datatype) -> bool:
    """Whether elements refer to objects, or to the global heap."""
    if datatype.kind in {"text", "sequence", "object reference", "region reference", "reference"}:
        return True
    parts = [member.datatype for member in datatype.members]
    return any(may_refer(part) for part in (*parts, *([datatype.base] if datatype.base is not None else ())))
