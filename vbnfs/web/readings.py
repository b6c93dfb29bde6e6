"""What takes longer than a view may: reading large tables. Each is read once, in a thread, for all views that ask.

A view that comes meanwhile is answered with how far it is (`StillReadingError`), and asks again.
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from vbnfs.dataset.manifest import DataFile
from vbnfs.objects import ObjectVersion

_LARGE_BYTES: Final = 8 << 20
_MOMENT_SECONDS: Final = 0.3  # for large ones, of which a page is to say at once that they are being read
_PATIENCE_SECONDS: Final = 3.0  # for small ones, which are there by then as a rule
_RETURN_SECONDS: Final = 5.0  # in which a page that waits asks again: each second, if the browser is not busy
_MOST_KEPT: Final = 16

Result = TypeVar("Result")
Key = tuple[Hashable, ...]
Patience = Callable[[int], float]  # for how many seconds a view waits for so many bytes


def usual_patience(size_bytes: int) -> float:
    """See `Patience`."""
    return _MOMENT_SECONDS if size_bytes >= _LARGE_BYTES else _PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Reading:
    """What is being read, in words, and how much of it has come. All of it: it is being parsed."""

    title: str
    done_bytes: int
    size_bytes: int


class StillReadingError(Exception):
    """What a view needs is not there yet. `now` says how far it is."""

    def __init__(self, now: Reading) -> None:
        super().__init__(f"{now.title}: still being read")
        self.now = now


@dataclass(frozen=True, slots=True)
class _Work:
    title: str
    files: Sequence[DataFile]
    size_bytes: int
    result: "Future[Any]"


class Readings:
    """All that is, and was, read for views. Thread-safe."""

    def __init__(self, patience: Patience = usual_patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._works: dict[Key, _Work] = {}
        self._came: dict[ObjectVersion, int] = {}
        self._promised: dict[Key, float] = {}  # until when who was answered "still" is expected again

    def note(self, file: DataFile, done_bytes: int, size_bytes: int) -> None:
        """So many bytes of a file have been read."""
        self._came[file.version] = done_bytes

    def result(
        self,
        key: Key,
        title: str,
        files: Sequence[tuple[DataFile, int | None]],
        read: Callable[[], Result],
        *,
        is_awaited: bool = False,
    ) -> Result:
        """What `read` gives, which reads `files`, each with its size; called for each `key` once.

        `is_awaited`: however long it takes. Raises `StillReadingError`, and what `read` raises: after that the next
        one who asks has it called again.
        """
        work = self._begun(key, title, files, read)
        if not wait([work.result], None if is_awaited else self._patience(work.size_bytes)).done:
            self._promised[key] = time.monotonic() + _RETURN_SECONDS
            raise StillReadingError(self._now(work))
        try:
            found: Result = work.result.result()
        except BaseException:
            self._forget(key, work)
            raise
        self._promised.pop(key, None)
        return found

    def is_awaited(self, version: Hashable) -> bool:
        """Whether a view that was answered "still" is to come again soon, for what has keys that begin with this."""
        now = time.monotonic()
        return any(key[0] == version and now < until for key, until in list(self._promised.items()))

    def forget(self, version: Hashable) -> None:
        """Have what was read under keys that begin with this be read again by who asks."""
        with self._lock:
            for key in [key for key in self._works if key[0] == version]:
                del self._works[key]

    def _begun(
        self, key: Key, title: str, files: Sequence[tuple[DataFile, int | None]], read: Callable[[], Any]
    ) -> _Work:
        with self._lock:
            if (work := self._works.get(key)) is not None:
                return work
            size_bytes = sum(size or 0 for _, size in files)
            work = self._works[key] = _Work(title, [file for file, _ in files], size_bytes, Future())
            for file in work.files:
                self._came.pop(file.version, None)
            ended = [key for key, one in self._works.items() if one.result.done()]
            for old in ended[:-_MOST_KEPT]:
                del self._works[old]
        threading.Thread(target=_run, args=(work.result, read), name="reading", daemon=True).start()
        return work

    def _forget(self, key: Key, work: _Work) -> None:
        with self._lock:
            if self._works.get(key) is work:
                del self._works[key]

    def _now(self, work: _Work) -> Reading:
        done_bytes = sum(self._came.get(file.version, 0) for file in work.files)
        return Reading(work.title, min(done_bytes, work.size_bytes), work.size_bytes)


def _run(result: "Future[Any]", read: Callable[[], Any]) -> None:
    try:
        result.set_result(read())
    except BaseException as error:
        result.set_exception(error)
