"""What an outline says of objects, in words: shapes, types, how data are stored, values of attributes (pure)."""

import json
from collections.abc import Sequence
from math import prod
from typing import Final

from vbnfs.hdf5.outline import Outline
from vbnfs.hdf5.structure import (
    Attribute,
    Chunked,
    CommittedType,
    Dataset,
    Elsewhere,
    Group,
    Layout,
    Object,
    Reference,
    Value,
)
from vbnfs.hdf5.words import filter_name, type_name

_ELSEWHERE: Final = {"external": "in other files", "virtual": "parts of other datasets"}


def typed_text(found: Object) -> tuple[str, str]:
    """Shape and type."""
    match found:
        case Dataset():
            return shape_text(found.shape), type_name(found.datatype)
        case CommittedType():
            return "", type_name(found.datatype)
    return "", ""


def shape_text(shape: Sequence[int] | None) -> str:
    """`250000 x 82`; `scalar` without a dimension, `empty` without any element."""
    if shape is None:
        return "empty"
    return " x ".join(map(str, shape)) if shape else "scalar"


def percent(part: int, whole: int) -> str:
    """A share: `100 %` only of all of it, and `0 %` only of nothing."""
    if part <= 0 or part >= whole:
        return "0 %" if part <= 0 else "100 %"
    share = round(100 * part / whole)
    return "<1 %" if share < 1 else f"{min(share, 99)} %"


def how_text(found: Object) -> str:
    """How data are stored."""
    match found:
        case Group():
            return f"{len(found.links):,} member{'' if len(found.links) == 1 else 's'}"
        case CommittedType():
            return "a named type"
    return ", ".join((_layout_text(found.layout), *map(filter_name, found.filters)))


def _layout_text(layout: Layout | None) -> str:
    match layout:
        case Chunked(shape, _, _, chunks, _):
            if prod(shape) == 0:
                return "chunked"
            count = "chunks" if chunks is None else f"{chunks:,} chunk{'' if chunks == 1 else 's'}"
            return f"{count} of {shape_text(shape)}"
        case Elsewhere(kind):
            return _ELSEWHERE[kind]
        case None:
            return "not known"
    return type(layout).__name__.lower()


def value_text(outline: Outline, one: Attribute) -> str:
    """A value in a line: texts in quotes, a reference by its path."""
    if one.shape is None:
        return "empty"
    if one.value is None:
        return "not read"
    text = _text(outline, one.value)
    return f"{text[:-1]}, ...]  {shape_text(one.shape)}" if one.is_cut else text


def _text(outline: Outline, value: Value) -> str:
    match value:
        case Reference(start, is_region):
            to = "nothing" if start is None else outline.paths.get(start, f"the object at byte {start}")
            return f"-> {'a part of ' if is_region else ''}{to}"
        case bytes():
            return f"0x{value.hex()}"
        case complex():
            return str(value)
        case dict():
            return f"{{{', '.join(f'{name}: {_text(outline, one)}' for name, one in value.items())}}}"
        case list():
            return f"[{', '.join(_text(outline, one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)
