"""Small files that are stored: whole, or absent."""

import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.open_files import open_files
from vbnfs.dataset.stored_files import append_stored_line, read_stored, read_stored_lines, write_stored
from vbnfs.host.atomic import remove_leftovers

any_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@any_example
@given(st.binary())
def test_what_is_kept_comes_back(tmp_path: Path, data: bytes) -> None:
    """Any bytes, newlines and nothing included, come back as they were."""
    write_stored(tmp_path / "file", data)
    assert read_stored(tmp_path / "file") == data


def test_absent_is_none(tmp_path: Path) -> None:
    """A file that is not there, and a folder in its place, both count as absent."""
    assert read_stored(tmp_path / "file") is None
    assert read_stored(tmp_path) is None
    assert list(read_stored_lines(tmp_path / "file")) == []
    assert list(read_stored_lines(tmp_path)) == []


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """A file with a bit flipped in any byte, or cut short anywhere, counts as absent."""
    path = tmp_path / "file"
    write_stored(path, b"data")
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert read_stored(path) is None
        path.write_bytes(good[:position])
        assert read_stored(path) is None


def test_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    """The folder of a stored file and the file itself can be read by their owner alone."""
    write_stored(tmp_path / "new" / "file", b"")
    append_stored_line(tmp_path / "other" / "lines", b"")
    for path in (tmp_path / "new", tmp_path / "other"):
        assert path.stat().st_mode & 0o077 == 0
        assert [entry.stat().st_mode & 0o077 for entry in path.iterdir()] == [0]


def test_a_kept_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A process that has the old file open goes on reading it: a new file replaces it."""
    path = tmp_path / "file"
    write_stored(path, b"old")
    with path.open("rb") as old:
        write_stored(path, b"new")
        assert old.read().endswith(b"old")
    assert read_stored(path) == b"new"


def test_failure_leaves_the_old_state(tmp_path: Path) -> None:
    """When a file cannot be put in its place, no temporary file stays behind and what stood there still stands."""
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_stored(tmp_path / "file", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OSError, match="directory"):
        append_stored_line(tmp_path / "file", b"data")


def test_killed_in_mid_write(tmp_path: Path) -> None:
    """SIGKILL before a file is in its place leaves a temporary one; the next start deletes it; the old one stands.

    A writer that is alive keeps its own.
    """
    path = tmp_path / "kept" / "file"
    write_stored(path, b"old")

    def write_until_killed() -> None:
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGSTOP)  # in the child alone
        write_stored(path, b"new")

    writer = multiprocessing.get_context("fork").Process(target=write_until_killed)
    writer.start()
    os.waitid(os.P_PID, writer.pid, os.WSTOPPED)  # stopped: the temporary file is there, and locked
    remove_leftovers(tmp_path)
    assert len(list(path.parent.iterdir())) == 2
    writer.kill()
    writer.join()
    assert len(list(path.parent.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(path.parent.iterdir()) == [path]
    assert read_stored(path) == b"old"


def test_a_temporary_file_that_is_taken_for_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted, or being deleted, before its writer could lock it: the writer makes another one."""
    lock, taken = fcntl.flock, [1, 2]

    def late(descriptor: int, how: int) -> None:
        match taken.pop() if taken else 0:
            case 2:
                raise BlockingIOError
            case 1:
                next(tmp_path.glob(".*.new")).unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_stored(tmp_path / "file", b"data")
    assert read_stored(tmp_path / "file") == b"data"


def test_below_a_regular_file_nothing_can_be_kept(tmp_path: Path) -> None:
    """An impossible place is an OSError for the writer and absent for the reader."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "below" / "it"
    with pytest.raises(OSError, match="directory"):
        write_stored(path, b"")
    with pytest.raises(OSError, match="directory"):
        append_stored_line(path, b"")
    assert read_stored(path) is None


@any_example
@given(st.lists(st.binary().filter(lambda text: b"\n" not in text)))
def test_lines_come_back_in_order(tmp_path: Path, texts: list[bytes]) -> None:
    """Lines come back in the order in which they were added."""
    path = tmp_path / "lines"
    path.unlink(missing_ok=True)
    for text in texts:
        append_stored_line(path, text)
    assert list(read_stored_lines(path)) == texts


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """A line cut off anywhere, as by a full disk, costs that line; those before and after it are whole."""
    path = tmp_path / "lines"
    append_stored_line(path, b"first")
    end_of_first = path.stat().st_size
    append_stored_line(path, b"second")
    whole = path.read_bytes()
    for cut in range(end_of_first, len(whole) - 1):
        path.write_bytes(whole[:cut])
        append_stored_line(path, b"third")
        assert list(read_stored_lines(path)) == [b"first", b"third"]


def test_a_damaged_line_spoils_no_other(tmp_path: Path) -> None:
    """A line of which a bit has flipped counts as absent, the others stay."""
    path = tmp_path / "lines"
    for text in (b"first", b"second", b"third"):
        append_stored_line(path, text)
    path.write_bytes(path.read_bytes().replace(b"second", b"sekond"))
    assert list(read_stored_lines(path)) == [b"first", b"third"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Keeping, reading and failing leave no file open."""
    before = open_files()
    write_stored(tmp_path / "file", b"data")
    append_stored_line(tmp_path / "lines", b"data")
    with pytest.raises(OSError, match="directory"):
        write_stored(tmp_path, b"data")
    assert open_files() == before
