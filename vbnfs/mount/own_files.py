"""Where each user's own file is that AllenSDK writes: which manifest they loaded last.

A read-only mount cannot hold it, so there a symbolic link leads to it, for every user to another place. AllenSDK
truncates and writes what it leads to, so nobody else may be able to put something there: the place is in a folder
that exists, belongs to the user and cannot be written by others, looked at each time:

    <cache directory>/allensdk      for the user whose process this is
    ~/.cache, else ~                (as the password database has it: the environment of others is not known)
    /run/user/<uid>
    /dev/null                       for whom there is none: AllenSDK then loads the newest version, and says so

The name tells datasets and mount points apart, as two cache directories of AllenSDK are.
"""

import hashlib
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

NOWHERE: Final = "/dev/null"
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class OwnFiles:
    """The places for one mount; `directory`, which is made, is for the user whose process this is.

    `names` are what tells this mount from others.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        key = hashlib.blake2b("\0".join(names).encode(), digest_size=8).hexdigest()
        self._name = f"manifest-last-used-{key}.txt"
        self._directory = directory
        self._uid = os.geteuid()
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            log.warning("no folder for what AllenSDK writes", directory=str(directory), reason=error.strerror)

    def place_for(self, uid: int) -> str:
        """The absolute path of a user's file, which need not exist. Looks at disks."""
        own = self._directory if uid == self._uid else None
        return choose_place(own, home_of(uid), Path(f"/run/user/{uid}"), self._name, lambda path: is_safe(path, uid))


def choose_place(own: Path | None, home: Path | None, runtime: Path, name: str, safe: Callable[[Path], bool]) -> str:
    """The first of a user's folders that is `safe`, with `name` in it; a hidden one, where others look around."""
    if own is not None and safe(own):
        return str(own / name)
    for folder in _folders(home, runtime, safe):
        return str(folder / f".vbnfs-{name}")
    return NOWHERE


def _folders(home: Path | None, runtime: Path, safe: Callable[[Path], bool]) -> Iterator[Path]:
    if home is not None and safe(home):
        cache = home / ".cache"
        yield cache if safe(cache) else home
    if safe(runtime):
        yield runtime


def home_of(uid: int) -> Path | None:
    """A user's home in the password database, if they are in it and have one."""
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
    except (KeyError, OverflowError):
        return None
    return home if home.is_absolute() else None


def is_safe(folder: Path, uid: int) -> bool:
    """Whether this is a folder in which only `uid` (and root) can put something, as far as we may look."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & _WRITABLE_BY_OTHERS
