"""The messages of receiver_messages.py as bytes, and back: JSON (RFC 8259), of registered classes alone.

    an instance     {"End": {"number": 7}}, with all of its fields
    an error        {"BusyError": {"message": "...", "remedy": null, "retry_after_seconds": 2.0}}
    bytes           base64 (RFC 4648)
    a tuple         a list

The class of a field says how its value is read. So what is read has the declared types, or is refused. No class but
these is made, and nothing that is read is run.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from vbnfs import errors
from vbnfs.errors import BusyError, StorageError, WrongBlockError
from vbnfs.host.message_link import Codec
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Stored, StorePlan
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import Done, Failed, RangeGet
from vbnfs.s3.receiver_messages import Begin, Came, End, Ended, Ping, Pong, Ready, Retired, Said, Setup, Taken
from vbnfs.s3.replies import Head
from vbnfs.s3.trust import Trust

MESSAGES: Final[tuple[type, ...]] = (Setup, Begin, Taken, End, Ping, Ready, Came, Ended, Retired, Pong, Said)
_WITHIN: Final[tuple[type, ...]] = (
    Trust, Proxy, RangeGet, RangeRequest, ObjectVersion, ByteRange, StorePlan, Head, Piece, Stored, Done, Failed,
)  # fmt: skip
_ERRORS: Final[tuple[type[StorageError], ...]] = tuple(
    one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, StorageError)
)
# What errors have besides the message: keywords of the class, and of those below it.
_ATTRIBUTES: Final[Mapping[type, Mapping[str, Any]]] = {
    StorageError: {"remedy": str | None},
    BusyError: {"retry_after_seconds": float | None},
    WrongBlockError: {"found": bytes},
}


def encode(message: object) -> bytes:
    """A message as bytes. Raises `TypeError` for what is none, and for one with a value of another class within."""
    if type(message) not in MESSAGES:
        raise TypeError(f"not a message: {message!r}")
    text = json.dumps(_plain(message), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")  # keys of objects may have surrogates


def decode(body: bytes) -> Any:
    """The message that was encoded. Raises `ValueError` for anything else."""
    try:
        return _instance(MESSAGES, json.loads(body.decode("utf-8", "surrogatepass")))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"not a message: {error!r}") from error


CODEC: Final = Codec(encode, decode)


def _fields_of(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fields_of_error(kind: type) -> dict[str, Any]:
    own = [_ATTRIBUTES[base] for base in kind.__mro__ if base in _ATTRIBUTES]
    return {"message": str} | {name: hint for attributes in own for name, hint in attributes.items()}


# The registry: classes, the names and types of their fields; classes by name.
_FIELDS: Final[Mapping[type, Mapping[str, Any]]] = {
    **{kind: _fields_of(kind) for kind in (*MESSAGES, *_WITHIN)},
    **{kind: _fields_of_error(kind) for kind in _ERRORS},
}
_BY_NAME: Final[Mapping[str, type]] = {kind.__name__: kind for kind in _FIELDS}


def _plain(value: object) -> Any:
    """As what JSON has."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return b64encode(value).decode("ascii")
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
    if (hints := _FIELDS.get(type(value))) is None:
        raise TypeError(f"not a class of messages: {type(value).__qualname__}")
    if isinstance(value, StorageError):
        own = {"message": str(value), **vars(value)}
        return {type(value).__name__: {name: _plain(own.get(name)) for name in hints}}
    return {type(value).__name__: {name: _plain(getattr(value, name)) for name in hints}}


def _value(hint: Any, plain: Any) -> Any:
    """What was encoded, of the type that `hint` names."""
    if get_origin(hint) in {Union, UnionType}:
        return _one_of(get_args(hint), plain)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), plain)
    if get_origin(hint) is Mapping:
        names, items = get_args(hint)
        return {_value(names, name): _value(items, item) for name, item in plain.items()}
    if hint is bytes:
        return b64decode(_of_type(str, plain), validate=True)
    if hint is float and type(plain) is int:
        return plain
    return _of_type(hint, plain) if hint in {str, int, bool, float} else _instance((hint,), plain)


def _of_type(kind: type, plain: Any) -> Any:
    if type(plain) is not kind:
        raise TypeError(f"not of type {kind.__name__}: {plain!r}")
    return plain


def _one_of(hints: tuple[Any, ...], plain: Any) -> Any:
    """Of a union, which has one type besides None, or registered classes."""
    if plain is None and NoneType in hints:
        return None
    others = tuple(hint for hint in hints if hint is not NoneType)
    return _value(others[0], plain) if len(others) == 1 else _instance(others, plain)


def _tuple(hints: tuple[Any, ...], plain: Any) -> tuple[Any, ...]:
    items = _of_type(list, plain)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(items)
    return tuple(_value(hint, item) for hint, item in zip(hints, items, strict=True))


def _instance(kinds: tuple[type, ...], plain: Any) -> Any:
    """An instance of one of these classes, or of a registered one below it."""
    [(name, found)] = plain.items()
    kind = _BY_NAME[name]
    if not set(kinds) & set(kind.__mro__):
        raise TypeError(f"{name} in the wrong place")
    hints = _FIELDS[kind]
    if found.keys() != hints.keys():
        raise ValueError(f"{name} has the fields {sorted(hints)}, not {sorted(found)}")
    values = {field: _value(hint, found[field]) for field, hint in hints.items()}
    return kind(values.pop("message"), **values) if issubclass(kind, StorageError) else kind(**values)
