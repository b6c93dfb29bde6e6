"""The limit of what all processes on a cache directory receive together: `--limit-rate`.

    blocks-v2/.limit-rate       the rate that was set last, in bytes a second (0: no limit), and the one that the
                                settings had when they were taken over last
    blocks-v2/.rate-bucket      how much may be fetched, and when that was so: see `vbnfs.rate`

The first is replaced as a whole, and every process reads it twice a second. The second is changed in its place, under
a lock that the kernel takes back when a process ends. Both are advice: where they cannot be written, or not read, a
process keeps to the rate by itself.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import structlog

from vbnfs.cache.content_folder import FORMAT
from vbnfs.host import locks
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, folder_at
from vbnfs.host.positioned import read_at, write_at
from vbnfs.rate import LEAST_RATE, OFF, Bucket

log = structlog.get_logger()

_Result = TypeVar("_Result")

_RATE_FILE: Final = ".limit-rate"
_BUCKET_FILE: Final = ".rate-bucket"
_PATIENCE_SECONDS: Final = 0.1  # with another process, which holds the lock for some microseconds
_AGAIN_SECONDS: Final = 0.001
_RECORD_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class StoredRate:
    """The rate that holds, in bytes a second, and the one that settings gave last. `OFF`: none; None: never given."""

    rate: int | None = None
    configured: int | None = None


def read_rate(directory: Path | Place) -> StoredRate:
    """The rates that a cache has; none if it has none, or they cannot be read."""
    try:
        words = (folder_at(directory) / FORMAT / _RATE_FILE).read_bytes().decode("ascii").split()
        rates = [None if word == "-" else int(word) for word in words]
    except (OSError, ValueError):
        return StoredRate()
    are_rates = all(rate is None or rate == OFF or rate >= LEAST_RATE for rate in rates)
    return StoredRate(*rates) if len(rates) == 2 and are_rates else StoredRate()


def set_rate(directory: Path | Place, rate: int) -> None:
    """Have a rate hold for all processes on a cache, from a second from now at the latest. Raises `OSError`."""
    _write(directory, StoredRate(rate, read_rate(directory).configured))


def take_over_rate(directory: Path | Place, configured: int, *, is_mount: bool) -> bool:
    """Have the rate hold that the settings of a process give. False where that cannot be stored, which is logged.

    A mount sets it. Another command does so too, unless settings gave the same before: what was set since stays.
    """
    before, wanted = read_rate(directory), StoredRate(configured, configured)
    if before == wanted or (not is_mount and before.configured == configured):
        return True
    try:
        _write(directory, wanted)
    except OSError as error:
        log.warning("the rate cannot be kept for other processes; this one keeps to it", reason=str(error))
        return False
    return True


def _write(directory: Path | Place, stored: StoredRate) -> None:
    words = ("-" if rate is None else str(rate) for rate in (stored.rate, stored.configured))
    replace_file(folder_at(directory) / FORMAT / _RATE_FILE, f"{' '.join(words)}\n".encode())


class SharedBucket:
    """The bucket that the processes on a cache directory share. To be called from threads, one at a time."""

    def __init__(self, directory: Path | Place) -> None:
        self._place = folder_at(directory) / FORMAT / _BUCKET_FILE
        self._lock = threading.Lock()

    def change(self, change: Callable[[Bucket], tuple[Bucket, _Result]]) -> _Result:
        """Replace the bucket by what `change` makes of it. Raises `OSError` where it cannot be shared now."""
        with self._locked() as descriptor:
            bucket, result = change(_parsed(read_at(descriptor, _RECORD_BYTES, 0)))
            record = f"{bucket.level_bytes:.0f} {bucket.at:.6f}".ljust(_RECORD_BYTES - 1) + "\n"
            write_at(descriptor, record.encode("ascii"), 0)
            return result

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The open file, locked: against other threads that were given up, too."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            raise TimeoutError("the cache's disk does not answer")
        try:
            self._place.parent.mkdir()
            descriptor = self._place.open(os.O_RDWR | os.O_CREAT)
            try:
                _take(descriptor)
                yield descriptor
            finally:
                os.close(descriptor)  # gives the lock back
        finally:
            self._lock.release()


def _take(descriptor: int) -> None:
    """Lock the file. A process that was stopped while it had the lock is not waited for."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return locks.set_lock(descriptor, locks.EXCLUSIVE, 0, 1)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        except PermissionError as error:  # EACCES means the same, fcntl(2)
            if time.monotonic() > deadline:
                raise TimeoutError("another process has the lock") from error
        time.sleep(_AGAIN_SECONDS)


def _parsed(record: bytes) -> Bucket:
    """What a file has; an empty bucket where that is none."""
    with suppress(ValueError):  # UnicodeDecodeError, too
        level, at = record.decode("ascii").split()
        if (bucket := Bucket(float(level), float(at))).is_possible:
            return bucket
    return Bucket()
