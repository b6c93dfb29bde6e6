"""Leases: whether a file is open for writing, and that none begins to write it."""

import os
from pathlib import Path

import pytest

from tests.fakes.capabilities import LEASE, without_capability
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
