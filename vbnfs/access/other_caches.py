"""Cache directories besides our own: of a lab, of another disk. They are read, if their owner is believed.

Their disk may hang, as that of another host does when that is down. Mounting does not wait for it.
"""

import os
import threading
from collections.abc import Callable, Set
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from vbnfs.cache.content_folder import FORMAT
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError
from vbnfs.host.identity import uid_of
from vbnfs.host.own_folders import trusted_owners
from vbnfs.host.places import Anchor, Place

_T = TypeVar("_T")

_PATIENCE_SECONDS: Final = 2.0
_GOES_ON: Final = "reads go on without it until it"


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

    One that is not there, such as a disk that is not mounted yet, is looked for, and checked, whenever it is wanted;
    so is one whose disk does not answer.
    """
    anchor = Anchor(directory, owners=owners, at_once=False)
    try:
        in_time(anchor.held, otherwise=None)
    except OSError as error:
        if isinstance(error.__cause__, CacheError):
            raise CacheError(f"{given_by}{error.__cause__}") from error
    return Place(anchor)


def in_time(ask: Callable[[], _T], *, otherwise: _T) -> _T:
    """What a question to a disk brings, with its errors; `otherwise` if there is no answer within some seconds."""
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(_PATIENCE_SECONDS)
    except TimeoutError:  # also what the disk may say itself
        return otherwise


def unusable_caches(config: Config) -> list[str]:
    """What keeps other caches from being used now, in words."""
    problems = [
        in_time(partial(_problem, directory), otherwise=f"its disk does not answer; {_GOES_ON} does")
        for directory in config.cache_also
    ]
    return [
        f"--cache-also {place}: {problem}"
        for place, problem in zip(config.cache_also, problems, strict=True)
        if problem
    ]


def _problem(directory: Path) -> str:
    """Empty if there is none."""
    try:
        if FORMAT in os.listdir(directory):
            return ""
    except PermissionError:
        return f"you may not read it: its owner allows it by 'chmod -R a+rX'; {_GOES_ON} is there"
    except OSError as error:
        return f"{error.strerror}; {_GOES_ON} is there"
    return f"no cache of vbnfs: it has no folder {FORMAT}; {_GOES_ON} is there"
