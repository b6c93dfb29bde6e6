"""Histories survive eviction and restarts; a record that is torn, or another content's, is none."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.eviction_policy import History
from vbnfs.cache.histories import (
    EVICTED,
    RECORD_BYTES,
    Evicted,
    allocated_by_evicted,
    decode,
    encode,
    read_history,
    recall_evicted,
    remember_evicted,
    write_history,
)
from vbnfs.host.places import folder_at

times = st.integers(0, 1 << 62)
HISTORY = History(1_800_000_000 * 10**9, 3, is_back=True)


@given(
    began=st.integers(0, 1 << 62), used=st.integers(0, 1 << 62), periods=st.integers(1, 1 << 32), back=st.booleans()
)
def test_a_record_says_what_was_written(began: int, used: int, periods: int, back: bool) -> None:
    """In 64 bytes; a count that does not fit stays at the most that does."""
    record = encode("id", History(began, periods, is_back=back), used_ns=used)
    assert len(record) == RECORD_BYTES
    assert decode("id", record) == Evicted(History(began, min(periods, (1 << 32) - 1), is_back=back), used)


@given(at=st.integers(0, RECORD_BYTES - 1), other=st.integers(1, 255))
def test_a_damaged_record_is_none(at: int, other: int) -> None:
    """Whichever byte it is, and if there are too few."""
    record = bytearray(encode("id", HISTORY, used_ns=1))
    assert decode("id", bytes(record[:at])) is None
    record[at] ^= other
    assert decode("id", bytes(record)) is None


def test_another_contents_record_is_none() -> None:
    """A header that came along with a file under another name says nothing of it."""
    assert decode("other", encode("id", HISTORY, used_ns=1)) is None


def test_a_history_in_a_file(tmp_path: Path) -> None:
    """A new file, all zeros, has none."""
    with (tmp_path / "checksums").open("w+b") as file:
        os.ftruncate(file.fileno(), 1000)
        assert read_history(file.fileno(), "id") is None
        write_history(file.fileno(), "id", HISTORY)
        assert read_history(file.fileno(), "id") == HISTORY
        assert os.fstat(file.fileno()).st_size == 1000


def test_evicted_contents_are_remembered(tmp_path: Path) -> None:
    """As many as there is room for, in a file that does not grow; nothing is known where there is none."""
    tmp_path.chmod(0o700)
    scope = folder_at(tmp_path)
    assert recall_evicted(scope, "id") is None
    for number in range(9000):
        remember_evicted(scope, f"{number}", Evicted(HISTORY, number))
    assert recall_evicted(scope, "8999") == Evicted(HISTORY, 8999)
    known = [number for number in range(9000) if recall_evicted(scope, f"{number}") is not None]
    assert all(recall_evicted(scope, f"{number}") == Evicted(HISTORY, number) for number in known[::100])
    assert len(known) > 5000
    assert (tmp_path / EVICTED).stat().st_size <= 8192 * RECORD_BYTES


@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_file_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    """Then nothing is remembered, and nothing fails."""
    tmp_path.chmod(0o700)
    (tmp_path / EVICTED).mkdir() if what == "folder" else (tmp_path / EVICTED).symlink_to("/etc/passwd")
    remember_evicted(folder_at(tmp_path), "id", Evicted(HISTORY, 1))
    assert recall_evicted(folder_at(tmp_path), "id") is None


def test_what_histories_take_is_counted(tmp_path: Path) -> None:
    """In a small cache it is some percent: of all scopes, and of no other file."""
    assert allocated_by_evicted(folder_at(tmp_path)) == 0
    for scope in ("aws", "other"):
        folder = tmp_path / FORMAT / scope
        folder.mkdir(parents=True)
        (folder / ".claims").write_bytes(bytes(8192))
        remember_evicted(folder_at(folder), "aa11", Evicted(History(1), 1))
    expected = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob(".evicted"))
    assert allocated_by_evicted(folder_at(tmp_path)) == expected > 0
