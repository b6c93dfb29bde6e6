"""The messages of an object's header, one by one (specification, IV.A.2; pure)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Final

from vbnfs.hdf5.fields import Fields, UnparsableError, as_text
from vbnfs.hdf5.structure import ExternalLink, Filter, Link, Shape, SoftLink

_HARD, _SOFT, _EXTERNAL = 0, 1, 64
_LEAST_NAMED_FILTER: Final = 256  # those with lower numbers have no name from version 2 on


class Type(IntEnum):
    """The messages that something follows from; all others are passed over."""

    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    GROUP_INFO = 0x0A
    FILTERS = 0x0B
    ATTRIBUTE = 0x0C
    SHARED_TABLE = 0x0F
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11
    TREE_K = 0x13
    ATTRIBUTE_INFO = 0x15


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its type, whether its body stands elsewhere and this says where, and that body."""

    type: int
    is_shared: bool
    body: bytes


def read_messages(data: bytes, version: int, *, has_order: bool) -> Iterator[Message]:
    """The messages of a chunk of a header, without what surrounds them. Raises `UnparsableError` at one that is cut.

    `version` is the header's. `has_order`: each message has its creation order, which is passed over.
    """
    head_bytes = 8 if version == 1 else 6 if has_order else 4
    type_bytes = 2 if version == 1 else 1
    position = 0
    while len(data) - position >= head_bytes:  # without `Fields`: a third of the time of a walk was spent here
        size_at = position + type_bytes
        start, flags = position + head_bytes, data[size_at + 2]
        number = data[position] + (data[position + 1] << 8 if version == 1 else 0)
        position = start + data[size_at] + (data[size_at + 1] << 8)
        if position > len(data):
            raise UnparsableError("object header")
        yield Message(number, bool(flags & 2), data[start:position])


@dataclass(frozen=True, slots=True)
class Dataspace:
    """How many elements there are in each dimension, and how many there may be; None for a null dataspace."""

    shape: Shape | None
    most: tuple[int | None, ...] | None

    @property
    def elements(self) -> int:
        """How many elements there are."""
        return 0 if self.shape is None else prod(self.shape)


def read_dataspace(fields: Fields) -> Dataspace:
    """IV.A.2.b."""
    version = fields.number(1)
    rank, flags = fields.number(1), fields.number(1)
    if version not in {1, 2}:
        raise fields.error()
    kind = fields.number(1)
    if version == 1:
        fields.skip(4)
    elif kind == 2:
        return Dataspace(None, None)
    shape = tuple(fields.length() for _ in range(rank))
    if not flags & 1:
        return Dataspace(shape, shape)
    most = tuple(fields.dimension() for _ in range(rank))
    return Dataspace(shape, most)


@dataclass(frozen=True, slots=True)
class Dense:
    """Where links or attributes are that have no room in a header: a heap, and B-trees by name and by order."""

    heap: int | None
    names: int | None
    orders: int | None


def read_link_info(fields: Fields) -> Dense:
    """IV.A.2.c."""
    return _dense(fields, order_bytes=8)


def read_attribute_info(fields: Fields) -> Dense:
    """IV.A.2.v."""
    return _dense(fields, order_bytes=2)


def _dense(fields: Fields, order_bytes: int) -> Dense:
    fields.expect(b"\0")
    flags = fields.number(1)
    fields.skip(order_bytes if flags & 1 else 0)
    return Dense(fields.address(), fields.address(), fields.address() if flags & 2 else None)


def read_link(fields: Fields) -> tuple[str, int | Link]:
    """A link's name, and the address that it leads to, relative to the file's base; or the link, if it is none."""
    fields.expect(b"\1")
    flags = fields.number(1)
    kind = fields.number(1) if flags & 8 else _HARD
    fields.skip(8 if flags & 4 else 0)
    fields.skip(1 if flags & 16 else 0)
    name = as_text(fields.take(fields.number(1 << (flags & 3))))
    if kind == _HARD:
        return name, fields.required()
    value = fields.take(fields.number(2))
    if kind == _SOFT:
        return name, SoftLink(as_text(value))
    if kind != _EXTERNAL:
        raise fields.error()
    file, _, path = value[1:].partition(b"\0")
    return name, ExternalLink(as_text(file), as_text(path.partition(b"\0")[0]))


def read_filters(fields: Fields) -> tuple[Filter, ...]:
    """IV.A.2.l."""
    version, count = fields.number(1), fields.number(1)
    if version not in {1, 2}:
        raise fields.error()
    fields.skip(6 if version == 1 else 0)
    return tuple(_filter(fields, version) for _ in range(count))


def _filter(fields: Fields, version: int) -> Filter:
    number = fields.number(2)
    name_bytes = fields.number(2) if version == 1 or number >= _LEAST_NAMED_FILTER else 0
    fields.skip(2)
    count = fields.number(2)
    fields.skip(name_bytes + (-name_bytes % 8 if version == 1 else 0))
    values = tuple(fields.number(4) for _ in range(count))
    fields.skip(4 if version == 1 and count % 2 else 0)
    return Filter(number, values)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute: its name, its type and dataspace as they stand there or as they say where, and its value."""

    name: str
    datatype: Message
    dataspace: Message
    value: bytes


def read_attribute(fields: Fields) -> Attribute:
    """IV.A.2.m."""
    version = fields.number(1)
    if version not in {1, 2, 3}:
        raise fields.error()
    flags = fields.number(1) if version > 1 else fields.number(1) & 0
    name_bytes, type_bytes, space_bytes = fields.number(2), fields.number(2), fields.number(2)
    fields.skip(1 if version == 3 else 0)
    multiple = 8 if version == 1 else 1
    name = _padded(fields, name_bytes, multiple)
    datatype = Message(Type.DATATYPE, bool(flags & 1), _padded(fields, type_bytes, multiple))
    dataspace = Message(Type.DATASPACE, bool(flags & 2), _padded(fields, space_bytes, multiple))
    return Attribute(as_text(name.partition(b"\0")[0]), datatype, dataspace, fields.take(fields.left))


def _padded(fields: Fields, size_bytes: int, multiple: int) -> bytes:
    taken = fields.take(size_bytes)
    fields.skip(-size_bytes % multiple)
    return taken
