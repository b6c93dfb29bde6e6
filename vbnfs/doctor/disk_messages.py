"""What goes to disk_program.py and comes back, as JSON (RFC 8259): values of a few classes, and no others.

An instance is {"Stored": {"usage_bytes": 7, ...}}, a path {"Path": "..."}, an error {"CacheError": {"message": "...",
"remedy": null}}; a tuple is a list. Nothing that is read is run.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from vbnfs.cache.sampling import Sample
from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import Config
from vbnfs.doctor.disk import DiskFacts, Stored
from vbnfs.errors import CacheError, MountError, VbnfsError

_CLASSES: Final[Mapping[str, type]] = {one.__name__: one for one in (Config, MirrorPlace, DiskFacts, Stored, Sample)}
_ERRORS: Final[Mapping[str, type[VbnfsError]]] = {one.__name__: one for one in (CacheError, MountError)}
_PATH: Final = "Path"


def encode(value: Config | DiskFacts) -> bytes:
    """The value as text. Raises `TypeError` for one that has a value of another class."""
    return json.dumps(_plain(value)).encode()


def decode(data: bytes) -> Any:
    """What `encode` was given. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
    return _value(json.loads(data))


def _plain(value: Any) -> Any:
    name = type(value).__name__
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if isinstance(value, VbnfsError):
        return {name: {"message": str(value), "remedy": value.own_remedy}}
    if is_dataclass(value):
        return {name: {field.name: _plain(getattr(value, field.name)) for field in fields(value)}}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(one) for one in plain)
    if not isinstance(plain, dict):
        return plain
    [(name, inner)] = plain.items()
    if name == _PATH:
        return Path(inner)
    if name in _ERRORS:
        return _ERRORS[name](inner["message"], remedy=inner["remedy"])
    return _CLASSES[name](**{field: _value(one) for field, one in inner.items()})
