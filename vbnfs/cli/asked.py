"""What paths on a command line name: a mount, whose settings then hold, or places in the dataset (tree_files.py)."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vbnfs.access.mount_status import ask_status
from vbnfs.access.room import raise_the_size_of
from vbnfs.access.running_mounts import ANSWER_SECONDS
from vbnfs.access.tree_files import Place
from vbnfs.cache.eviction import stored_size
from vbnfs.cli.browsed import places_of, wait_for_folders
from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.dataset.names import decode
from vbnfs.errors import DatasetError, MountError, UsageError
from vbnfs.host.apart import first_missing, names_in
from vbnfs.host.mountinfo import MountEntry, absolute, list_mounts
from vbnfs.suggestions import hint

_OF_A_MOUNT: Final = (
    *("bucket", "project", "endpoint_url", "region", "ca_bundle", "mirror", "dataset_version"),
    *("cache_dir", "cache_size", "cache_reserve"),
)  # settings that a mount decides for paths in it; the others are this command's own


def place_of(config: Config, paths: Sequence[Path], *, given: Set[str]) -> Place:
    """The settings of the mount in which `paths` lie, and the paths in it; all unchanged where there is no mount.

    `given` are the names of the settings that this command line sets, itself or by the file that it names.
    Raises `UsageError` for one of them that the mount decides otherwise, `MountError` for paths in
    different mounts, `DatasetError` for a path that cannot be in the dataset.
    """
    mounts = list_mounts()
    within = [_within_mount(path, mounts) for path in paths]
    entries = {entry for entry, _ in within}
    if len(entries) > 1:
        raise MountError("paths in different mounts, or not all of them in a mount: name them one after the other")
    entry = entries.pop() if entries else None
    if entry is None:
        for path in paths:
            _check_is_of_dataset(path)
        is_stored = config.cache_size_bytes is None
        remedy = raise_the_size_of(config.cache_dir) if is_stored else "--cache-size {} lets it take more"
        return Place(config, [decode(os.fsencode(path)) for path in paths], remedy)
    status = ask_status(entry)
    _check_given(config, status, given)
    for _, inner_path in within:
        wait_for_folders(entry.mountpoint, inner_path)
    _check_are_there(paths, entry)
    remedy = raise_the_size_of(Path(status["cache_dir"]))
    if status.get("is_cache_size_given"):
        remedy = f"it is the mount {entry.mountpoint} that was given so little: mount it again with --cache-size {{}}"
    inner = dict.fromkeys(each for _, one in within for each in places_of(entry.mountpoint, one))
    return Place(_settings_of(status, config), list(inner), remedy, max_age_seconds=math.inf)


def _check_are_there(paths: Sequence[Path], entry: MountEntry) -> None:
    """Raise `DatasetError` for a path that is not there, `MountError` where the mount does not answer."""
    try:
        missing = first_missing(paths, seconds=ANSWER_SECONDS)
        if missing is None:
            return
        way = [*reversed(missing.absolute().parents), missing.absolute()]
        end = first_missing(way, seconds=ANSWER_SECONDS) or way[-1]
        there = hint(end.name, names_in(end.parent, seconds=ANSWER_SECONDS))
    except TimeoutError as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error.strerror}") from error
    message = f"{missing}: no such file or folder; 'ls {end.parent}' lists those that there are"
    raise DatasetError(message + there)


def _check_given(config: Config, status: Mapping[str, Any], given: Set[str]) -> None:
    """Raise `UsageError` for a setting that was given and is not the mount's: it would have no effect."""
    for name in _OF_A_MOUNT:
        setting = SETTING_BY_NAME[name]
        known_as = "default_version" if name == "dataset_version" else setting.field
        wanted, has = getattr(config, setting.field), status.get(known_as)
        if name in given and str(wanted) != str(has):
            is_by_name = "dataset" in given and config.dataset is not None
            option = f"--dataset {config.dataset}: {name}" if is_by_name else setting.option
            raise UsageError(
                f"{option} {wanted}: the mount {status['mountpoint']} has {has or 'its default'}, and its"
                " settings hold for paths in it: leave it out, or name the path in the dataset, as in"
                " ecephys_sessions/..."
            )


def _settings_of(status: Mapping[str, Any], config: Config) -> Config:
    """The settings with which a mount reads."""
    cache_dir, ca_bundle = Path(status["cache_dir"]), status["ca_bundle"]
    limit_bytes = status["cache_size_bytes"]
    if not status.get("is_cache_size_given"):  # another mount may have stored a larger one since this one read it
        limit_bytes = max(limit_bytes, stored_size(cache_dir, 0))
    return replace(
        config,
        **{name: status[name] for name in ("bucket", "project", "endpoint_url", "region")},
        ca_bundle=None if ca_bundle is None else Path(ca_bundle),
        mirror=_mirror_of(status),
        site_cache=tuple(server["url"] for server in status.get("site_cache") or ()),
        cache_dir=cache_dir,
        cache_size_bytes=limit_bytes,
        cache_reserve_bytes=status.get("cache_reserve_bytes", config.cache_reserve_bytes),
        dataset_version=status["default_version"],
        offline=config.offline or bool(status.get("is_offline_wanted")),
    )


def _mirror_of(status: Mapping[str, Any]) -> MirrorPlace | None:
    """The mirror that a mount asks; None also for a daemon that knows of none."""
    text = status.get("mirror")
    try:
        mirror: MirrorPlace | None = None if text is None else SETTING_BY_NAME["mirror"].parse(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise MountError(f"{status['mountpoint']}: its daemon's status is none: mirror") from error
    return mirror


def _within_mount(path: Path, mounts: Iterable[MountEntry]) -> tuple[MountEntry | None, str]:
    where = absolute(path)
    for entry in mounts:
        if where.is_relative_to(entry.mountpoint):
            return entry, decode(os.fsencode(where.relative_to(entry.mountpoint)))
    return None, decode(os.fsencode(path))


def _check_is_of_dataset(path: Path) -> None:
    """Raise `DatasetError` for a path outside of mounts that cannot be below the dataset's root. Asks no server."""
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(
            f"{path}: not in a vbnfs mount ('vbnfs status' lists those that there are); name a path in one, or in the"
            " dataset without a slash before it, or a dataset version"
        )
