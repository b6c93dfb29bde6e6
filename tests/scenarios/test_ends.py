"""How a mount ends while a file of it is found wrong: no process is left that waits and cannot be killed."""

import errno
import mmap
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders, scope_of
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.objects import Content, ObjectVersion

NAME = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(6_000_001)
BEHIND = 600  # pages; nothing of what is read first
PAGE = 4096


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {NAME: DATA}}) as server:
        yield server


@contextmanager
def abort_at_the_end(mount: Mount) -> Iterator[None]:
    """Whatever becomes of it: nothing is left that waits for this mount. That takes root."""
    control = mount.path.parent / "fusectl"
    control.mkdir()
    abort = control / str(os.minor(mount.path.stat().st_dev)) / "abort"
    subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
    try:
        yield
    finally:
        if abort.exists():
            abort.write_text("1")
        subprocess.run(["umount", control], check=True)


def threads_of(pid: int) -> list[str]:
    """The threads of a process that have not ended."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in {"Z", "X"}:
            found.append(task.name)
    return found


def condemn(cache: Path) -> None:
    """As another process on the same cache does that finds the file wrong, again after fetching it anew."""
    [folder] = content_folders(cache)
    content = Content(folder.name, len(DATA), ObjectVersion("key", "id"), "00" * 64)
    Verdicts(cache, scope=scope_of(folder)).keep(content, Verdict("11" * 64, "", "2026-11-01T00:00:00Z", 2))


def read_page(path: Path, number: int) -> subprocess.Popen[str]:
    """A process that reads a page of a file."""
    where = [f"if={path}", "of=/dev/null", f"bs={PAGE}", "count=1", f"skip={number}"]
    return subprocess.Popen(["dd", *where], stderr=subprocess.PIPE, text=True)


def complaint_of(reader: subprocess.Popen[str]) -> str:
    """What it says when it has ended, which it does soon."""
    try:
        return reader.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        reader.kill()
        return "it waits"


@pytest.mark.root
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_an_end_while_a_file_is_found_wrong(mounts: Mounts, server: FakeS3Server, tmp_path: Path, name: str) -> None:
    """Reads that S3 stalls fail as soon as the file is refused, and however the daemon ends then, nothing is left.

    No program goes on seeing what the kernel had of the file, be it in a mapping.
    """
    mount, gate = mounts(server.endpoint_url), threading.Event()
    pid = mount.status()["pid"]
    with abort_at_the_end(mount), open(mount.path / NAME, "rb", buffering=0) as file:
        assert file.read(PAGE) == DATA[:PAGE]
        mapping = mmap.mmap(file.fileno(), PAGE, access=mmap.ACCESS_READ)
        assert mapping[:] == DATA[:PAGE]
        os.getxattr(mount.path / NAME, "user.vbnfs.cached")  # when it is on the disk
        server.behaviours.append(for_kind("get_range", held(gate)))
        server.forget_requests()
        readers = [read_page(mount.path / NAME, BEHIND + 64 * number) for number in range(4)]
        server.wait_until(lambda server: server.count("get_range") > 0)
        condemn(tmp_path / "cache")
        complaints = [complaint_of(reader) for reader in readers]
        if name == "SIGTERM":
            until(lambda: errno_of(file.fileno()) == errno.EIO)  # also what the kernel had in memory
        os.kill(pid, getattr(signal, name))
        until(lambda: threads_of(pid) == [])
        assert complaint_of(read_page(mount.path / NAME, BEHIND)) != "it waits"
    gate.set()
    assert ["Input/output error" in complaint for complaint in complaints] == [True] * len(readers)


def errno_of(descriptor: int) -> int | None:
    """What reading the first page says."""
    try:
        os.pread(descriptor, PAGE, 0)
    except OSError as error:
        return error.errno
    return None
