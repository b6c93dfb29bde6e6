"""Leases: whether a file is open for writing, and that none begins to write it. Locks where fcntl(2) lacks some."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.capabilities import LEASE, without_capability
from tests.fakes.msvcrt import msvcrt
from vbnfs.host import locks
from vbnfs.host.locks import kept_from_writers

WRITING = (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC)


def has_writer(descriptor: int) -> bool | None:
    with kept_from_writers(descriptor) as is_kept:
        return None if is_kept is None else not is_kept


def test_a_file_is_open_for_writing(tmp_path: Path) -> None:
    """Open for writing is what any process has open so, also appending; not what is open for reading only."""
    path = tmp_path / "file"
    path.write_text("text")
    reader, other = (os.open(path, os.O_RDONLY) for _ in range(2))
    assert has_writer(reader) is False
    for flags in WRITING:
        writer = os.open(path, flags)
        assert has_writer(reader)
        os.close(writer)
        assert has_writer(reader) is False
    os.close(reader)
    os.close(other)


def test_none_begins_to_write(tmp_path: Path) -> None:
    """While it is kept, opening for writing has to wait (else EAGAIN: fcntl(2)); afterwards for nothing."""
    path = tmp_path / "file"
    path.write_text("text")
    reader = os.open(path, os.O_RDONLY)
    with kept_from_writers(reader) as is_kept:
        assert is_kept
        for flags in WRITING:
            try:
                os.close(os.open(path, flags | os.O_NONBLOCK))
            except BlockingIOError:
                continue
            raise AssertionError("it was opened")
        os.close(os.open(path, os.O_RDONLY))
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert path.read_text() == "text"
    os.close(reader)


def test_what_has_no_leases(tmp_path: Path) -> None:
    """Where there are no leases, as of a pipe, it is not known whether there is a writer."""
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert has_writer(pipe) is None
    os.close(pipe)


@pytest.mark.root
def test_files_of_others_without_the_capability(tmp_path: Path) -> None:
    """Root that lacks CAP_LEASE, as in most containers, has no lease of another user's file."""
    path = tmp_path / "file"
    path.write_text("text")
    os.chown(path, 4711, -1)
    reader = os.open(path, os.O_RDONLY)
    with without_capability(LEASE):
        assert has_writer(reader) is None
    assert has_writer(reader) is False
    os.close(reader)


ANOTHER = """
import sys
from vbnfs.host import locks
locks._HAS_OFD = False
if sys.argv[2] != "records":
    locks._HAS_FCNTL = False
with open(sys.argv[1], "r+b") as file:
    try:
        locks.set_lock(file.fileno(), locks.EXCLUSIVE, 1 << 40, 3)
    except OSError as error:
        print(type(error).__name__)
    else:
        print("locked")
"""


def lock_of_another_process(path: Path, kind: str) -> str:
    done = subprocess.run([sys.executable, "-c", ANOTHER, path, kind], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_record_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks of open files, parts are locked for the process; it is not said who is alone."""
    monkeypatch.setattr(locks, "_HAS_OFD", False)
    path = tmp_path / "file"
    path.touch()
    with path.open("r+b") as file:
        locks.set_lock(file.fileno(), locks.EXCLUSIVE, (1 << 40) + 2, 1)
        assert lock_of_another_process(path, "records") == "BlockingIOError"
        locks.set_lock(file.fileno(), locks.UNLOCKED, (1 << 40) + 2, 1)
        assert lock_of_another_process(path, "records") == "locked"
        with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
            locks.could_lock(file.fileno(), 0, 1)
        with locks.kept_from_writers(file.fileno()) as is_kept:
            assert is_kept is None


def test_locks_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows has them: byte by byte, all or none, given back one by one; a file is locked far behind its end."""
    monkeypatch.setattr(locks, "_HAS_OFD", False)
    monkeypatch.setattr(locks, "_HAS_FCNTL", False)
    monkeypatch.setattr(locks, "MSVCRT", msvcrt())
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with path.open("r+b") as file, path.open("r+b") as other:
        locks.set_lock(file.fileno(), locks.EXCLUSIVE, 1 << 50, 10)
        with pytest.raises(BlockingIOError):
            locks.set_lock(other.fileno(), locks.EXCLUSIVE, (1 << 50) - 3, 5)
        locks.set_lock(other.fileno(), locks.EXCLUSIVE, (1 << 50) - 3, 3)
        locks.set_lock(file.fileno(), locks.UNLOCKED, (1 << 50) + 2, 20)
        locks.set_lock(other.fileno(), locks.EXCLUSIVE, (1 << 50) + 2, 8)
        assert (locks.lock_file(file.fileno()), locks.lock_file(other.fileno())) == (True, False)
        assert file.read() == b"data"
    with path.open("r+b") as other:
        assert locks.lock_patiently(other.fileno(), 5)
    monkeypatch.setattr(locks, "MSVCRT", None)
    with path.open("r+b") as other, pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        locks.lock_file(other.fileno())
