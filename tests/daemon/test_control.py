"""The control socket of a mount, both ends, on real sockets."""

import json
import os
import re
import select
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from vbnfs.access import running_mounts
from vbnfs.access.mount_filling import blocks_wanted, fill_by
from vbnfs.access.mount_status import ask_readers_status, ask_status
from vbnfs.blocks import BLOCK_BYTES, Portion
from vbnfs.daemon import control
from vbnfs.errors import MountError
from vbnfs.host import runtime
from vbnfs.host.mountinfo import MountEntry
from vbnfs.objects import Content, ObjectVersion

DEVICE = "0:99999"  # of no mount


@pytest.fixture
def entry() -> MountEntry:
    """A mount of ours, as mountinfo would tell it."""
    return MountEntry(Path("/mnt/vbn"), DEVICE, "fuse.vbnfs", "dataset", os.getuid())


async def hello() -> Mapping[str, Any]:
    return {"hello": "world"}


async def broken() -> Mapping[str, Any]:
    raise ValueError("it broke")


@asynccontextmanager
async def served(entry: MountEntry) -> AsyncIterator[Path]:
    """A control socket with two commands, while entered."""
    path = runtime.socket_path(entry.owner, entry.device)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path, {"hello": hello, "broken": broken})
        yield path
        nursery.cancel_scope.cancel()


async def ask(entry: MountEntry, command: str) -> dict[str, Any]:
    return await trio.to_thread.run_sync(running_mounts.ask, entry, command)


async def test_question_and_answer(entry: MountEntry) -> None:
    """A command's answer comes back; the socket is its owner's alone, and is gone at the end."""
    async with served(entry) as path:
        assert await ask(entry, "hello") == {"hello": "world"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_commands_that_fail(entry: MountEntry) -> None:
    """A command that fails, and one that does not exist, are reported; the next one is answered all the same."""
    async with served(entry):
        with pytest.raises(MountError, match="it broke"):
            await ask(entry, "broken")
        with pytest.raises(MountError, match="does not know 'nonsense'; unmount it and mount it again"):
            await ask(entry, "nonsense")
        assert await ask(entry, "hello") == {"hello": "world"}


@pytest.mark.parametrize(
    "line", [b"\n", b"not json\n", b"[]\n", b'{"command": []}\n', b"[" * 60_000 + b"\n", b"x" * 70_000]
)
async def test_nonsense_on_the_socket(entry: MountEntry, line: bytes) -> None:
    """Whatever is sent, an error is the answer, and the socket goes on."""
    async with served(entry) as path:
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            await stream.send_all(line)
            assert b'"ok": false' in await stream.receive_some()
        assert await ask(entry, "hello") == {"hello": "world"}


async def test_asker_that_goes_away(entry: MountEntry) -> None:
    """One who leaves without a question or without the answer does no harm."""
    async with served(entry) as path:
        for line in (b"", b'{"command": "hello"}\n'):
            stream = await trio.open_unix_socket(str(path))
            if line:
                await stream.send_all(line)
            await stream.aclose()
        assert await ask(entry, "hello") == {"hello": "world"}


def test_daemon_that_is_gone(entry: MountEntry) -> None:
    """Without a socket the message names the remedy, if the mount is dead; else it says that the socket is gone."""
    with pytest.raises(MountError, match=r"its control socket .* is gone"):
        running_mounts.ask(replace(entry, mountpoint=Path("/")), "hello")


@pytest.mark.parametrize(
    ("is_alive", "reason"), [(True, "its daemon does not answer"), (False, "'vbnfs mount' mounts it anew")]
)
def test_daemon_that_ends_while_it_is_asked(
    entry: MountEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_alive: bool, reason: str
) -> None:
    """It has the question, and ends without an answer: what counts is whether the mount is dead."""
    path = tmp_path / "socket"
    monkeypatch.setattr(running_mounts, "find_socket", lambda owner, device: str(path))
    monkeypatch.setattr(running_mounts, "is_alive", lambda mountpoint, **_: is_alive)

    def end_with_the_question() -> None:
        connection, _ = listener.accept()
        select.select([connection], [], [])
        connection.close()  # with what was not read: the other end gets ECONNRESET

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(path))
        listener.listen()
        pool.submit(end_with_the_question)
        with pytest.raises(MountError, match=reason):
            running_mounts.ask(entry, "hello")


ASK_AS_NOBODY = """
import os, sys
from pathlib import Path
from vbnfs.access import running_mounts
from vbnfs.errors import MountError
from vbnfs.host import runtime
from vbnfs.host.mountinfo import MountEntry, is_ours
runtime.runtime_directory = lambda owner: Path(sys.argv[1])
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
entry = MountEntry(Path("/mnt/vbn"), "0:99999", "fuse.vbnfs", "dataset", 0)
try:
    running_mounts.ask(entry, "hello")
except MountError as error:
    print(is_ours(entry), error)
"""


def test_mount_of_somebody_else(tmp_path: Path) -> None:
    """A user who has not mounted it learns who can ask, and is not shown it unasked."""
    (tmp_path / "closed").mkdir(mode=0o000)
    command = [sys.executable, "-c", ASK_AS_NOBODY, str(tmp_path / "closed")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == "False /mnt/vbn: mounted by root: root can ask for that; 'vbnfs status' and 'getfattr -d FILE' answer all"
        " who can read it\n"
    )


def test_answer_that_is_none(entry: MountEntry) -> None:
    """A socket that closes without an answer is reported as such."""
    path = runtime.make_runtime_directory() / runtime.socket_path(entry.owner, entry.device).name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.shutdown(socket.SHUT_RDWR)
        with pytest.raises(MountError, match="/mnt/vbn"):
            running_mounts.ask(entry, "hello")
    path.unlink()


@contextmanager
def answering(entry: MountEntry, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """At the control socket of a mount somebody answers whatever they like to whatever is asked."""
    path = runtime.make_runtime_directory() / runtime.socket_path(entry.owner, entry.device).name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                connection.recv(1000)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            path.unlink()
            thread.join()


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def pour(connection: socket.socket) -> None:
    while True:
        connection.sendall(bytes(1 << 20))


def test_answers_that_do_not_end(entry: MountEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Question and answer together have a deadline, and an answer has a length."""
    with answering(entry, trickle), pytest.raises(MountError, match="does not answer: timed out"):
        running_mounts.ask_of(entry, "hello", seconds=0.5)
    with answering(entry, pour), pytest.raises(MountError, match="does not answer: "):
        running_mounts.ask_of(entry, "hello", seconds=0.5)


def test_a_daemon_that_ends_while_it_is_asked(entry: MountEntry) -> None:
    """A connection that is closed without an answer is reported in plain words."""
    message = f"{entry.mountpoint}: its daemon does not answer: it closed the connection, as it does when it ends"
    with answering(entry, socket.socket.close), pytest.raises(MountError, match=re.escape(message)):
        running_mounts.ask(entry, "hello")


SOUND = {
    **dict.fromkeys(("vbnfs_version", "bucket", "project", "region", "default_version", "cache_dir"), "x"),
    **dict.fromkeys(("endpoint_url", "ca_bundle", "log_file", "last_error")),
    "versions": ["x"],
    "refused": ["x"],
    **dict.fromkeys(("pid", "cache_size_bytes", "cache_usage_bytes"), 1),
    "is_offline": False,
    "passthrough": {
        **{"reason": None, "open_files": 1, "files": ["x"]},
        "old_handles": [{"file": "x", "pid": 1, "program": None}],
    },
    "limit_rate": {"rate_bytes": None, "is_shared": True, "waiting_reads": 0, "waiting_others": 0},
    "metrics": {"read_bytes": 1, "received_bytes": 1, "range_requests": 1},
    "ok": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {"versions": "x"}, {"versions": [1]}, {"pid": "1"}, {"pid": -1}, {"pid": True}, {"pid": 1 << 64},
        {"cache_size_bytes": 1e300}, {"cache_size_bytes": None}, {"metrics": []}, {"metrics": {"read_bytes": 1}},
        {"metrics": {"read_bytes": "1", "received_bytes": 1, "range_requests": 1}}, {"is_offline": "no"},
        {"last_error": []}, {"bucket": {}}, {"new": [[[[[]]]]]}, {"new": float("nan")}, {"ok": 1}, {"ok": "yes"},
        {"new": 10**400}, {"uptime_seconds": "a day"}, {"uptime_seconds": 10**400}, {"cache_also": [1]},
        {"cache_problem": 5}, {"newer_version": ["0.6.0"]}, {"dataset": 5}, {"mirror": 17},
        {"site_cache": 5}, {"site_cache": [{"url": "http://a"}]},
        {"site_cache": [{"url": 5, "blocks": 1, "problem": None}]},
        {"site_cache": [{"url": "http://a", "blocks": 1, "problem": None, "is_asked": 1}]},
        {"last_error_time": "today"}, {"last_error_time": "2026-11-30"}, {"last_error_time": 5},
        {"last_error_time": "0001-01-01T00:00+23:00"}, {"read_bytes_since_error": -1},
        {"passthrough": []}, {"passthrough": {"reason": None}}, {"limit_rate": 5}, {"limit_rate": {"is_shared": 1}},
        {"limit_rate": {"rate_bytes": "5M", "is_shared": True, "waiting_reads": 0, "waiting_others": 0}},
        {"limit_rate": {"rate_bytes": 5, "is_shared": True, "waiting_reads": -1, "waiting_others": 0}},
        {"passthrough": {"reason": None, "open_files": 1, "files": ["x"], "old_handles": [{"file": "x"}]}},
    ],
)  # fmt: skip
def test_a_status_that_is_none(entry: MountEntry, change: dict[str, Any]) -> None:
    """Whatever a daemon says, which may be another user's: what is no status is an error."""
    reply = json.dumps({**SOUND, **change}).encode()
    reason = "None" if "ok" in change else "its daemon's status is none: .*: unmount it and mount it again"
    with answering(entry, lambda connection: connection.sendall(reply)), pytest.raises(MountError, match=reason):
        ask_status(entry)


@pytest.mark.parametrize(
    "answer", [b"[]", b"1", b"null", b"[" * 100_000, b"9" * 10_000, b'{"ok": true}', b"\xff", b""]
)
def test_an_answer_that_is_no_object(entry: MountEntry, answer: bytes) -> None:
    """Neither is what is no JSON, or no object, or too deep."""
    with answering(entry, lambda connection: connection.sendall(answer)), pytest.raises(MountError, match="/mnt/vbn"):
        ask_status(entry)


def test_a_reason_is_one_line(entry: MountEntry) -> None:
    """Why a daemon does not tell cannot be made to look like what another one tells, or be without end."""
    reply = json.dumps({"ok": False, "error": "no\n/mnt/other:\tall is well" + "!" * 5000}).encode()
    with answering(entry, lambda connection: connection.sendall(reply)), pytest.raises(MountError) as caught:
        ask_status(entry)
    assert str(caught.value).startswith("/mnt/vbn: no /mnt/other: all is well!")
    assert len(str(caught.value)) < 1100


def test_a_status_is_believed_as_far_as_the_kernel_does_not_know(entry: MountEntry) -> None:
    """Which process answers, and where the mount is, is what the kernel says; another vbnfs may tell more."""
    report = {**SOUND, "pid": 1, "mountpoint": "/", "more": {"yes": [None, 1.5, "text"]}}
    with answering(entry, lambda connection: connection.sendall(json.dumps(report).encode())):
        status = ask_status(entry)
    assert (status["pid"], status["mountpoint"], status["more"]) == (os.getpid(), "/mnt/vbn", report["more"])


READERS = {
    **dict.fromkeys(("vbnfs_version", "bucket", "project", "default_version"), "x"),
    **{"versions": ["x"], "refused": [], "is_offline": False},
    **dict.fromkeys(("pid", "cache_size_bytes", "cache_usage_bytes"), 1),
}


@pytest.fixture
def read_by_us(tmp_path: Path) -> MountEntry:
    """A folder that answers as another user's mount does to those who can read it."""
    os.setxattr(tmp_path, "user.vbnfs.status", json.dumps(READERS).encode())
    return MountEntry(tmp_path, DEVICE, "fuse.vbnfs", "s3:x", 0)


def test_the_status_for_readers(read_by_us: MountEntry) -> None:
    """Who can read a mount is given a part of its status, and by whom it was mounted."""
    status = ask_readers_status(read_by_us)
    assert status == {**READERS, "mountpoint": str(read_by_us.mountpoint), "mounted_by": "root"}


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b"\xff", b"[" * 3000, json.dumps({**READERS, "versions": "x"}).encode()]
)
def test_a_status_for_readers_that_is_none(read_by_us: MountEntry, answer: bytes) -> None:
    """Whatever another user's mount answers: what is no status is an error."""
    os.setxattr(read_by_us.mountpoint, "user.vbnfs.status", answer)
    with pytest.raises(MountError, match="its daemon"):
        ask_readers_status(read_by_us)


def test_why_there_is_no_status_for_readers(read_by_us: MountEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that is not open to a user, one that is dead, and one that does not answer get different words."""
    for error, is_alive, reason in (
        (PermissionError(13, "Permission denied"), True, "mounted by root, and not open to you; root can mount it"),
        (OSError(107, "not connected"), False, "its daemon is gone; root can mount it anew"),
        (TimeoutError(110, "timed out"), True, "its daemon does not answer"),
    ):

        def refuse(*_: object, error: OSError = error, **__: object) -> bytes:
            raise error

        monkeypatch.setattr(running_mounts, "read_attribute", refuse)
        monkeypatch.setattr(running_mounts, "is_alive", lambda path, is_alive=is_alive, **_: is_alive)
        with pytest.raises(MountError, match=reason):
            ask_readers_status(read_by_us)


async def test_many_who_connect_and_ask_nothing(entry: MountEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take some descriptors of the daemon's and no more, for a moment; then others are answered."""
    monkeypatch.setattr(control, "_QUESTION_SECONDS", 0.5)
    async with served(entry) as path:
        before = len(os.listdir("/proc/self/fd"))
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(100)]
        for one in idle:
            with suppress(BlockingIOError):
                one.connect(str(path))
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) <= before + len(idle) + 16
        assert await ask(entry, "hello") == {"hello": "world"}
        for one in idle:
            one.close()


def test_runtime_directory_of_others_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder for sockets that others can write, a link and a file are refused."""
    place = tmp_path / "vbnfs"
    monkeypatch.setattr(runtime, "runtime_directory", lambda owner: place)
    assert runtime.make_runtime_directory() == place
    place.chmod(0o755)
    with pytest.raises(MountError, match="0700"):
        runtime.make_runtime_directory()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(MountError, match="0700"):
        runtime.make_runtime_directory()
    place.unlink()
    place.touch()
    with pytest.raises(MountError):
        runtime.make_runtime_directory()


def test_places_of_sockets() -> None:
    """Root's sockets are in /run, those of users without a place there below /tmp, each by device."""
    assert runtime.socket_path(0, "0:45") == Path("/run/vbnfs/0-45.sock")
    assert runtime.socket_path(4_000_000, "0:45") == Path("/tmp/vbnfs-4000000/0-45.sock")


async def test_a_socket_that_took_its_place_stays(entry: MountEntry) -> None:
    """A daemon that ends late does not remove the socket of the next one, whose mount has the same number."""
    async with served(entry) as path:
        path.unlink()
        path.touch()
    assert path.exists()
    path.unlink()


@pytest.mark.parametrize("what", ["the socket", "its folder", "the folders above, which are other ones then"])
async def test_a_socket_that_goes_away_is_made_again(
    entry: MountEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """/run/user/UID is emptied when its user logs out: a mount that stays is asked all the same, and later, too."""
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.01)
    session = tmp_path / "session"
    session.mkdir()
    monkeypatch.setattr(runtime, "runtime_directories", lambda owner: [session / "vbnfs", tmp_path / "vbnfs"])
    place = partial(runtime.socket_path, entry.owner, entry.device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.keep_serving, place, {"hello": hello})
        await there(first := place())
        if what == "the socket":
            first.unlink()
        else:
            shutil.rmtree(session if what.startswith("the folders") else first.parent)
        await there(second := place())
        await trio.testing.wait_all_tasks_blocked()  # it listens
        assert second.parent.parent == (tmp_path if what.startswith("the folders") else session)
        assert await ask(entry, "hello") == {"hello": "world"}
        assert stat.S_IMODE(second.parent.stat().st_mode) == 0o700
        nursery.cancel_scope.cancel()
    assert not second.exists()


async def test_a_place_that_others_take_meanwhile(
    entry: MountEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No socket is made in a folder that others can write; when that is mended, there is one."""
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.01)
    place = tmp_path / "vbnfs"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    monkeypatch.setattr(runtime, "runtime_directory", lambda owner: place)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            control.keep_serving, partial(runtime.socket_path, entry.owner, entry.device), {"hello": hello}
        )
        with trio.move_on_after(0.1):
            await there(place / "0-99999.sock")
        assert list(place.iterdir()) == []
        place.chmod(0o700)
        await there(place / "0-99999.sock")
        nursery.cancel_scope.cancel()


async def there(path: Path) -> None:
    """Wait for a file, some seconds at most."""
    with trio.fail_after(20):
        while True:
            if path.exists():
                return
            await trio.sleep(0.01)


async def test_a_socket_is_found_when_its_user_has_logged_in_since(
    entry: MountEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mount from before /run/user/UID was there is asked where its socket was made, a later one there."""
    session = tmp_path / "session"
    monkeypatch.setattr(runtime, "runtime_directories", lambda owner: [session / "vbnfs", tmp_path / "vbnfs"])
    async with served(entry) as path:
        assert path.parent == tmp_path / "vbnfs"
        session.mkdir()
        assert await ask(entry, "hello") == {"hello": "world"}
    async with served(replace(entry, device="0:99997")) as path:
        assert path.parent == session / "vbnfs"
        assert await ask(replace(entry, device="0:99997"), "hello") == {"hello": "world"}


# Works, which take long


@asynccontextmanager
async def working(entry: MountEntry, work: control.Work) -> AsyncIterator[None]:
    """A control socket with one command and the work `fill`, while entered."""
    async with trio.open_nursery() as nursery:
        path = runtime.socket_path(entry.owner, entry.device)
        await nursery.start(control.serve, path, {"hello": hello}, {"fill": work})
        yield
        nursery.cancel_scope.cancel()


CONTENTS = [Content(name, 1, ObjectVersion(name, "v")) for name in ("aa", "bb")]
PORTIONS = list(map(Portion.whole, CONTENTS))


async def test_a_work_reports_until_it_is_over(entry: MountEntry) -> None:
    """It gets the question's values; each report reaches the asker, and other questions are answered meanwhile."""
    came, filled = list[int](), list[Content]()

    async def fill(question: Mapping[str, Any], report: control.Report) -> Mapping[str, Any]:
        first, second = question["contents"]
        await report({"came_bytes": 5, "filled": [first, "unknown"]})
        assert await ask(entry, "hello") == {"hello": "world"}
        return {"is_over": True, "came_bytes": 2, "filled": [second]}

    async with working(entry, fill):
        await fill_by(entry, PORTIONS, came.append, filled.append)
    assert (came, filled) == ([5, 2], CONTENTS)


async def test_portions_in_a_question(entry: MountEntry) -> None:
    """Blocks that are far apart in large files arrive as they were named, in as many questions as they need."""
    files = [Content(f"{n:032x}", (48 << 10) * BLOCK_BYTES, ObjectVersion(f"{n}", "v")) for n in range(9)]
    portions = [Portion(one, range(n, 48 << 10, 2)) for n, one in enumerate(files)]
    asked = list[tuple[str, Sequence[int] | None]]()

    async def fill(question: Mapping[str, Any], report: control.Report) -> Mapping[str, Any]:
        asked.extend(map(blocks_wanted, question["contents"]))
        return {"is_over": True, "filled": [name for name, _ in asked]}

    filled = list[Content]()
    async with working(entry, fill):
        await fill_by(entry, [*portions, *PORTIONS], list[int]().append, filled.append)
    wanted = [(one.content.content_id, list(one.blocks)) for one in portions]
    assert asked == [*wanted, *((one.content_id, None) for one in CONTENTS)]
    assert filled == [*files, *CONTENTS]


@pytest.mark.parametrize("value", [7, None, [], ["aa"], ["aa", "x"], ["aa", 7], ["aa", "7", "7"]])
def test_what_is_no_portion(value: object) -> None:
    """A question with such a value is refused."""
    with pytest.raises(ValueError, match=r"portion|invalid literal"):
        blocks_wanted(value)


async def test_a_work_ends_with_its_asker(entry: MountEntry) -> None:
    """When the asker is gone, the work is cancelled; and the next question is answered."""
    begun, ended = trio.Event(), trio.Event()

    async def fill(question: Mapping[str, Any], report: control.Report) -> Mapping[str, Any]:
        await report({"filled": []})
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with working(entry, fill):
        async with trio.open_nursery() as asking:
            asking.start_soon(fill_by, entry, PORTIONS, list[int]().append, list[Content]().append)
            await begun.wait()
            asking.cancel_scope.cancel()
        with trio.fail_after(60):
            await ended.wait()
        assert await ask(entry, "hello") == {"hello": "world"}


async def broken_work(question: Mapping[str, Any], report: control.Report) -> Mapping[str, Any]:
    raise ValueError("it broke")


async def nonsense(question: Mapping[str, Any], report: control.Report) -> Mapping[str, Any]:
    return {"is_over": True, "filled": "all"}


@pytest.mark.parametrize(("work", "reason"), [(broken_work, "it broke"), (nonsense, "its daemon's answer is none")])
async def test_a_work_that_fails(entry: MountEntry, work: control.Work, reason: str) -> None:
    """The asker has a `MountError`, and does the work itself; so it has where there is no mount, or an old one."""
    with pytest.raises(MountError, match="does not answer"):
        await fill_by(entry, PORTIONS, list[int]().append, list[Content]().append)
    async with working(entry, work):
        with pytest.raises(MountError, match=reason):
            await fill_by(entry, PORTIONS, list[int]().append, list[Content]().append)
        assert await ask(entry, "hello") == {"hello": "world"}
    async with served(entry):
        with pytest.raises(MountError, match="does not know 'fill'"):
            await fill_by(entry, PORTIONS, list[int]().append, list[Content]().append)
