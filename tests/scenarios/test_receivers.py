"""Real mounts for which a process of its own receives what S3 sends, and how that process ends: --receivers 1."""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.access import receiver_program

SESSION, LARGE = (f"ecephys_sessions/ecephys_session_{number}.nwb" for number in (1044, 1045))
DATA, LARGE_DATA = Pattern(20_000_001), Pattern(200_000_003)
MOST_KILLS = 2  # with a third one in a row the daemon would receive by itself


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with a session of 20 MB and one of 200."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: DATA, LARGE: LARGE_DATA})
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture
def mount(mounts: Mounts, server: FakeS3Server) -> Mount:
    """A mount that has such a process, which is ready."""
    mount = mounts(server.endpoint_url, "--receivers", "1", "--passthrough", "no")
    daemon = mount.status()["pid"]
    until(lambda: [pid for pid in receivers_of(daemon) if is_ready(pid)] != [])
    return mount


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def receivers_of(pid: int) -> list[int]:
    """The processes that receive for a daemon, as long as it lives."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if parent_of(int(process.name)) == pid and words[3:4] == [receiver_program.__name__]:
                found.append(int(process.name))
    return found


def is_ready(pid: int) -> bool:
    """Whether a process has come as far as to receive: its threads are there."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("Threads:")[1].split()[0]) > 2
    return False


def is_gone(pid: int) -> bool:
    """Whether a process is not there, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def metric(mount: Mount, name: str) -> int:
    count: int = mount.status()["metrics"][name]
    return count


def read_of(path: Path, found: list[bool]) -> threading.Thread:
    """A thread that reads a file, and says whether it had its bytes."""

    def read() -> None:
        found.append(path.read_bytes() == LARGE_DATA[:])

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_the_process_receives_what_is_read(mount: Mount) -> None:
    """A file is read right. The process has received and stored most of it, and has no file of the daemon's left."""
    daemon = mount.status()["pid"]
    [receiver] = receivers_of(daemon)
    assert (mount.path / LARGE).read_bytes() == LARGE_DATA[:]
    written_bytes = int(Path(f"/proc/{receiver}/io").read_text().split("wchar: ")[1].split()[0])
    assert written_bytes > len(LARGE_DATA) // 2  # what is stored as it comes; short GETs come through the daemon
    until(lambda: metric(mount, "kept_bytes") >= len(LARGE_DATA))
    until(lambda: {name for name in open_files(receiver) if name.startswith("/")} == {os.devnull})
    assert not [name for name in open_files(receiver) if "fuse" in name]
    assert receivers_of(daemon) == [receiver]


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def test_a_process_that_is_killed_fails_no_read(mount: Mount) -> None:
    """Killed while a large file comes, twice, it is there again each time, and the reader gets all bytes."""
    daemon, found = mount.status()["pid"], list[bool]()
    reader = read_of(mount.path / LARGE, found)
    killed: list[int] = []
    for part in range(1, MOST_KILLS + 1):
        until(lambda part=part: metric(mount, "received_bytes") > part * len(LARGE_DATA) // 10)  # type: ignore[misc]
        [receiver] = receivers_of(daemon)
        os.kill(receiver, signal.SIGKILL)
        killed.append(receiver)
        until(lambda: any(pid not in killed for pid in receivers_of(daemon)))
    reader.join()
    assert found == [True]
    assert len(receivers_of(daemon)) == 1
    assert mount.status()["metrics"]["corrupt_blocks"] == 0


def test_it_does_not_outlive_an_unmount(mount: Mount) -> None:
    """When a mount is gone, with a file read half, the process is gone."""
    [receiver] = receivers_of(mount.status()["pid"])
    with (mount.path / SESSION).open("rb") as file:
        assert file.read(1 << 20) == DATA[: 1 << 20]
    mount.umount()
    assert is_gone(receiver)


@pytest.mark.parametrize("is_reading", [False, True])
def test_it_does_not_outlive_a_daemon_that_is_killed(mount: Mount, *, is_reading: bool) -> None:
    """SIGKILL of the daemon ends the process, while it receives, too."""
    daemon = mount.status()["pid"]
    [receiver] = receivers_of(daemon)
    if is_reading:
        with (mount.path / SESSION).open("rb") as file:
            assert file.read(1 << 20) == DATA[: 1 << 20]
    os.kill(daemon, signal.SIGKILL)
    until(lambda: is_gone(receiver))


def test_signals_to_the_whole_group_leave_it_to_the_daemon(mount: Mount) -> None:
    """What a terminal or a supervisor sends to all processes ends the daemon, and so this one; not this one first."""
    daemon = mount.status()["pid"]
    [receiver] = receivers_of(daemon)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(receiver, number)
    assert (mount.path / SESSION).read_bytes() == DATA[:]
    assert receivers_of(daemon) == [receiver]
    for pid in (receiver, daemon):
        os.kill(pid, signal.SIGTERM)
    until(lambda: is_gone(daemon))
    assert is_gone(receiver)


@pytest.mark.root
def test_users_who_are_not_root(mounts: Mounts, server: FakeS3Server) -> None:
    """Others read a mount that root has made with allow_other, through such a process, too."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mount = mounts(server.endpoint_url, "--receivers", "1", "-o", "allow_other", name=f"{folder}/vbn")
        done = subprocess.run([*nobody, "cat", mount.path / SESSION], capture_output=True, check=True)
        assert done.stdout == DATA[:]
        mount.umount()


def test_two_commands_at_once_have_one_each(mounts: Mounts, server: FakeS3Server) -> None:
    """Each mount has its own; neither ends the other's."""
    first = mounts(server.endpoint_url, "--receivers", "1", name="first")
    second = mounts(server.endpoint_url, "--receivers", "1", name="second")
    until(lambda: all(len(receivers_of(mount.status()["pid"])) == 1 for mount in (first, second)))
    first.umount()
    [receiver] = receivers_of(second.status()["pid"])
    assert (second.path / SESSION).read_bytes() == DATA[:]
    second.umount()
    assert is_gone(receiver)
