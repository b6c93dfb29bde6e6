"""Paths below `by` in a mount, as a command line has them: they name the sessions that they have links to."""

import os
from collections.abc import Iterator
from pathlib import Path

from vbnfs.dataset.browsing import BY
from vbnfs.dataset.names import decode
from vbnfs.errors import DatasetError


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
