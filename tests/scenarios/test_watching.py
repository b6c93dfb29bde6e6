"""`vbnfs top` of real mounts: programs, files, what the kernel reads, what does not answer, a screen."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.host.processes import name_of

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
OTHER = "ecephys_sessions/ecephys_session_1045.nwb"
MIB = 1 << 20
ONCE = ("top", "--once", "--interval", "0.1")

pytestmark = pytest.mark.scenario


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two sessions."""
    with serve({"0.1.0": {SESSION: Pattern(3 * MIB), OTHER: Pattern(20 * MIB, seed=2)}}) as server:
        yield server


def figures(mount: Mount) -> dict[str, Any]:
    """What `vbnfs top --json` has of a mount."""
    done = run_vbnfs(*ONCE, "--json", mount.path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reader_of(mount: Mount, file: str) -> dict[str, Any]:
    """The row of this process and a file."""
    [row] = [row for row in figures(mount)["readers"] if row["file"] == file and row["pid"] == os.getpid()]
    return dict(row)


def test_who_reads_what(mounts: Mounts, server: FakeS3Server) -> None:
    """A program, its file, what it read and how often that waited for S3; then the kernel reads it itself."""
    mount = mounts(server.endpoint_url)
    (mount.path / "README.txt").read_bytes()
    before = figures(mount)["metrics"]["read_requests"]
    with (mount.path / SESSION).open("rb") as file:
        assert len(file.read()) == 3 * MIB
        row = reader_of(mount, SESSION)
        assert (row["program"], row["read_by"], row["is_open"]) == (name_of(os.getpid()), "mount", True)
        assert (row["read_bytes"], 0 < row["fetched_reads"] <= row["reads"]) == (3 * MIB, True)
        now = figures(mount)
        assert now["metrics"]["fetched_reads"] == row["fetched_reads"]
        assert sum(now["waits"]["counts"]) == now["metrics"]["read_requests"] == before + row["reads"]
        text = run_vbnfs(*ONCE, mount.path).stdout
        assert re.search(rf"^  \S+ +{os.getpid()} mount .* 3.0M {SESSION}$", text, re.MULTILINE), text
    assert not reader_of(mount, SESSION)["is_open"]
    if os.geteuid() == 0:
        until(lambda: os.getxattr(mount.path / SESSION, "user.vbnfs.read_by") == b"kernel")
        with (mount.path / SESSION).open("rb"):
            row = reader_of(mount, SESSION)
            assert (row["read_by"], row["is_open"]) == ("kernel", True)


def test_errors_have_remedies(mounts: Mounts, server: FakeS3Server) -> None:
    """A read that failed stands there with its remedy, as long as the mount; so does that S3 is not reached."""
    mount = mounts(server.endpoint_url)
    server.stop()
    with pytest.raises(OSError, match="unreachable"):
        (mount.path / SESSION).read_bytes()
    text = run_vbnfs(*ONCE, mount.path).stdout
    assert "S3 is not reached" in text
    assert re.search(r"^  error    .*connect to the network", text, re.MULTILINE), text


def test_prefetches_have_their_progress(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """While `vbnfs prefetch` has a mount fetch, its files and bytes are shown, and how many have come."""
    mount = mounts(server.endpoint_url)
    gate = threading.Event()
    server.behaviours.append(for_kind("get_range", held(gate)))
    with prefetching(mount, OTHER, gate):
        until(lambda: any(fill["count_bytes"] for fill in figures(mount)["fills"]))
        assert f"{tmp_path}/cache  " not in run_vbnfs(*ONCE).stdout  # it is the mount that fetches
        [fill] = figures(mount)["fills"]
        assert (fill["files"], fill["done_files"], fill["count_bytes"]) == (1, 0, 20 * MIB)
        assert "  fetching 0 of 1 file, " in run_vbnfs(*ONCE, mount.path).stdout
    assert figures(mount)["fills"] == []


def test_prefetches_without_a_mount(server: FakeS3Server, tmp_path: Path) -> None:
    """`vbnfs top` and `vbnfs status` show them and how far they are while they go on, and not when killed."""
    gate = threading.Event()
    server.behaviours.append(for_kind("get_range", held(gate)))
    environment = {**os.environ, "VBNFS_ENDPOINT_URL": server.endpoint_url}

    def shown() -> list[dict[str, Any]]:
        lines = map(json.loads, run_vbnfs(*ONCE, "--json").stdout.splitlines())  # others of this user may fetch, too
        found = [line["fetch"] for line in lines if "fetch" in line]
        return [fetch for fetch in found if fetch["cache_dir"] == str(tmp_path / "cache")]

    words = [sys.executable, "-m", "vbnfs", "prefetch", OTHER]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment) as command:
        try:
            until(shown)
            [fetch] = shown()
            assert (fetch["pid"], fetch["fill"]["files"], fetch["fill"]["count_bytes"]) == (command.pid, 1, 20 * MIB)
            line = f"{tmp_path}/cache  visual-behavior-neuropixels, fetched by {fetch['program']} (pid {command.pid})"
            for words in (ONCE, ("status",)):
                text = run_vbnfs(*words).stdout
                assert line in text
                assert "  fetching 0 of 1 file, " in text.partition(line)[2]
        finally:
            command.kill()
            gate.set()
    assert shown() == []


@contextmanager
def prefetching(mount: Mount, file: str, gate: threading.Event) -> Iterator[None]:
    """While entered, a command fetches a file, of which nothing comes before the gate is set, at the end."""
    words = [sys.executable, "-m", "vbnfs", "prefetch", mount.path / file]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as command:
        try:
            yield
        finally:
            gate.set()
        assert command.wait(60) == 0


def test_a_mount_that_hangs(mounts: Mounts, server: FakeS3Server) -> None:
    """It is named, with status 1; the others are shown, and nothing waits for it longer than some seconds."""
    mount, hanging = mounts(server.endpoint_url), mounts(server.endpoint_url, name="hanging")
    pid = hanging.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = run_vbnfs(*ONCE)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (done.returncode, f"{hanging.path}: its daemon does not answer" in done.stderr) == (1, True)
    assert f"{mount.path}  visual-behavior-neuropixels 0.1.0, mounted " in done.stdout


def test_a_screen(mounts: Mounts, server: FakeS3Server) -> None:
    """On a terminal it is drawn again and again, until q or Ctrl-C is pressed, or SIGTERM comes.

    Then the terminal is as before. The keys are a usual end: the exit status is 0. Nothing is said.
    """
    mount = mounts(server.endpoint_url)
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    for key, status in ((b"q", 0), (b"\x03", 0), (None, 128 + signal.SIGTERM)):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        words = ["setsid", "--ctty", sys.executable, "-m", "vbnfs", "top", "--interval", "0.1", mount.path]
        with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as command:
            seen = b""
            while seen.count(b"hit ratio") < 2:
                seen += os.read(ours, 4096)
            assert b"\x1b[?1049h" in seen  # the alternate screen
            if key is None:
                command.terminate()
            else:
                os.write(ours, key)
            while b"\x1b[?1049l" not in seen and select.select([ours], [], [], 60)[0]:
                seen += os.read(ours, 4096)
            assert command.wait(60) == status
        while select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 4096)
        left = seen.partition(b"\x1b[?1049l")
        assert left[1]
        assert re.sub(rb"\x1b\[\?25h|\s", b"", left[2]) == b""  # the cursor is shown again, and nothing is written
        assert termios.tcgetattr(theirs) == before
        os.close(ours)
        os.close(theirs)


def test_nothing_to_watch(tmp_path: Path) -> None:
    """Where no mount is, the message says what to type."""
    done = run_vbnfs("top", tmp_path)
    assert (done.returncode, "no vbnfs mount" in done.stderr) == (1, True)
