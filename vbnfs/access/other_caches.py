"""Cache directories besides our own: of a lab, of another disk. They are read, if their owner is believed."""

import os
from collections.abc import Set
from pathlib import Path

from vbnfs.cache.content_folder import FORMAT
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError
from vbnfs.host.identity import uid_of
from vbnfs.host.own_folders import trusted_owners
from vbnfs.host.places import Anchor, Place


def trusted_uids(config: Config) -> Set[int]:
    """The users whose files are believed: ourselves, root, and those that a setting names. Raises `CacheError`."""
    found = set(trusted_owners())
    for name in config.trusted_users:
        uid = uid_of(name)
        if uid is None:
            raise CacheError(f"--trusted-users {name}: no such user on this machine: correct the name")
        found.add(uid)
    return found


def open_other(directory: Path, owners: Set[int], *, given_by: str = "") -> Place:
    """A cache directory to read in. Raises `CacheError` if it is no such user's, or others could change it.

    `given_by` is what the message begins with, such as the name of an option.

    One that is not there, such as a disk that is not mounted yet, is looked for again whenever it is wanted.
    """
    anchor = Anchor(directory, owners=owners)
    try:
        anchor.held()
    except OSError as error:
        if isinstance(error.__cause__, CacheError):
            raise CacheError(f"{given_by}{error.__cause__}") from error
    return Place(anchor)


def unusable_caches(config: Config) -> list[str]:
    """What keeps other caches from being used now, in words. May wait for their disks."""
    return [problem for directory in config.cache_also if (problem := _problem(directory)) is not None]


def _problem(directory: Path) -> str | None:
    goes_on = "reads go on without it until it is there"
    try:
        if FORMAT in os.listdir(directory):
            return None
    except PermissionError:
        return f"--cache-also {directory}: you may not read it: its owner allows it by 'chmod -R a+rX'; {goes_on}"
    except OSError as error:
        return f"--cache-also {directory}: {error.strerror}; {goes_on}"
    return f"--cache-also {directory}: no cache of vbnfs: it has no folder {FORMAT}; {goes_on}"
