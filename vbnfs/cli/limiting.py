"""`vbnfs limit-rate`: the rate of a cache directory, set and shown."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.mount_status import ask_status
from vbnfs.cache.shared_rate import read_rate, set_rate
from vbnfs.config.settings import parse_rate
from vbnfs.errors import CacheError, MountError, UsageError
from vbnfs.host.identity import our_uid, user_name
from vbnfs.host.mountinfo import absolute, find_mount, is_ours
from vbnfs.host.places import folder_at
from vbnfs.rate import rate_text


def parsed(words: Sequence[str]) -> tuple[int | None, Path | None]:
    """A rate and a mount's folder, of which either may be missing, in either order. Raises `UsageError`."""
    rates, folders = list[int](), list[str]()
    reason = ""
    for word in words:
        try:
            rates.append(parse_rate(word))
        except ValueError as error:
            folders.append(word)
            reason = str(error)
    if len(rates) > 1 or len(folders) > 1:
        raise UsageError(f"{' '.join(words)}: one rate and one folder at the most; {reason or 'name one rate'}")
    if folders and not _is_path(folders[0]):
        raise UsageError(f"{folders[0]}: neither a folder nor a rate; {reason}")
    return (rates[0] if rates else None), (absolute(Path(folders[0])) if folders else None)


def _is_path(word: str) -> bool:
    """Whether a word is meant as a folder: that nothing is mounted there is another matter."""
    return "/" in word or word in {".", ".."} or os.path.lexists(word)


def cache_dir_of(mountpoint: Path) -> Path:
    """The cache of a mount. Raises `MountError`; `CacheError` for one of another user."""
    entry = find_mount(mountpoint)
    if entry is None or not is_ours(entry):
        raise MountError(f"{mountpoint}: no vbnfs mount; 'vbnfs status' lists those that there are")
    if entry.owner != our_uid():
        owner = user_name(entry.owner)
        remedy = f"'runuser -u {owner} -- vbnfs limit-rate ...' sets and shows its rate"
        raise CacheError(f"{mountpoint}: its cache belongs to {owner}; {remedy}")
    return Path(ask_status(entry)["cache_dir"])


def limit(directory: Path, rate: int | None) -> str:
    """Set the rate of a cache, if there is one to set; what holds from now on, for people. Raises `CacheError`."""
    if rate is not None:
        prepare_cache_directory(directory)
        try:
            set_rate(directory, rate)
        except OSError as error:
            raise CacheError(f"{directory}: the rate cannot be stored: {error.strerror or error}") from error
        return rate_text(rate)
    try:
        with suppress(FileNotFoundError), folder_at(directory).opened():
            pass
    except OSError as error:
        raise CacheError(f"{directory}: its rate cannot be read: {error.strerror or error}") from error
    return rate_text(read_rate(directory).rate)
