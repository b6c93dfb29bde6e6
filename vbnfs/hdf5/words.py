"""Types in NumPy's words, and filters by their names (pure)."""

from collections.abc import Callable
from typing import Final

from vbnfs.hdf5.structure import Datatype, Filter
from vbnfs.hdf5.values import is_bool, is_complex

# By the identifiers in the HDF5 library (H5Zpublic.h), and those that the HDF Group has registered for plugins
# (hdf5_plugins, docs/RegisteredFilterPlugins.md).
_FILTERS: Final = {
    **{1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"},
    **{305: "lzo", 307: "bzip2", 32000: "lzf", 32001: "blosc", 32002: "mafisc", 32003: "snappy", 32004: "lz4"},
    **{32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32017: "sz", 32019: "jpeg", 32020: "vbz"},
    **{32022: "bitgroom", 32023: "bitround", 32024: "sz3", 32026: "blosc2", 32027: "flac", 32028: "sperr"},
}
_WITH_A_LEVEL: Final = frozenset({1, 307, 32015})  # their first value
_WORDS: Final = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
# Floats that NumPy has on some machine, by their bytes and the bits of their mantissas.
_FLOATS: Final = frozenset({(2, 10), (4, 23), (8, 52), (12, 64), (16, 64), (16, 112)})
_BFLOAT: Final = (2, 7)
_NUMPY_TAG: Final = "NUMPY:"  # of an opaque type: h5py's form of a type that HDF5 lacks


def filter_name(one: Filter) -> str:
    """The name of a filter, with its level where it has one: `gzip 4`."""
    name = _FILTERS.get(one.number, f"filter {one.number}")
    return f"{name} {one.values[0]}" if one.number in _WITH_A_LEVEL and one.values else name


def type_name(datatype: Datatype | None) -> str:
    """A type in NumPy's words, which `numpy.dtype` takes where NumPy has the type: `float64`, `>i2`, `S5`, `V3`.

    Others are in HDF5's words: `text` is of variable length, `list of int32` too.
    """
    if datatype is None:
        return "?"
    return _NAMES[datatype.kind](datatype) if datatype.kind in _NAMES else datatype.kind


def _integer(datatype: Datatype) -> str:
    letter = "i" if datatype.is_signed else "u"
    return _number(datatype.size_bytes, letter, is_big_endian=datatype.is_big_endian)


def _opaque(datatype: Datatype) -> str:
    is_numpys = datatype.tag.startswith(_NUMPY_TAG)
    return datatype.tag.removeprefix(_NUMPY_TAG) if is_numpys else f"V{datatype.size_bytes}"


def _enum(datatype: Datatype) -> str:
    if is_bool(datatype):
        return "bool"
    return f"enum {type_name(datatype.base)} {{{', '.join(f'{name}: {value}' for name, value in datatype.values)}}}"


def _compound(datatype: Datatype) -> str:
    if is_complex(datatype):
        return _real(datatype.members[0].datatype, "complex", 2)
    return f"{{{', '.join(f'{each.name}: {type_name(each.datatype)}' for each in datatype.members)}}}"


def _complex(datatype: Datatype) -> str:
    return "complex" if datatype.base is None else _real(datatype.base, "complex", 2)


def _number(size_bytes: int, letter: str, *, is_big_endian: bool) -> str:
    """`int16`, or `>i2` where the first byte is the highest."""
    if is_big_endian and size_bytes > 1:
        return f">{letter}{size_bytes}"
    return f"{_WORDS[letter]}{8 * size_bytes}"


def _real(part: Datatype, kind: str, count: int) -> str:
    """A float, or a complex number of two."""
    size_bytes, form = count * part.size_bytes, (part.size_bytes, part.mantissa_bits)
    if form in _FLOATS:
        return _number(size_bytes, kind[0], is_big_endian=part.is_big_endian)
    if form == _BFLOAT:
        return "bfloat16" if count == 1 else "complex of bfloat16"
    return f"{kind}{8 * size_bytes} with {part.mantissa_bits} bits of mantissa"


_NAMES: Final[dict[str, Callable[[Datatype], str]]] = {
    "integer": _integer,
    "bitfield": _integer,
    "float": lambda datatype: _real(datatype, "float", 1),
    "complex": _complex,
    "string": lambda datatype: f"S{datatype.size_bytes}",
    "opaque": _opaque,
    "sequence": lambda datatype: f"list of {type_name(datatype.base)}",
    "array": lambda datatype: f"{type_name(datatype.base)}[{', '.join(map(str, datatype.shape))}]",
    "enum": _enum,
    "compound": _compound,
}
