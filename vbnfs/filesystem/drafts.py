"""A small text file that many programs read and write at the same time, so that none finds it half written.

AllenSDK truncates its file and then writes it. A program that reads it in between finds nothing, and goes on with the
newest version. No lock can keep it from that. But the way to the file is a symbolic link, and the mount is asked for
its target whenever a thread opens the file. So each thread gets a path of its own:

    <name>.txt                               the text
    <name>.<host>-<mark>-<thread>.draft      a copy for one thread, which reads and writes it

What a thread has written to its draft becomes the text when it is complete and another thread asks. A draft that
was truncated and not written, or written in part when its writer died, changes nothing.

    it stands there                                     it is
    with nothing, or the beginning of a known text      no text yet
    while a process has it open for writing             no text yet (locks.py: a lease; without: the thread's process)
    otherwise, with other bytes than before             the text; of several the one that was written last
    no more, and was there before                       deleted by the user, and so is the text

The files belong to the user. A daemon that ends leaves drafts. The next one on this host takes them over.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.host.atomic import temporary_file
from vbnfs.host.folders import flags_of
from vbnfs.host.folders_by_descriptor import FolderByDescriptor
from vbnfs.host.locks import kept_from_writers
from vbnfs.host.own_folders import is_own_folder
from vbnfs.host.processes import has_open_for_writing, is_thread_alive
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce

_LONGEST_BYTES: Final = 4096
_DRAFT: Final = ".draft"
_FOLDER: Final = os.O_RDONLY | flags_of("DIRECTORY", "CLOEXEC")  # a home may be behind a link
_FILE: Final = os.O_RDONLY | flags_of("NOFOLLOW", "NONBLOCK", "NOCTTY", "CLOEXEC")
_COPIED_NS: Final = 0  # the time of a copy, so that one that was written is always younger


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in a file."""

    text: bytes
    modified_ns: int
    is_open: bool = False  # for writing, by some process

    @property
    def is_written(self) -> bool:
        """Whether a program has written it, and has closed it."""
        return not self.is_open and self.modified_ns > _COPIED_NS


@dataclass(slots=True)
class _File:
    """The text's file, or the draft of a thread: what stood there when it was last closed.

    `text` is None where there was none. No `thread` writes the text's file, but for those that have no draft.
    """

    name: str
    thread: int = 0
    text: bytes | None = None
    is_open: bool = False

    def see(self, found: Found | None) -> None:
        """Note what stands there now."""
        self.is_open = found is not None and found.is_open
        if not self.is_open:
            self.text = None if found is None else found.text


def is_complete(text: bytes, known: Sequence[bytes]) -> bool:
    """Whether a text was written to its end, given all that may stand there: it is no mere beginning of one."""
    return bool(text) and (text in known or not any(one.startswith(text) for one in known))


class SharedText:
    """The text at `path`, in a folder of `uid`, where this process can make files for that user.

    `known` gives the texts that are expected there. It is asked by one thread at a time.
    """

    def __init__(self, path: Path, uid: int, known: Callable[[], Sequence[bytes]]) -> None:
        self._path = path
        self._uid = uid
        self._known = known
        host = hashlib.blake2b(os.uname().nodename.encode(), digest_size=4).hexdigest()
        self._beginning = f"{path.stem}.{host}-"  # of the names of drafts; a home may be shared with other hosts
        self._mark = os.urandom(4).hex()
        self._file = _File(path.name)
        self._drafts: dict[int, _File] = {}  # by thread; those that other processes left have numbers below 0
        self._text: bytes | None = None
        self._is_begun = False
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)

    def path_for(self, thread: int) -> str:
        """The path at which a thread finds the text, and where it may write another; none is there without a text.

        Where no draft can be made (no room, a disk that is read-only) it is the file itself.
        """
        try:
            with self._opened() as folder:
                self._collect(folder)
                return str(self._path.with_name(self._draft(folder, thread)))
        except OSError as error:
            self._warn_once("no draft for what AllenSDK writes", path=str(self._path), reason=str(error.strerror))
            return str(self._path)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the folder. Raises `PermissionError` if it is not the user's alone by now."""
        folder = os.open(self._path.parent, _FOLDER)
        try:
            if not is_own_folder(os.fstat(folder), self._uid):
                raise PermissionError(errno.EACCES, "its folder is another user's, or others can write it")
            yield folder
        finally:
            os.close(folder)

    def _collect(self, folder: int) -> None:
        """Find out what the text is by now and store it; then delete the drafts of threads that have ended."""
        if not self._is_begun:
            self._is_begun = True
            self._take_over(folder)
        written: list[Found] = []
        is_deleted = False
        for file in (self._file, *self._drafts.values()):
            found = read_text(folder, file.name, file.thread)
            if found is None:
                is_deleted |= bool(file.text)
            elif found.text != file.text and found.is_written and is_complete(found.text, self._known()):
                written.append(found)
            file.see(found)
        if written:
            self._text = max(written, key=lambda found: found.modified_ns).text
        elif is_deleted:
            self._text = None
        self._put(folder, self._file, is_copy=False)
        self._tidy(folder)

    def _take_over(self, folder: int) -> None:
        """Know of the drafts that another process has left here."""
        names = (name for name in os.listdir(folder) if name.startswith(self._beginning) and name.endswith(_DRAFT))
        self._drafts = {-number: _File(name, _thread_in(name)) for number, name in enumerate(names, 1)}

    def _tidy(self, folder: int) -> None:
        """Delete the drafts of threads that have ended, and those with a text if there is none any more.

        None that is being written, and none that a thread may just have begun: it is empty.
        """
        for thread, draft in list(self._drafts.items()):
            is_left = thread < 0 or not is_thread_alive(thread)
            if not draft.is_open and (is_left or (draft.text and self._text is None)):
                self._delete(folder, draft)
                if is_left:
                    del self._drafts[thread]

    def _draft(self, folder: int, thread: int) -> str:
        """The name of a thread's draft, which has the text. One that the thread is writing is left as it is."""
        draft = self._drafts.setdefault(thread, _File(f"{self._beginning}{self._mark}-{thread}{_DRAFT}", thread))
        if not draft.is_open:
            self._put(folder, draft, is_copy=True)
        return draft.name

    def _put(self, folder: int, file: _File, *, is_copy: bool) -> None:
        """Have a file be the text, and stand nowhere half written. A copy need not be safe from a power cut."""
        if file.text == self._text:
            return
        if self._text is None:
            self._delete(folder, file)
            return
        with temporary_file(FolderByDescriptor(folder), prefix=".", suffix=".new") as (descriptor, temporary):
            os.write(descriptor, self._text)
            if os.fstat(descriptor).st_uid != self._uid:
                os.fchown(descriptor, self._uid, -1)
            if is_copy:
                os.utime(descriptor, ns=(_COPIED_NS, _COPIED_NS))
            else:
                os.fsync(descriptor)
            os.replace(temporary, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        file.text = self._text

    def _delete(self, folder: int, file: _File) -> None:
        with suppress(FileNotFoundError):
            os.unlink(file.name, dir_fd=folder)
        file.text = None


def _thread_in(draft: str) -> int:
    """The thread that a draft is for, by its name; 0 if it has none."""
    number = draft.removesuffix(_DRAFT).rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def read_text(folder: int, name: str, thread: int) -> Found | None:
    """What stands in a file of a folder; None if there is none. What is no small regular file has no text.

    `thread` is the one that writes there, 0 if it is not known. Raises `OSError`.
    """
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            return Found(b"", _COPIED_NS)
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST_BYTES:
            return Found(b"", status.st_mtime_ns)
        with kept_from_writers(descriptor) as is_kept:
            text = os.read(descriptor, _LONGEST_BYTES)
            is_seen = is_kept is None and has_open_for_writing(thread, name)
            after = os.fstat(descriptor)
        # It may also have been opened, written and closed meanwhile.
        is_changed = (status.st_mtime_ns, status.st_size) != (after.st_mtime_ns, after.st_size)
        return Found(text, after.st_mtime_ns, is_open=is_kept is False or is_seen or is_changed)
    finally:
        os.close(descriptor)
