"""The file of a record: lines are added to it behind the mount's readers, which never wait for its disk.

Each batch of lines is one write(2) to a file that is open for appending, so the lines of several mounts do not mix on
a local disk. What the disk does not take is tried again. Meanwhile further lines wait, so many at the most
(filesystem/recording.py).
"""

import errno
import itertools
import os
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs import __version__
from vbnfs.config.settings import Config
from vbnfs.dataset.read_records import MountLine, OpenLine, line_of
from vbnfs.errors import RecordError
from vbnfs.filesystem.recording import Recording, time_text
from vbnfs.host.mountinfo import absolute

log = structlog.get_logger()

_BETWEEN_SECONDS: Final = 1.0
_TIMES_FOR_OPEN_FILES: Final = 5  # files that are open still have a line so seldom
_LAST_SECONDS: Final = 2.0
_REMEDY: Final = "choose another --record"


class RecordFile:
    """The file at a path, open for appending. Raises `RecordError` where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._descriptor = _open(path)
        self._is_begun = False

    def append(self, lines: bytes, *, first: bytes) -> bytes:
        """Add whole lines, and return those that are not in the file yet. Raises `OSError` where none is.

        `first` stands before all of them: also where the file is not at its path any more, and is made anew.
        """
        if not self._is_there():
            anew = _opened(self.path)
            os.close(self._descriptor)
            self._descriptor, self._is_begun = anew, False
        torn = b"\n" if self._ends_within_a_line() else b""  # a disk took a part of it, or a process was killed
        head = torn if self._is_begun else torn + first
        if not head + lines:
            return b""
        written = os.write(self._descriptor, head + lines) - len(head)
        self._is_begun = self._is_begun or written >= 0
        if written == len(lines):
            return b""
        return lines[lines.rfind(b"\n", 0, max(0, written)) + 1 :]

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _ends_within_a_line(self) -> bool:
        size_bytes = os.fstat(self._descriptor).st_size
        return size_bytes > 0 and os.pread(self._descriptor, 1, size_bytes - 1) != b"\n"


def _open(path: Path) -> int:
    try:
        return _opened(path)
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be written: {error.strerror}; {_REMEDY}") from error


def _opened(path: Path) -> int:
    # A link may be another user's by now. Neither a pipe nor a device is waited for: open(2), O_NONBLOCK.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):  # who has made it in a folder such as /tmp would read what is written into it
        raise PermissionError(errno.EPERM, "it is another user's file")
    raise OSError(errno.EINVAL, "no regular file")


class Recorder:
    """Writes what `recording` takes note of, for a mount of the settings that shows `dataset_version` at its top."""

    def __init__(self, file: RecordFile, config: Config, dataset_version: str) -> None:
        self.recording: Final = Recording(secrets.token_hex(8))
        self._file = file
        line = MountLine(
            mount=self.recording.mount,
            time=time_text(time.time()),
            bucket=config.bucket,
            project=config.project,
            dataset_version=dataset_version,
            vbnfs_version=__version__,
        )
        self._first = line_of(line.as_json())
        self._left = b""  # lines that the disk did not take
        self._lost = 0
        self._problem: str | None = None
        self._writing = trio.Lock()  # the file has lines in the order in which they came

    async def run(self) -> None:
        """Write lines as they come, until cancelled."""
        for tick in itertools.count():
            await self._write(of_open_files=tick % _TIMES_FOR_OPEN_FILES == 0)
            await trio.sleep(_BETWEEN_SECONDS)

    async def end(self) -> None:
        """Write what is left. A disk that does not answer is not waited for long."""
        with trio.move_on_after(_LAST_SECONDS, shield=True):
            if self._left:
                await self._write(of_open_files=False)
            await self._write(of_open_files=True)

    def report(self) -> dict[str, Any]:
        """For `vbnfs status`."""
        return {"file": str(self._file.path), "problem": self._problem, "lost_lines": self._lost}

    async def _write(self, *, of_open_files: bool) -> None:
        """Write the lines that there are; or, if the disk did not take some before, those again."""
        async with self._writing:
            lines, lost = ([], 0) if self._left else await self._taken(of_open_files=of_open_files)
            self._lost += lost
            try:
                await trio.to_thread.run_sync(self._append, lines, lost, abandon_on_cancel=True)
            except OSError as error:
                self._note_problem(error.strerror or str(error))
            else:
                self._note_problem(os.strerror(errno.ENOSPC) if self._left else None)

    async def _taken(self, *, of_open_files: bool) -> tuple[list[OpenLine], int]:
        while of_open_files and self.recording.make_lines_of_open_files():
            await trio.lowlevel.checkpoint()
        return self.recording.take()

    def _append(self, lines: Sequence[OpenLine], lost: int) -> None:
        """In a thread. Raises `OSError`; then all of it is left."""
        values = [line.as_json() for line in lines]
        if lost:
            values.append({"mount": self.recording.mount, "lost": lost})
        self._left += b"".join(map(line_of, values))
        self._left = self._file.append(self._left, first=self._first)

    def _note_problem(self, problem: str | None) -> None:
        if problem is not None and self._problem is None:
            log.warning("the record cannot be written now", file=str(self._file.path), reason=problem)
        self._problem = problem


async def open_record(config: Config, mountpoint: Path) -> RecordFile | None:
    """The file of the record that the settings ask for. Raises `RecordError` where it cannot be written."""
    path = config.record
    if path is None:
        return None
    if absolute(path).is_relative_to(absolute(mountpoint)):
        raise RecordError(f"{path}: a record cannot lie in the folder that is mounted on; {_REMEDY}")
    return await trio.to_thread.run_sync(RecordFile, path, abandon_on_cancel=True)
