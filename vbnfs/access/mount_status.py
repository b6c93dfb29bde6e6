"""The status of a mount as its daemon reports it, checked: the daemon may be another user's, and report anything."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from vbnfs import __version__
from vbnfs.access.running_mounts import ANSWER_SECONDS, ask_as_reader, ask_of
from vbnfs.errors import MountError
from vbnfs.host.identity import user_name
from vbnfs.host.mountinfo import MountEntry, is_ours

_VERSION: Final = re.compile(r"[\w.+-]{1,40}")
_MOST_NUMBER: Final = 1 << 63
_DEEPEST: Final = 4
# A daemon of an older vbnfs does not report these.
_NEW_COUNTS: Final = (
    *("cache_reserve_bytes", "cache_free_bytes"),
    *("read_bytes_since_error", "received_bytes_since_error"),
)
_NEW_TEXTS: Final = (
    *("proxy", "certificates", "mirror", "server_problem", "cache_problem", "last_error_time"),
    *("dataset", "newer_version"),
)
_NEW: Final = (*_NEW_COUNTS, *_NEW_TEXTS, "uptime_seconds", "cache_also", "site_cache")
_SHOWN: Final = frozenset({"read_bytes", "received_bytes", "range_requests"})

Check = Callable[[Any], bool]


def ask_status(entry: MountEntry, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """The status of a mount. Raises `MountError` if its daemon does not answer, or its answer is no status.

    The place of the mount, and the daemon's process where that can be seen from here, are taken from the kernel.
    """
    answer, pid = ask_of(entry, "status", seconds=seconds)
    answer = {**dict.fromkeys(_NEW), **answer}
    wrong = next((name for name, check in _CHECKS.items() if name not in answer or not check(answer[name])), None)
    if wrong is None and not _is_passthrough(answer.get("passthrough")):
        wrong = "passthrough"
    if wrong is None and not _is_limit(answer.get("limit_rate")):
        wrong = "limit_rate"
    if wrong is None and not _is_record(answer.get("record")):
        wrong = "record"
    if wrong is not None or not _is_plain(answer):
        raise _no_status(entry, answer, wrong)
    return {**answer, "mountpoint": str(entry.mountpoint), "pid": pid or answer["pid"]}


def ask_readers_status(entry: MountEntry, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """The part of the status that a mount reports to all who can read it: another user's mount, too.

    Raises `MountError` as `ask_status` does.
    """
    answer = ask_as_reader(entry, seconds=seconds)
    wrong = next((name for name, check in _READERS_CHECKS.items() if not check(answer.get(name))), None)
    if wrong is not None or not _is_plain(answer):
        raise _no_status(entry, answer, wrong)
    return {**answer, "mountpoint": str(entry.mountpoint), "mounted_by": user_name(entry.owner)}


def _no_status(entry: MountEntry, answer: Mapping[str, Any], wrong: str | None) -> MountError:
    """The error for a status that lacks something, or has what cannot be: perhaps another vbnfs means it so."""
    theirs, remedy = answer.get("vbnfs_version"), "; its vbnfs may be another one: unmount it and mount it again"
    if isinstance(theirs, str) and theirs != __version__ and _VERSION.fullmatch(theirs):
        remedy = f"; it is of vbnfs {theirs}, and this is {__version__}: unmount it and mount it again"
    return MountError(f"{entry.mountpoint}: its daemon's status is none: {wrong or 'not plain values'}{remedy}")


def status_of(entry: MountEntry, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """The status of a mount, as much of it as this user may know. Raises `MountError` as `ask_status` does."""
    ask = ask_status if is_ours(entry) else ask_readers_status
    return ask(entry, seconds=seconds)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_time_or_none(value: Any) -> bool:
    try:
        time = None if value is None else datetime.fromisoformat(value)
        return time is None or (time.tzinfo is not None and time.astimezone() is not None)
    except (TypeError, ValueError, OverflowError):
        return False


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_texts_or_none(value: Any) -> bool:
    return value is None or _are_texts(value)


def _is_number(value: Any) -> bool:
    """Of any size that JSON can have: what is no finite number is not below the bound either."""
    return isinstance(value, int | float) and abs(value) < _MOST_NUMBER


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_NUMBER


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _are_counts(value: Any) -> bool:
    """Another version of vbnfs may count more, but not less than what is shown."""
    return isinstance(value, dict) and value.keys() >= _SHOWN and all(map(_is_count, value.values()))


def _is_passthrough(value: Any) -> bool:
    """Which files the kernel reads by itself; None of a daemon that does not report it."""
    if value is None:
        return True
    if not isinstance(value, dict) or not _is_text_or_none(value.get("reason")):
        return False
    handles = value.get("old_handles")
    are_handles = isinstance(handles, list) and all(map(_is_old_handle, handles))
    return _is_count(value.get("open_files")) and _are_texts(value.get("files")) and are_handles


def _is_limit(value: Any) -> bool:
    """The limit of bytes a second; None of a daemon that does not report it."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("is_shared"), bool):
        return False
    counts = (value.get(name) for name in ("waiting_reads", "waiting_others"))
    return _is_count_or_none(value.get("rate_bytes")) and all(map(_is_count, counts))


def _is_record(value: Any) -> bool:
    """Where a record is kept; None where none is, or of a daemon that does not report it."""
    if value is None:
        return True
    is_dict = isinstance(value, dict) and value.keys() >= {"file", "problem", "lost_lines"}
    return (
        is_dict and _is_text(value["file"]) and _is_text_or_none(value["problem"]) and _is_count(value["lost_lines"])
    )


def _are_site_caches(value: Any) -> bool:
    """What is known of proxies; None of a daemon that does not report it."""
    return value is None or (isinstance(value, list) and all(map(_is_site_cache, value)))


def _is_site_cache(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() >= {"url", "blocks", "problem"}:
        return False
    is_known = isinstance(value.get("is_asked", True), bool)
    return is_known and _is_text(value["url"]) and _is_count(value["blocks"]) and _is_text_or_none(value["problem"])


def _is_old_handle(value: Any) -> bool:
    is_dict = isinstance(value, dict) and value.keys() >= {"file", "pid", "program"}
    return is_dict and _is_text(value["file"]) and _is_count(value["pid"]) and _is_text_or_none(value["program"])


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth < _DEEPEST and all(_is_plain(one, depth + 1) for one in inner)
    return value is None or isinstance(value, str | bool) or _is_number(value)


_CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("vbnfs_version", "bucket", "project", "region", "default_version", "cache_dir"), _is_text),
    **dict.fromkeys(("endpoint_url", "ca_bundle", "log_file", "last_error"), _is_text_or_none),
    **dict.fromkeys(("versions", "refused"), _are_texts),
    **dict.fromkeys(("pid", "cache_size_bytes", "cache_usage_bytes"), _is_count),
    **dict.fromkeys(_NEW_COUNTS, _is_count_or_none),
    **dict.fromkeys(_NEW_TEXTS, _is_text_or_none),
    "last_error_time": _is_time_or_none,
    "uptime_seconds": _is_number_or_none,
    "cache_also": _are_texts_or_none,
    "site_cache": _are_site_caches,
    "is_offline": lambda value: isinstance(value, bool),
    "metrics": _are_counts,
}
_READERS_CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("vbnfs_version", "bucket", "project", "default_version"), _is_text),
    **dict.fromkeys(("dataset", "endpoint_url", "newer_version", "cache_problem"), _is_text_or_none),
    **dict.fromkeys(("versions", "refused"), _are_texts),
    **dict.fromkeys(("pid", "cache_size_bytes", "cache_usage_bytes"), _is_count),
    "uptime_seconds": _is_number_or_none,
    "is_offline": lambda value: isinstance(value, bool),
}
