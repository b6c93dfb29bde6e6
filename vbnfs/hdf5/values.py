"""Values of elements as Python has them, by their type (specification, IV.A.2.d), and by way of the global heap."""

import struct
from collections.abc import Callable, Sequence
from math import prod
from typing import Final, Literal

from vbnfs.hdf5.branches import Branch, File
from vbnfs.hdf5.fields import UnparsableError, as_text
from vbnfs.hdf5.heaps import read_collected
from vbnfs.hdf5.structure import Attribute, Datatype, Reference, Shape, Value

_MOST_ELEMENTS: Final = 1000
_BYTES_KEPT_OF_A_VALUE: Final = 64
_VALUE: Final = "value"
_FLOATS: Final = {(2, 10): "e", (4, 23): "f", (8, 52): "d"}  # by size and bits of the mantissa: IEEE 754
_BFLOAT: Final = (2, 7)  # the first half of a float of 4 bytes
_BOOL: Final = {"FALSE": 0, "TRUE": 1}  # h5py's enum


def read_values(file: File, datatype: Datatype, shape: Shape | None, data: bytes) -> Branch[Attribute]:
    """The elements of an attribute, a thousand at most. Raises `UnparsableError`."""
    if shape is None:
        return Attribute(datatype, None, None)
    count = prod(shape)
    found = yield from _read_row(file, datatype, min(count, _MOST_ELEMENTS), data)
    if len(found) < min(count, _MOST_ELEMENTS):
        raise UnparsableError(_VALUE)
    if count > len(found):
        return Attribute(datatype, shape, found, is_cut=True)
    return Attribute(datatype, shape, _in_shape(found, shape))


def _in_shape(elements: Sequence[Value], shape: Shape) -> Value:
    """Elements as nested lists; without a dimension, the only one."""
    if not shape:
        return elements[0]
    if len(shape) == 1:
        return list(elements)
    step = prod(shape[1:])
    return [_in_shape(elements[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0] if step else 0)]


def _read_row(file: File, datatype: Datatype, count: int, data: bytes) -> Branch[list[Value]]:
    """Elements one behind the other, so many or as many as there are bytes for."""
    size_bytes = datatype.size_bytes
    found: list[Value] = []
    for number in range(min(count, len(data) // size_bytes if size_bytes else 0)):
        found.append((yield from _read(file, datatype, data[number * size_bytes : (number + 1) * size_bytes])))
    return found


def _read(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    """One element."""
    file.keep(_BYTES_KEPT_OF_A_VALUE)
    if datatype.kind in _PLAIN:
        return _PLAIN[datatype.kind](datatype, data)
    if datatype.kind in _REFERRING:
        return (yield from _REFERRING[datatype.kind](file, datatype, data))
    return data


def _read_text(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    return as_text((yield from _referred_to(file, data)).partition(b"\0")[0])


def _read_sequence(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    elements = yield from _referred_to(file, data)
    return [] if datatype.base is None else (yield from _read_row(file, datatype.base, _length(data), elements))


def _read_region(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    return _reference(file, (yield from _heap_object(file, data)), is_region=True)


def _read_object(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    yield from ()
    return _reference(file, data, is_region=False)


def _read_array(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    count = prod(datatype.shape)
    found = [] if datatype.base is None else (yield from _read_row(file, datatype.base, count, data))
    return _in_shape(found, datatype.shape) if len(found) == count and count else []


def _read_compound(file: File, datatype: Datatype, data: bytes) -> Branch[Value]:
    values: dict[str, Value] = {}
    for member in datatype.members:
        part = data[member.offset_bytes : member.offset_bytes + member.datatype.size_bytes]
        values[member.name] = yield from _read(file, member.datatype, part)
    return _complex_of(list(values.values()), data) if is_complex(datatype) else values


_REFERRING: Final[dict[str, Callable[[File, Datatype, bytes], Branch[Value]]]] = {
    "text": _read_text,
    "sequence": _read_sequence,
    "region reference": _read_region,
    "object reference": _read_object,
    "array": _read_array,
    "compound": _read_compound,
}


def _referred_to(file: File, data: bytes) -> Branch[bytes]:
    """The bytes of what is of variable length: its length, and a global heap id (IV.B)."""
    return (yield from _heap_object(file, data[4:])) if _length(data) else b""


def _length(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _heap_object(file: File, heap_id: bytes) -> Branch[bytes]:
    fields = file.fields(heap_id, _VALUE)
    address, number = fields.address(), fields.number(4)
    return (yield from read_collected(file, address, number)) if address else b""


def _reference(file: File, data: bytes, *, is_region: bool) -> Reference:
    address = file.fields(data, _VALUE).address() if data else None
    return Reference(file.base + address if address else None, is_region)


def _order(datatype: Datatype) -> Literal["big", "little"]:
    return "big" if datatype.is_big_endian else "little"


def _integer(datatype: Datatype, data: bytes) -> int:
    return int.from_bytes(data, _order(datatype), signed=datatype.is_signed)


def _float(datatype: Datatype, data: bytes) -> float | bytes:
    form, sign = (datatype.size_bytes, datatype.mantissa_bits), ">" if datatype.is_big_endian else "<"
    if form == _BFLOAT:
        data = data + b"\0\0" if datatype.is_big_endian else b"\0\0" + data
        form = (4, 23)
    if form not in _FLOATS or len(data) != form[0]:
        return data
    value: float = struct.unpack(sign + _FLOATS[form], data)[0]
    return value


def _string(datatype: Datatype, data: bytes) -> str:
    return as_text(data.partition(b"\0")[0])


def _enum(datatype: Datatype, data: bytes) -> bool | str | int | bytes:
    if datatype.base is None:
        return data
    number = _integer(datatype.base, data)
    if is_bool(datatype):
        return bool(number)
    return next((name for name, value in datatype.values if value == number), number)


def is_bool(datatype: Datatype) -> bool:
    """Whether a type is h5py's form of a bool."""
    return datatype.kind == "enum" and datatype.size_bytes == 1 and dict(datatype.values) == _BOOL


def _complex(datatype: Datatype, data: bytes) -> complex | bytes:
    half = len(data) // 2
    parts = (data[:half], data[half:])
    return _complex_of([] if datatype.base is None else [_float(datatype.base, part) for part in parts], data)


def _complex_of(parts: Sequence[Value], data: bytes) -> complex | bytes:
    match parts:
        case [float() as real, float() as imaginary]:
            return complex(real, imaginary)
    return data


def is_complex(datatype: Datatype) -> bool:
    """Whether a type is a compound as h5py writes complex numbers: of two floats of one type, `r` and `i`."""
    parts = datatype.members
    names = [part.name for part in parts]
    return names == ["r", "i"] and parts[0].datatype == parts[1].datatype and parts[0].datatype.kind == "float"


_PLAIN: Final[dict[str, Callable[[Datatype, bytes], Value]]] = {
    "integer": _integer,
    "time": _integer,
    "bitfield": _integer,
    "float": _float,
    "string": _string,
    "enum": _enum,
    "complex": _complex,
}
