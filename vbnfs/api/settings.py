"""The settings that `vbnfs.Dataset` takes by their names, so that editors know them; docs/settings.md explains each.

All others are of mounts. They are taken, too, and change nothing.
"""

import os
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from numbers import Real
from typing import Any, TypeAlias, TypedDict, TypeVar, get_type_hints

from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.config.sources import text_of_value
from vbnfs.errors import UsageError
from vbnfs.suggestions import hint

Place: TypeAlias = str | os.PathLike[str]
Size: TypeAlias = int | str  # bytes, or as `200G`
Function = TypeVar("Function", bound=Callable[..., Any])


class Settings(TypedDict, total=False):
    """Settings as text, as in the settings file, or as Python values. None: as if it were not given."""

    dataset: str | None
    bucket: str | None
    project: str | None
    region: str | None
    endpoint_url: str | None
    ca_bundle: Place | None
    mirror: str | dict[str, str] | None
    site_cache: str | Sequence[str] | None
    dataset_version: str | None
    versions: str | Sequence[str] | None
    cache_dir: Place | None
    cache_size: Size | None
    cache_reserve: Size | None
    cache_also: Place | Sequence[Place] | None
    trusted_users: str | Sequence[str] | None
    memory_limit: Size | None
    verify: str | None
    trust_cache: bool | str | None
    hdf5: bool | str | None
    index: Place | None
    max_connections: int | str | None
    limit_rate: Size | None
    receivers: int | str | None
    io_timeout: float | str | None
    silence_timeout: float | str | None
    refresh: float | str | None
    offline: bool | str | None


def with_names(function: Function) -> Function:
    """Have `help()`, and Tab in notebooks, show the settings by their names: a function takes `**settings`."""
    own = signature(function)
    first = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    named = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in get_type_hints(Settings).items()
    ]
    function.__dict__["__signature__"] = own.replace(parameters=[*first, *named])
    return function


def texts_of(settings: Settings) -> dict[str, str]:
    """Settings as a command line has them. Raises `UsageError` for a name that is none, and for what is no value."""
    given = {name: value for name, value in settings.items() if value is not None}
    for unknown in settings.keys() - SETTING_BY_NAME.keys():
        nearest = hint(unknown, SETTING_BY_NAME) or "; docs/settings.md lists them"
        raise UsageError(f"there is no setting {unknown}{nearest}")
    return {name: _text(name, value) for name, value in given.items()}


def _text(name: str, value: object) -> str:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if not isinstance(value, bool) and isinstance(value, Real):
        return str(value)  # also of NumPy's numbers
    if isinstance(value, tuple | list):
        value = [os.fspath(one) if isinstance(one, os.PathLike) else one for one in value]
    return text_of_value(name, name, value)
