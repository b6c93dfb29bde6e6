"""Paths below `by` in a mount, as a command line has them: they name the sessions that they have links to."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.dataset.browsing import BY
from vbnfs.dataset.names import README, decode
from vbnfs.errors import DatasetError

_PATIENCE_SECONDS: Final = 5.0  # a mount looks every two seconds whether the table is cached
_PAUSE_SECONDS: Final = 0.05


def wait_for_folders(mountpoint: Path, path: str) -> None:
    """For a path at or below `by`, wait until the mount has made the folders there, which the first look has it do.

    Raises `DatasetError` if it does not: then the table is not cached by which it would.
    """
    parts, deadline = path.split("/"), time.monotonic() + _PATIENCE_SECONDS
    if parts[0] != BY or ".." in parts or parts[1:] == [README]:
        return
    while not _has_folders(mountpoint / BY):
        if time.monotonic() > deadline:
            raise DatasetError(
                f"{mountpoint / BY}: no folders are there yet: 'vbnfs sessions' reads the table by which the mount"
                " makes them"
            )
        time.sleep(_PAUSE_SECONDS)


def _has_folders(by: Path) -> bool:
    """Whether there are any; also where there is no such place, as in a dataset without sessions."""
    with suppress(FileNotFoundError):
        return any(entry.is_dir() for entry in os.scandir(by))
    return True


def places_of(mountpoint: Path, path: str) -> Iterator[str]:
    """A path in a mount that answers; for one below `by` those of the sessions to which the links there lead.

    Raises `DatasetError` for one that leads out of the mount.
    """
    if path.partition("/")[0] != BY:
        yield path
        return
    where = _real(mountpoint / path)
    if not where.is_relative_to(mountpoint):
        raise DatasetError(f"{mountpoint / path}: not in a vbnfs mount: it leads to {where}")
    found = map(_real, _links(where)) if where.is_relative_to(mountpoint / BY) else iter([where])
    yield from (decode(os.fsencode(one.relative_to(mountpoint))) for one in list(found) or [where])


def _links(path: Path) -> list[Path]:
    """The symbolic links in a folder; where it has none, those in the folders within.

    What is nested has no others.
    """
    children = list(path.iterdir()) if path.is_dir() else []
    links = [child for child in children if child.is_symlink()]
    return links or [link for child in children for link in _links(child)]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
