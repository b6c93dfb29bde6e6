"""What a supervisor is sent, over real datagram sockets; and by a real mount."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fixtures_mount import Mounts, run_vbnfs
from vbnfs.config.environment import Supervisor
from vbnfs.daemon.systemd import SystemdNotifier


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[socket.socket]:
    """The supervisor's socket."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as inbox:
        inbox.settimeout(30)
        inbox.bind(str(tmp_path / "n"))
        yield inbox


def message(inbox: socket.socket) -> dict[str, str]:
    """The next message, by the names of its lines."""
    lines = inbox.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def until_sent(inbox: socket.socket, name: str) -> dict[str, str]:
    """The next message that has a line of that name."""
    while name not in (fields := message(inbox)):
        pass
    return fields


def is_empty(inbox: socket.socket) -> bool:
    """Whether no message waits."""
    inbox.setblocking(False)
    try:
        inbox.recv(4096)
    except BlockingIOError:
        return True
    return False


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {"project_metadata/units.csv": b"unit_id\n1\n"}}) as server:
        yield server


def start(server: FakeS3Server, folder: Path, inbox: socket.socket, **env: str) -> subprocess.Popen[bytes]:
    """A mount as systemd starts one."""
    folder.mkdir()
    command = [sys.executable, "-m", "vbnfs", "mount", "--foreground", "--endpoint-url", server.endpoint_url, folder]
    # As systemd does it: the watchdog is for this process, and not for its children.
    this = ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", *map(str, command)]
    return subprocess.Popen(this, env={**os.environ, "NOTIFY_SOCKET": str(inbox.getsockname()), **env})


# A real mount


def test_ready_when_the_tree_can_be_listed(mounts: Mounts, server: FakeS3Server, inbox: socket.socket) -> None:
    """READY comes with a status once the tree is there, and not before; SIGTERM is sent as STOPPING."""
    folder, gate = mounts.directory / "mnt", threading.Event()
    server.behaviours.append(for_kind("list_objects", held(gate)))
    with start(server, folder, inbox) as daemon:
        assert message(inbox) == {"STATUS": "asking which versions there are"}
        server.wait_until(lambda s: s.count("list_objects") == 1)
        assert not os.path.ismount(folder)
        assert is_empty(inbox)
        gate.set()
        inbox.settimeout(30)
        messages = message(inbox)
        assert messages["READY"] == "1"
        assert "README.txt" in os.listdir(folder)
        assert messages["STATUS"] == f"{folder}: 1 versions, 0.4.0 at the top; 0 MiB read, 0 MiB from S3"
        daemon.send_signal(signal.SIGTERM)
        assert message(inbox) == {"STOPPING": "1", "STATUS": "unmounting"}
    assert daemon.returncode == 0


def test_signs_of_life(mounts: Mounts, server: FakeS3Server, inbox: socket.socket) -> None:
    """With a watchdog signs of life go on coming, each with the status; an unmount by others is sent as STOPPING."""
    folder = mounts.directory / "mnt"
    with start(server, folder, inbox, WATCHDOG_USEC="200000") as daemon:
        assert "WATCHDOG" not in until_sent(inbox, "READY")
        for _ in range(5):
            assert "0.4.0 at the top" in until_sent(inbox, "WATCHDOG")["STATUS"]
        # All the while the messages are read: a socket holds ten of them, and none is waited for.
        with subprocess.Popen([sys.executable, "-m", "vbnfs", "umount", str(folder)]) as umount:
            until_sent(inbox, "STOPPING")
        assert umount.returncode == 0
    assert daemon.returncode == 0


def test_a_stopped_daemon_gives_none(mounts: Mounts, server: FakeS3Server, inbox: socket.socket) -> None:
    """A daemon that does not run gives no sign of life: the watchdog would end it."""
    with start(server, mounts.directory / "mnt", inbox, WATCHDOG_USEC="50000") as daemon:
        until_sent(inbox, "WATCHDOG")
        daemon.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.pid, os.WSTOPPED | os.WNOWAIT)
        while not is_empty(inbox):
            pass
        inbox.settimeout(0.5)  # ten times the period that it was given
        with pytest.raises(TimeoutError):
            message(inbox)
        daemon.send_signal(signal.SIGCONT)
        inbox.settimeout(30)
        until_sent(inbox, "WATCHDOG")
        daemon.send_signal(signal.SIGTERM)


def test_a_daemon_that_forked_tells_nobody(mounts: Mounts, server: FakeS3Server, inbox: socket.socket) -> None:
    """In the background nothing is sent: the supervisor started another process."""
    mount = mounts(server.endpoint_url)
    mount.umount()
    done = run_vbnfs("mount", *mount.options, mount.path, env={"NOTIFY_SOCKET": str(inbox.getsockname())})
    assert done.returncode == 0
    mount.umount()
    assert is_empty(inbox)


def test_a_supervisor_that_is_gone(mounts: Mounts, server: FakeS3Server, inbox: socket.socket) -> None:
    """A socket that nobody has is a line in the log; the mount works all the same."""
    Path(inbox.getsockname()).unlink()
    folder = mounts.directory / "mnt"
    folder.mkdir()
    command = [sys.executable, "-m", "vbnfs", "mount", "--foreground", "--endpoint-url", server.endpoint_url]
    env = {**os.environ, "NOTIFY_SOCKET": str(inbox.getsockname())}
    with subprocess.Popen([*command, str(folder)], env=env, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        assert "a message to the supervisor is lost" in daemon.stderr.readline()
        assert "event='mounted'" in daemon.stderr.readline()
        assert "README.txt" in os.listdir(folder)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)
    assert daemon.returncode == 0


# Messages


async def heard(inbox: socket.socket, supervisor: Supervisor, seconds: float) -> list[dict[str, str]]:
    """What a notifier that is ready says within this time."""
    with trio.move_on_after(seconds):
        await SystemdNotifier(supervisor).ready(lambda: f"at\n{trio.current_time():g}")
    messages = []
    with suppress(BlockingIOError):
        inbox.setblocking(False)
        while True:
            messages.append(message(inbox))
    return messages


async def test_the_period(inbox: socket.socket, autojump_clock: MockClock) -> None:
    """A sign of life comes more than twice within the watchdog's time; a status stands in one line."""
    messages = await heard(inbox, Supervisor(inbox.getsockname(), 10.0), 10.5)
    assert messages == [
        {"READY": "1", "STATUS": "at 0"},
        {"WATCHDOG": "1", "STATUS": "at 4"},
        {"WATCHDOG": "1", "STATUS": "at 8"},
    ]


async def test_no_watchdog(inbox: socket.socket, autojump_clock: MockClock) -> None:
    """Without a watchdog only the status is renewed, every half minute."""
    messages = await heard(inbox, Supervisor(inbox.getsockname(), None), 31)
    assert messages == [{"READY": "1", "STATUS": "at 0"}, {"STATUS": "at 30"}]


async def test_nobody_to_tell(autojump_clock: MockClock) -> None:
    """Without a supervisor nothing is said, and nothing waits."""
    notifier = SystemdNotifier(None)
    notifier.status("x")
    notifier.stopping()
    await notifier.ready(lambda: "x")
    assert trio.current_time() == 0


async def test_abstract_sockets() -> None:
    """`@name` is an abstract socket, unix(7)."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as inbox:
        inbox.bind("")  # the kernel chooses a name
        SystemdNotifier(Supervisor("@" + inbox.getsockname()[1:].decode(), None)).stopping()
        assert message(inbox)["STOPPING"] == "1"
