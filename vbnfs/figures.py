"""What a mount does now, and what is fetched without one, as values, and their form in JSON (pure).

The daemon makes them (`daemon/figures.py`); `vbnfs top` and the metrics show them. Counters count since the mount was
made, so that a rate is the difference of two of these. The daemon that an answer comes from may be another user's,
and report anything: `parse` takes what has the right types and sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from vbnfs.histogram import BOUNDS_SECONDS

_T = TypeVar("_T")
_MOST_NUMBER: Final = 1 << 63
_MOST_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Reader:
    """A program and a file that it has open, or had a moment ago.

    `read_by` is `kernel` where the kernel reads the file itself: then the mount sees no reads. `fetched_reads` are
    those that waited for S3. The program is None if its name could not be seen.
    """

    program: str | None
    pid: int
    file: str
    read_by: str
    is_open: bool
    reads: int
    read_bytes: int
    fetched_reads: int


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, with the remedy; how often, and how many seconds ago it did so last."""

    text: str
    count: int
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Fill:
    """How far it is to bring files that a command wants whole in the cache."""

    files: int
    done_files: int
    count_bytes: int
    done_bytes: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """What a process fetches into a cache without a mount, for `seconds` now. `program` is None if it has no name."""

    program: str | None
    pid: int
    dataset: str | None
    cache_dir: str
    seconds: float
    fill: Fill


@dataclass(frozen=True, slots=True)
class Waits:
    """How long reads waited in the mount: how many did by bucket (`BOUNDS_SECONDS`), and all of them together."""

    counts: list[int]
    sum_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of it, of one mount."""

    mountpoint: str
    dataset: str | None
    default_version: str
    pid: int
    vbnfs_version: str
    uptime_seconds: float
    is_offline: bool
    server_problem: str | None
    cache_size_bytes: int
    cache_usage_bytes: int
    cache_available_bytes: int
    cache_problem: str | None
    passthrough_problem: str | None  # why the kernel reads no file itself
    metrics_address: str | None  # host:port, at which Prometheus finds them
    first_byte_seconds: float  # of a request to S3, at best; 0 while it is not known
    most_gets: int  # that run at a time, as long as the server bears it
    prefetches: int  # GETs that no reader waits for
    coming_blocks: int  # on their way, from S3 or to the disk
    metrics: dict[str, int]
    waits: Waits
    readers: list[Reader]
    failures: list[Failure]  # the last one first
    fills: list[Fill]


def parse(answer: Mapping[str, Any]) -> Figures:
    """Figures from JSON. Names that are not known are passed over. Raises `ValueError`, which names what is wrong."""
    figures = _value("figures", Figures, answer)
    if len(figures.waits.counts) != len(BOUNDS_SECONDS) + 1:
        raise ValueError("waits")
    return figures


def parse_fetch(answer: object) -> Fetch:
    """A fetch from JSON, as `parse` takes figures."""
    return _value("fetch", Fetch, answer)


def _value(name: str, kind: type[_T], value: Any) -> _T:
    """A value of a type. Raises `ValueError` for any other."""
    if not _fits(kind, value):
        raise ValueError(name)
    if not is_dataclass(kind):
        return value  # type: ignore[no-any-return]
    hints = get_type_hints(kind)
    return kind(**{one.name: _part(one.name, hints[one.name], value.get(one.name)) for one in fields(kind)})


def _part(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {UnionType, Union}:
        [kind] = (one for one in arguments if one is not NoneType)
        return None if value is None else _value(name, kind, value)
    if origin is list and isinstance(value, list) and len(value) <= _MOST_ROWS:
        return [_value(name, arguments[0], one) for one in value]
    if origin is dict and isinstance(value, dict) and len(value) <= _MOST_ROWS:
        return {str(key): _value(name, arguments[1], one) for key, one in value.items()}
    if origin is not None:
        raise ValueError(name)
    return _value(name, hint, value)


def _fits(kind: type, value: Any) -> bool:
    if is_dataclass(kind):
        return isinstance(value, dict)
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value < _MOST_NUMBER  # which what is not finite is not
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_NUMBER
    return isinstance(value, kind)
