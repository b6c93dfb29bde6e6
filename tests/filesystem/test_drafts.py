"""A text that many threads read and write: each has a draft, and what is complete becomes the text."""

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from tests.fakes.capabilities import LEASE, without_capability
from vbnfs.filesystem.drafts import SharedText, is_complete

OLD, NEW = b"manifest_v0.4.0.json", b"manifest_v0.5.0.json"
KNOWN = (OLD, NEW)
ME, ANOTHER, ONE_MORE = os.getpid(), os.getppid(), 1  # threads that are alive


SOMEBODY = 4711


@pytest.fixture(params=["leases", pytest.param("no leases", marks=pytest.mark.root)], autouse=True)
def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """All of this holds with leases, and where the kernel grants none: root's process without CAP_LEASE."""
    if request.param == "leases":
        yield
        return
    os.chown(tmp_path, SOMEBODY, -1)
    with without_capability(LEASE):
        yield


def shared(folder: Path) -> SharedText:
    """The text `text.txt` of a folder, as a daemon that begins has it."""
    return SharedText(folder / "text.txt", folder.stat().st_uid, lambda: KNOWN)


def read(text: SharedText, thread: int) -> bytes | None:
    """What a thread reads that opens the file now; None if there is none."""
    try:
        return Path(text.path_for(thread)).read_bytes()
    except FileNotFoundError:
        return None


def write(text: SharedText, thread: int, data: bytes) -> None:
    """What AllenSDK does: truncate, write, close."""
    path = Path(text.path_for(thread))
    path.write_bytes(data)
    os.chown(path, path.parent.stat().st_uid, -1)


@contextmanager
def truncated(text: SharedText, thread: int) -> Iterator[int]:
    """A file that a thread has just opened for writing, and truncated."""
    path = Path(text.path_for(thread))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.fchown(descriptor, path.parent.stat().st_uid, -1)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def text(tmp_path: Path) -> SharedText:
    """A text that was written once."""
    made = shared(tmp_path)
    write(made, ME, OLD)
    return made


@pytest.mark.parametrize(
    ("written", "expected"),
    [(b"", False), (OLD, True), (OLD[:-1], False), (b"m", False), (OLD + b"\n", True), (b"something else", True)],
)
def test_what_is_complete(written: bytes, expected: bool) -> None:
    """Nothing at all, and the mere beginning of what may stand there, were not written to their end."""
    assert is_complete(written, KNOWN) == expected


def test_one_text_may_begin_another() -> None:
    """What may stand there is complete, also if something longer may."""
    assert is_complete(b"v1", [b"v1", b"v1.1"])
    assert not is_complete(b"v", [b"v1", b"v1.1"])


def test_at_first_there_is_none(tmp_path: Path) -> None:
    """Until the text is written the file does not exist, for any thread; then all have it."""
    text = shared(tmp_path)
    assert [read(text, thread) for thread in (ME, ANOTHER)] == [None, None]
    write(text, ME, OLD)
    assert [read(text, thread) for thread in (ANOTHER, ME, ONE_MORE)] == [OLD, OLD, OLD]


def test_the_first_text_while_it_is_written(tmp_path: Path) -> None:
    """A thread that writes the first text loses nothing of it, while others ask for the text."""
    text = shared(tmp_path)
    with truncated(text, ME) as descriptor:
        assert read(text, ANOTHER) is None
        os.write(descriptor, OLD)
        assert read(text, ONE_MORE) is None
    assert [read(text, thread) for thread in (ANOTHER, ME)] == [OLD, OLD]


def test_each_thread_has_a_path_of_its_own(text: SharedText) -> None:
    """A thread has the same path each time, and no other thread has it."""
    assert text.path_for(ME) == text.path_for(ME)
    assert len({text.path_for(thread) for thread in (ME, ANOTHER, ONE_MORE)}) == 3


def test_the_old_text_until_the_new_one_is_closed(text: SharedText) -> None:
    """While a thread writes, also in parts, and after fsync, others read the old text; then the new one."""
    with truncated(text, ME) as descriptor:
        assert read(text, ANOTHER) == OLD
        for part in (NEW[:5], NEW[5:], b"!"):
            os.write(descriptor, part)
            os.fsync(descriptor)
            assert read(text, ANOTHER) == OLD
    assert read(text, ANOTHER) == NEW + b"!"


def test_truncating_alone_changes_nothing(text: SharedText) -> None:
    """A file that was truncated and closed is no text: not for others, nor for the thread that did so."""
    with truncated(text, ME):
        pass
    assert [read(text, thread) for thread in (ANOTHER, ME)] == [OLD, OLD]


def test_a_thread_keeps_what_it_is_writing(text: SharedText) -> None:
    """A thread that asks for the path while it writes goes on writing the same file."""
    with truncated(text, ME) as descriptor:
        assert read(text, ME) == b""
        os.write(descriptor, NEW)
        assert read(text, ME) == NEW
    assert read(text, ANOTHER) == NEW


@pytest.mark.parametrize("part", [b"", OLD[:-1]])
def test_a_writer_that_dies(text: SharedText, part: bytes) -> None:
    """A process that is killed between truncating and the end of its text changes nothing."""
    script = f"""
import os, signal, sys
descriptor = os.open(sys.stdin.readline().strip(), os.O_WRONLY | os.O_TRUNC)
os.write(descriptor, {part!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True)
    process.communicate(text.path_for(process.pid) + "\n")
    assert read(text, ANOTHER) == OLD


def test_the_last_one_counts(text: SharedText) -> None:
    """Of two threads that have written since, the one that was last is the text, whichever is found first."""
    for first, last in ((ME, ANOTHER), (ANOTHER, ME)):
        paths = {thread: Path(text.path_for(thread)) for thread in (ME, ANOTHER)}
        paths[first].write_bytes(OLD)
        paths[last].write_bytes(NEW)
        os.utime(paths[first], (5, 5))
        os.utime(paths[last], (6, 6))
        assert read(text, ONE_MORE) == NEW
        write(text, ME, OLD)


def test_appending(text: SharedText) -> None:
    """What is appended stands behind the text as it was."""
    with open(text.path_for(ME), "ab") as file:
        file.write(b" and more")
    assert read(text, ANOTHER) == OLD + b" and more"


def test_renaming_over_it(text: SharedText, tmp_path: Path) -> None:
    """A file that is renamed over a thread's path is what it has written."""
    (tmp_path / "new").write_bytes(NEW)
    (tmp_path / "new").rename(text.path_for(ME))
    assert read(text, ANOTHER) == NEW


def test_deleting_it(text: SharedText, tmp_path: Path) -> None:
    """Who deletes the file begins anew: it is gone for all. What is written then is the text."""
    before = read(text, ANOTHER)
    Path(text.path_for(ME)).unlink()
    assert (before, read(text, ANOTHER), read(text, ME)) == (OLD, None, None)
    assert os.listdir(tmp_path) == []
    write(text, ANOTHER, NEW)
    assert read(text, ME) == NEW
    (tmp_path / "text.txt").unlink()
    assert read(text, ME) is None


def test_what_was_written_last_outlasts_the_daemon(text: SharedText, tmp_path: Path) -> None:
    """What was not read since is the text all the same for the next daemon, which leaves no draft of the last one."""
    read(text, ANOTHER)
    write(text, ME, NEW)
    again = shared(tmp_path)
    path = again.path_for(ANOTHER)
    assert Path(path).read_bytes() == (tmp_path / "text.txt").read_bytes() == NEW
    assert sorted(os.listdir(tmp_path)) == sorted(["text.txt", Path(path).name])


def test_drafts_of_other_hosts(text: SharedText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a home that several hosts share, each leaves the drafts of the others, and they have one text."""
    here = Path(text.path_for(ME))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(["Linux", "elsewhere", "", "", ""]))
    there = shared(tmp_path)
    assert read(there, ANOTHER) == OLD
    assert here.exists()
    write(there, ANOTHER, NEW)
    assert read(there, ME) == NEW
    assert read(text, ONE_MORE) == NEW


def test_drafts_of_threads_that_have_ended(text: SharedText, tmp_path: Path) -> None:
    """A draft is deleted when its thread has ended, after what stands in it was taken over."""
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = Path(text.path_for(ended.pid))
    path.write_bytes(NEW)
    assert read(text, ME) == NEW
    assert path.exists()
    ended.communicate(b"\n")
    assert read(text, ME) == NEW
    assert not path.exists()


def test_what_stands_in_the_place_of_a_draft(text: SharedText, tmp_path: Path) -> None:
    """A link is not followed, a pipe not waited for, a large file not read: none of them is a text."""
    (tmp_path / "elsewhere").write_bytes(NEW)
    spoils: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(tmp_path / "elsewhere"),
        os.mkfifo,
        lambda path: path.write_bytes(b"x" * 5000),
    ]
    for spoil in spoils:
        path = Path(text.path_for(ME))
        path.unlink()
        spoil(path)
        with structlog.testing.capture_logs():
            assert read(text, ANOTHER) == OLD
        path.unlink()
        write(text, ANOTHER, OLD)


def test_where_no_draft_can_be_made(text: SharedText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for drafts threads have the file itself. That is logged once."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    read(text, ANOTHER)
    monkeypatch.setattr("vbnfs.filesystem.drafts.temporary_file", full)
    with structlog.testing.capture_logs() as logs:
        assert [text.path_for(ONE_MORE) for _ in range(3)] == [str(tmp_path / "text.txt")] * 3
    assert [line["reason"] for line in logs] == ["no space"]
    assert (tmp_path / "text.txt").read_bytes() == OLD


def test_a_folder_that_others_can_write_by_now(text: SharedText, tmp_path: Path) -> None:
    """No file is made in a folder in which others can put something."""
    tmp_path.chmod(0o777)
    with structlog.testing.capture_logs() as logs:
        assert text.path_for(ONE_MORE) == str(tmp_path / "text.txt")
    assert len(logs) == 1


def test_no_thread_finds_it_empty(tmp_path: Path) -> None:
    """Threads that read and write as AllenSDK does find one of the texts that were written, each time."""
    text, turn = shared(tmp_path), threading.Lock()
    write(text, ME, OLD)
    found: set[bytes] = set()

    def path() -> Path:
        with turn:  # as a daemon asks
            return Path(text.path_for(threading.get_native_id()))

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            found.add(path().read_bytes())
            path().write_bytes(chance.choice(KNOWN))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {OLD, NEW}
