"""Quick looks, made by processes of their own (look_program.py): a file may have been made to do harm.

Such a process opens nothing, and gets the bytes of one file from here. Whatever the file has it do, the kernel ends
it where it takes too much, and it is ended here where it asks for too much. The last one that did well stays, for
the next look.
"""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any, Final, Protocol

from vbnfs.amounts import size
from vbnfs.api.connection import Parts
from vbnfs.api.files import File
from vbnfs.api.reading import Reading
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import Hdf5Error
from vbnfs.objects import Content
from vbnfs.web.figures import Figure, Series
from vbnfs.web.quick_looks import TITLES, AskedLook, QuickLook

_MOST_AT_ONCE: Final = 3
_WAIT_SECONDS: Final = 10.0  # for one of these places
_MOST_BYTES: Final = 160 << 20  # of a file: two arrays of as many values as a look reads, and what leads to them
_MOST_READS: Final = 200_000
_MOST_PIECE_BYTES: Final = 4 << 20
_MOST_ANSWER_BYTES: Final = 32 << 20
_PROCESSOR_SECONDS: Final = 20
_MOST_SECONDS: Final = 600.0  # where S3 is slow; and the only end where the kernel has no limits
_END_SECONDS: Final = 1.0  # of a process that has closed its standard output

_Process = subprocess.Popen[bytes]  # look_program.py


class Readable(Protocol):
    """Bytes of a file, by where they are."""

    @property
    def size(self) -> int:
        """How many there are."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Some of them; fewer only at the end."""


class _Open:
    """A file of the dataset whose structure comes at once. Raises a `StorageError`, in the words of commands."""

    def __init__(self, file: File) -> None:
        content = file.connection.run(_content, file.entry)
        self._reading, self.size = Reading(file.connection, content), content.size_bytes
        self._reading.expect_structure()

    def read_at(self, offset: int, size: int) -> bytes:
        count = min(size, self.size - offset)
        return self._reading.read(offset, count) if count > 0 and offset >= 0 else b""

    def close(self) -> None:
        self._reading.close()


class Looking:
    """Makes quick looks. Thread-safe."""

    def __init__(self, processor_seconds: int = _PROCESSOR_SECONDS) -> None:
        self._processor_seconds = processor_seconds
        self._places = threading.Semaphore(_MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._running: set[_Process] = set()
        self._idle: _Process | None = None
        self._is_closed = False

    def look(self, file: File, asked: AskedLook) -> QuickLook:
        """The figures of a look. Raises `Hdf5Error` for a file that has not what is needed, and a `StorageError`."""
        before = file.connection.run(_cached_bytes, file.entry)
        with self._place(file.path), closing(_Open(file)) as opened:
            answer = self.answer(opened, asked)
        if "problem" in answer:
            what = TITLES.get(asked.kind, asked.kind).lower()
            raise Hdf5Error(f"{file.path}: no such figure can be made ({what}): {answer['problem']}")
        figures = [
            Figure(**one | {"series": [Series(**each) for each in one["series"]]}) for one in answer["figures"]
        ]
        after = file.connection.run(_cached_bytes, file.entry)
        return QuickLook(asked, figures, answer["units"], max(0, after - before))

    def close(self) -> None:
        """End all."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, None
            for process in self._running:
                process.kill()  # who waits for it ends it
        if idle is not None:
            _end(idle)

    def answer(self, file: Readable, asked: AskedLook) -> dict[str, Any]:
        """What a process says of a file: `figures` and `units`, or a `problem`. Raises what reading it does."""
        question = {"asked": asdict(asked), "size_bytes": file.size, "seconds": self._processor_seconds}
        process, answer = self._taken(), None
        try:
            with _ended_after(_MOST_SECONDS, process), suppress(BrokenPipeError, ValueError):
                answer = _answered(process, file, question)
            return {"problem": self._why_none(process)} if answer is None else answer
        finally:
            self._give_back(process, is_well=answer is not None and "problem" not in answer)

    @contextmanager
    def _place(self, path: str) -> Iterator[None]:
        """One of the places for looks. Raises `Hdf5Error` where there is none for long: a view's thread is wanted."""
        if not self._places.acquire(timeout=_WAIT_SECONDS):
            raise Hdf5Error(f"{path}: other quick looks are being made, and take long: try again in a minute")
        try:
            yield
        finally:
            self._places.release()

    def _why_none(self, process: _Process) -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        if -(process.returncode or 0) == getattr(signal, "SIGXCPU", None):
            return f"it takes more than {self._processor_seconds} s of processor time"
        if self._is_closed:
            return "the page ends"
        return "HDF5's library does not come to an end with it: it is damaged, or was made to do harm; fetch it again"

    def _taken(self) -> _Process:
        with self._lock:
            process, self._idle = self._idle, None
            if process is not None and process.poll() is not None:
                _end(process)
                process = None
            process = process or _start()
            self._running.add(process)
            if self._is_closed:
                process.kill()
            return process

    def _give_back(self, process: _Process, *, is_well: bool) -> None:
        with self._lock:
            self._running.discard(process)
            if is_well and self._idle is None and not self._is_closed:
                self._idle = process
                return
        _end(process)


def _start() -> _Process:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "vbnfs.web.look_program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the one who asks
    )


def _answered(process: _Process, file: Readable, question: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, after all bytes that were asked for; None: there comes none. Raises what reading does."""
    to, come = _pipes(process)
    to.write(json.dumps(question).encode() + b"\n")
    left = _MOST_BYTES
    for _ in range(_MOST_READS):
        to.flush()
        line = come.readline(_MOST_ANSWER_BYTES)
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        if "read" not in message:
            return message
        offset, count = message["read"]
        left -= count
        if left < 0 or count > _MOST_PIECE_BYTES:
            return {
                "problem": f"it needs more than {size(_MOST_BYTES)} of the file, which is too much for a quick look"
            }
        to.write(file.read_at(offset, count))
    return {"problem": f"it needs more than {_MOST_READS:,} parts of the file, which is too much for a quick look"}


@contextmanager
def _ended_after(seconds: float, process: _Process) -> Iterator[None]:
    """While entered, a process has so much time."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(process: _Process) -> None:
    process.kill()
    process.wait()
    for pipe in _pipes(process):
        with suppress(OSError):
            pipe.close()


def _pipes(process: _Process) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


async def _content(parts: Parts, entry: DataFile) -> Content:
    return await parts.files.content(entry)


async def _cached_bytes(parts: Parts, entry: DataFile) -> int:
    """How much of a file is here, what came just now included."""
    content = await parts.files.content(entry)
    await parts.files.readers.source.writer.written(content)
    return await parts.files.cached_bytes(content)
