"""Where each user's own file is that AllenSDK writes: which manifest they loaded last.

A read-only mount cannot hold it, so there a symbolic link leads to it, for every user to another place, and for every
thread to a draft of its own beside it (drafts.py). AllenSDK truncates and writes what it leads to, so nobody else may
be able to put something there: the place is in a folder that exists, belongs to the user and cannot be written by
others, looked at each time:

    <cache directory>/allensdk      for the user whose process this is
    ~/.cache, if it is no link, else ~     (as the password database has it: the environment of others is not known)
    /run/user/<uid>
    /run/vbnfs-users/<uid>          made for them, if this process is root's
    /dev/null                       for whom there is none: AllenSDK then loads the newest version, and says so

The name tells datasets and mount points apart, as two cache directories of AllenSDK are. Only the user whose process
this is, and root, can make drafts: other users of a mount that is not root's have the file itself.

A FUSE disk that an ordinary user has mounted is left out, but for that user's own daemon: it need never answer.

The disk of a home may not answer, either. So all of this is done in a thread, for each user in one at a time: a disk
that hangs holds up its user, and takes one thread. Places and texts are a user's own: they need no lock.
"""

import hashlib
import os
import pwd
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import structlog
import trio

from vbnfs.errors import MountError
from vbnfs.filesystem.drafts import SharedText
from vbnfs.host.mountinfo import all_mounts, followed, is_made_by_a_user
from vbnfs.host.own_folders import is_own_folder

log = structlog.get_logger()

FOR_OTHERS: Final = Path("/run/vbnfs-users")
NOWHERE: Final = "/dev/null"
_CACHE: Final = ".cache"
_MOST_USERS: Final = 256  # at their disks at the same time; each that hangs is a thread


class OwnFiles:
    """The places for one mount; `directory`, which is made, is for the user whose process this is.

    `names` are what tells this mount from others. Below `for_others`, which is a root's, folders are made for those
    who have none. `known` gives the texts that are expected in these files: see drafts.py.
    """

    def __init__(
        self,
        directory: Path,
        names: Iterable[str],
        *,
        for_others: Path | None,
        known: Callable[[], Sequence[bytes]] = tuple,
    ) -> None:
        key = hashlib.blake2b(os.fsencode("\0".join(names)), digest_size=8).hexdigest()
        self._name = f"manifest-last-used-{key}.txt"
        self._directory = directory
        self._for_others = for_others
        self._known = known
        self._uid = os.geteuid()
        self._texts: dict[str, SharedText] = {}  # by place
        self._lock = threading.Lock()  # for these alone, never while a disk is asked
        self._turns = _Turns()
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            log.warning("no folder for what AllenSDK writes", directory=str(directory), reason=error.strerror)

    async def path_for(self, uid: int, thread: int) -> str:
        """The absolute path at which a thread of a user finds their file, which need not exist.

        A `thread` of 0 is one that this process cannot see. A task that is cancelled leaves a thread at the disk.
        """
        turn = cast(trio.CapacityLimiter, self._turns.of(uid))  # trio asks for something like one
        return await trio.to_thread.run_sync(self._path_for, uid, thread, abandon_on_cancel=True, limiter=turn)

    def _path_for(self, uid: int, thread: int) -> str:
        place = self.place_for(uid)
        if place == NOWHERE or not thread or self._uid not in {uid, 0}:
            return place
        with self._lock:
            text = self._texts.setdefault(place, SharedText(Path(place), uid, self._known))
        return text.path_for(thread)

    def place_for(self, uid: int) -> str:
        """The absolute path of a user's file, which need not exist. Looks at disks."""

        def safe(folder: Path) -> bool:
            # A link that the user has made may lead anywhere: to what hangs, or into this mount, which would wait for
            # itself. A disk of the user's own need never answer; a thread that waits for it keeps us from ending.
            is_link_allowed = folder.name != _CACHE
            return (uid == self._uid or not is_on_a_users_disk(folder)) and is_safe(
                folder, uid, may_be_link=is_link_allowed
            )

        if uid == self._uid and is_safe(self._directory, uid, may_be_link=False):
            return str(self._directory / self._name)
        folder = choose_folder(home_of(uid), Path(f"/run/user/{uid}"), safe) or self._made_for(uid)
        return NOWHERE if folder is None else str(folder / f".vbnfs-{self._name}")

    def _made_for(self, uid: int) -> Path | None:
        """A new folder for a user, or the one that was made before."""
        if self._for_others is None:
            return None
        folder = self._for_others / str(uid)
        try:
            with suppress(FileExistsError):
                self._for_others.mkdir()
            # So nobody else changes what stands in it meanwhile.
            if is_safe(self._for_others, self._uid, may_be_link=False):
                self._for_others.chmod(0o755)  # whatever the umask
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                # Also of one that was made by a process which was killed before it came to this.
                if is_safe(folder, self._uid, may_be_link=False) and not os.listdir(folder):
                    os.chown(folder, uid, -1, follow_symlinks=False)
        except OSError as error:
            log.warning("no folder for what AllenSDK writes", directory=str(folder), reason=error.strerror)
        return folder if is_safe(folder, uid, may_be_link=False) else None


class _Turns:
    """Turns at disks: for each user one at a time, and for so many users at a time."""

    def __init__(self) -> None:
        self._all = trio.CapacityLimiter(_MOST_USERS)
        self._users: dict[int, trio.CapacityLimiter] = {}

    def of(self, uid: int) -> "_Turn":
        """The turn of a user."""
        if uid not in self._users:
            self._users = {user: one for user, one in self._users.items() if _is_in_use(one)}
        return _Turn(self._users.setdefault(uid, trio.CapacityLimiter(1)), self._all)


def _is_in_use(limiter: trio.CapacityLimiter) -> bool:
    return bool(limiter.borrowed_tokens or limiter.statistics().tasks_waiting)


class _Turn:
    """A user's turn, as `trio.to_thread.run_sync` wants a limiter: it is given back when the thread has ended."""

    def __init__(self, user: trio.CapacityLimiter, everybody: trio.CapacityLimiter) -> None:
        self._user, self._all = user, everybody

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for the user's turn, then for a place among all."""
        await self._user.acquire_on_behalf_of(borrower)
        try:
            await self._all.acquire_on_behalf_of(borrower)
        except BaseException:
            self._user.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give both back."""
        self._all.release_on_behalf_of(borrower)
        self._user.release_on_behalf_of(borrower)


def choose_folder(home: Path | None, runtime: Path, safe: Callable[[Path], bool]) -> Path | None:
    """The first of a user's folders that is `safe`: of a safe home the cache, or the home itself; `runtime`."""
    if home is not None and safe(home):
        cache = home / _CACHE
        return cache if safe(cache) else home
    return runtime if safe(runtime) else None


def home_of(uid: int) -> Path | None:
    """A user's home in the password database, if they are in it and have one."""
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
    except (KeyError, OverflowError):
        return None
    return home if home.is_absolute() else None


def is_on_a_users_disk(folder: Path) -> bool:
    """Whether a folder is on a FUSE disk that an ordinary user has mounted. Touches none of these."""
    theirs = {entry.mountpoint for entry in all_mounts() if is_made_by_a_user(entry)}
    try:
        place = followed(folder, theirs)
    except MountError:  # too many links
        return True
    return not theirs.isdisjoint((place, *place.parents))


def is_safe(folder: Path, uid: int, *, may_be_link: bool = True) -> bool:
    """Whether this is a folder in which only `uid` (and root) can put something, as far as we may look.

    A home may be behind a link; what we have made ourselves is not.
    """
    try:
        status = os.stat(folder, follow_symlinks=may_be_link)
    except OSError:
        return False
    return is_own_folder(status, uid)
