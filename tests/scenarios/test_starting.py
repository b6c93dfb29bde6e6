"""How a mount begins: several at once, one that is not wanted any more, one that waits, one that lacks something."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.children import children_of
from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until, without_address
from tests.mount_namespaces import ALONE
from tests.scenarios.test_ends import threads_of
from vbnfs.daemon.alone import alone_on
from vbnfs.fuse.mounting import open_mount
from vbnfs.host.mount_programs import is_alive
from vbnfs.host.mountinfo import find_mount, mounts_on
from vbnfs.host.runtime import runtime_directory

VBNFS = (sys.executable, "-m", "vbnfs")
HELPER = (sys.executable, "-m", "vbnfs.cli.mount_helper")
FILE = "project_metadata/units.csv"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {FILE: b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """A server that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def begin(*command: str | Path) -> "subprocess.Popen[str]":
    """Start a command without waiting for it."""
    words = list(map(str, command))
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# Several at once


def left_by_a_dead_daemon(mount: Mount) -> None:
    os.kill(mount.status()["pid"], signal.SIGKILL)
    until(lambda: not is_alive(mount.path))


def without_notes(text: str) -> str:
    """What a command writes, but that it waits, which it may on a busy machine, and where to read on."""
    lines = without_address(text).splitlines(keepends=True)
    return "".join(line for line in lines if ": waiting for " not in line)


@pytest.mark.parametrize("is_dead", [False, True])
def test_one_of_many_wins(server: FakeS3Server, mounts: Mounts, is_dead: bool) -> None:
    """Of eight that mount on one folder at the same time one does, over a dead mount, too; the others fail."""
    mount = mounts(server.endpoint_url)
    path, url = str(mount.path), server.endpoint_url
    if is_dead:
        left_by_a_dead_daemon(mount)
    else:
        mount.umount()
    commands = [*VBNFS, "mount", "--endpoint-url", url, path], [*HELPER, PROJECT, path, "-o", f"endpoint_url={url}"]
    running = [begin(*commands[number % 2]) for number in range(8)]
    printed = [(without_notes(process.communicate(timeout=60)[1]), process.returncode) for process in running]
    refused = f"vbnfs: {path}: already a vbnfs mount; 'vbnfs umount {path}' takes it away\n"
    expected = [(refused, 1), (f"mount.{refused}", 32)] * 4
    assert [one for one, other in zip(printed, expected, strict=True) if one != other] == [("", 0)]
    assert len(mounts_on(mount.path)) == 1
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    mount.umount()
    assert mounts_on(mount.path) == []


def test_a_lock_of_a_dead_process(tmp_path: Path) -> None:
    """A process that is killed while it has the folder leaves it to the next one, and no file for long."""
    script = f"""
import time
from pathlib import Path
from vbnfs.daemon.alone import alone_on
with alone_on(Path({str(tmp_path)!r})):
    print("mine", flush=True)
    time.sleep(60)
"""
    holder = begin(sys.executable, "-c", script)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    left = list(runtime_directory(os.getuid()).glob("*.lock"))
    assert len(left) == 1
    holder.kill()
    holder.communicate()
    with alone_on(tmp_path):
        assert list(runtime_directory(os.getuid()).glob("*.lock")) == left
    assert not left[0].exists()


def test_a_stack_is_reported(server: FakeS3Server, mounts: Mounts) -> None:
    """Of mounts that stand one above the other `umount` takes away the topmost, and tells what is left."""
    mount = mounts(server.endpoint_url)
    device = open_mount(mount.path, ["ro", "subtype=vbnfs"])  # by something else than `vbnfs mount`
    device.close()
    done = run_vbnfs("umount", mount.path)
    path = mount.path
    printed = f"vbnfs: {path}: one mount is gone, and 1 below it is still there; 'vbnfs umount {path}' takes away one"
    assert (done.returncode, without_address(done.stderr)) == (1, f"{printed} at a time\n")
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    mount.umount()


def test_dead_mounts_in_a_stack_are_all_cleared(server: FakeS3Server, mounts: Mounts) -> None:
    """Where several dead mounts stand one above the other, mounting clears all of them."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    device = open_mount(mount.path, ["ro", "subtype=vbnfs"])
    os.kill(pid, signal.SIGKILL)
    device.close()
    until(lambda: not is_alive(mount.path))
    mount.mount()
    assert len(mounts_on(mount.path)) == 1


# Not wanted any more


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("flags", [[], ["--foreground"]])
def test_killed_while_it_waits(silence: socket.socket, tmp_path: Path, number: int, flags: list[str]) -> None:
    """What ends `vbnfs mount` while it waits ends its daemon: nothing is mounted, no process is left."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    process = begin(*VBNFS, "mount", *flags, "--endpoint-url", url_of(silence), mountpoint)
    connection, _ = silence.accept()
    children = [os.pidfd_open(pid) for pid in children_of(process.pid)]
    assert len(children) == (0 if flags else 1)
    process.send_signal(number)
    process.wait(20)
    for child in children:
        assert select.select([child], [], [], 5)[0] == [child]
        os.close(child)
    process.communicate()
    connection.close()
    assert find_mount(mountpoint) is None
    mountpoint.rmdir()  # nothing holds it


def files_of(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


# Waiting


def test_interrupted_when_it_is_mounted(server: FakeS3Server, mountpoint: Path, tmp_path: Path) -> None:
    """Ctrl-C that comes as the daemon gives its word: when the command ends, mount, daemon and folder are gone."""
    folder, log_file = mountpoint, tmp_path / "vbnfs.log"
    folder.rmdir()
    process = begin(*VBNFS, "mount", "--endpoint-url", server.endpoint_url, folder)
    # It has the log open until it has a daemon to wait for.
    until(lambda: log_file.exists() and str(log_file) not in files_of(process.pid))
    [child] = children_of(process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: '"mounted"' in log_file.read_text())
    for number in (signal.SIGINT, signal.SIGCONT):
        os.kill(process.pid, number)
    printed = process.communicate(timeout=20)[1]
    assert (process.returncode, printed.strip()) == (130, "vbnfs: interrupted")
    assert (threads_of(child), find_mount(folder), folder.exists()) == ([], None, False)


def test_a_server_that_says_nothing(
    silence: socket.socket, tmp_path: Path, mounts: Mounts, server: FakeS3Server
) -> None:
    """After two seconds it is said, once, what is waited for; at the end, why there is no mount.

    mount(8)'s helper says nothing meanwhile, unless it is to tell more. Other commands say it, too. What is stored of
    a dataset is mounted sooner.
    """
    mounted = mounts(server.endpoint_url)
    url = url_of(silence)
    mounted.umount()
    server.behaviours.append(for_kind("list_objects", held(threading.Event())))
    for index in (tmp_path / "cache").rglob("index"):
        os.utime(index, (0, 0))  # it is asked for again
    stored = begin(*VBNFS, "mount", "--endpoint-url", server.endpoint_url, mounted.path)
    asking = begin(*VBNFS, "versions", "--endpoint-url", url)
    commands = {
        "plain": (*VBNFS, "mount", "--endpoint-url", url),
        "foreground": (*VBNFS, "mount", "--foreground", "--endpoint-url", url),
        "helper": (*HELPER, PROJECT, "-o", f"endpoint_url={url}"),
        "verbose": (*HELPER, PROJECT, "-v", "-o", f"endpoint_url={url}"),
    }
    running = {}
    for name, command in commands.items():
        (tmp_path / name).mkdir()
        running[name] = begin(*command, tmp_path / name)
    waiting = f"vbnfs: waiting for {url} to answer which versions {PROJECT}-data has; Ctrl-C ends it\n"
    assert (stderr := running["plain"].stderr) is not None
    assert stderr.readline() == waiting
    assert running["plain"].poll() is None  # it is said while it waits
    out, err = stored.communicate(timeout=60)
    assert out == f"mounted 0.4.0 at {mounted.path}\n"
    assert err.startswith(waiting.replace(url, server.endpoint_url))
    assert "mounted from what is kept" in err
    assert running["foreground"].poll() is None  # it was sooner than those that have nothing stored
    printed = {name: process.communicate(timeout=60) for name, process in running.items()}
    assert [process.returncode for process in running.values()] == [1, 1, 32, 32]
    assert "".join(out for out, _ in printed.values()) == ""
    assert [err.count(": waiting for ") for _, err in printed.values()] == [0, 1, 0, 1]
    for _, err in printed.values():
        assert "check the network, --endpoint-url" in err.splitlines()[-2]
        assert "vbnfs: see " in err.splitlines()[-1]
    out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out, err.startswith(waiting), without_address(err).count("\n")) == (1, "", True, 2)


# What is lacking


@pytest.mark.parametrize("limit", [10, 16, 32, 63, 64])
def test_few_open_files(server: FakeS3Server, mounts: Mounts, limit: int) -> None:
    """With few open files allowed a mount works, or it says how many it needs; the log is not asked for."""
    mount = Mount(mounts.directory / "mnt", [])
    mounts.made.append(mount)
    mount.path.mkdir()
    limited = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *VBNFS, "mount"]
    done = subprocess.run(
        [*limited, "--endpoint-url", server.endpoint_url, mount.path], capture_output=True, text=True, check=False
    )
    if limit < 64:
        assert (done.returncode, without_address(done.stderr).count("\n")) == (1, 1), done.stderr
        assert f"may have {limit} files open, and a mount needs 64 at the least" in done.stderr
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    assert mount.status()["pid"]
    mount.umount()


def test_files_that_may_not_be_large(mounts: Mounts) -> None:
    """Where a limit (ulimit -f) keeps files small, mounting warns, and all is read; a soft limit is raised."""
    data = Pattern(3_000_001)
    with serve({"0.4.0": {FILE: data}}) as server:
        mount = Mount(mounts.directory / "mnt", [])
        mounts.made.append(mount)
        mount.path.mkdir()
        limited = ["bash", "-c", 'ulimit -f 1024; exec "$@"', "bash", *VBNFS, "mount"]
        done = subprocess.run(
            [*limited, "--endpoint-url", server.endpoint_url, mount.path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
        assert "what is behind the first 1 MiB of a file is not kept" in done.stderr
        assert (mount.path / FILE).read_bytes() == data[:]
        mount.umount()
        limited[2] = limited[2].replace("-f", "-Sf")  # which a mount may raise
        done = subprocess.run(
            [*limited, "--endpoint-url", server.endpoint_url, mount.path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert (mount.path / FILE).read_bytes() == data[:]
        until(lambda: os.getxattr(mount.path / FILE, "user.vbnfs.cached") == b"%d" % len(data))
        mount.umount()


@pytest.mark.parametrize("flags", [[], ["--foreground"]])
@pytest.mark.parametrize("limit", [40_000, 60_000, 131_071])
def test_little_memory(server: FakeS3Server, tmp_path: Path, limit: int, flags: list[str]) -> None:
    """Where the system grants less memory than a mount takes, it fails at once, and says how much that is."""
    (tmp_path / "mnt").mkdir()
    limited = ["sh", "-c", f'ulimit -d {limit}; exec "$@"', "sh", *VBNFS, "mount", *flags]
    done = subprocess.run(
        [*limited, "--endpoint-url", server.endpoint_url, tmp_path / "mnt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    printed = f"this process may take {limit >> 10} MiB of memory, and a mount needs 128 at least"
    reason = without_address(done.stderr)
    assert (done.returncode, printed in reason, reason.count("\n")) == (1, True, 1), done.stderr
    assert find_mount(tmp_path / "mnt") is None


def test_the_least_memory_is_enough(server: FakeS3Server, mounts: Mounts) -> None:
    """With the memory that a mount asks for it works."""
    mount = Mount(mounts.directory / "mnt", [])
    mounts.made.append(mount)
    mount.path.mkdir()
    limited = ["sh", "-c", 'ulimit -d 131072; exec "$@"', "sh", *VBNFS, "mount", "--memory-limit", "16M"]
    done = subprocess.run(
        [*limited, "--endpoint-url", server.endpoint_url, mount.path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    mount.umount()


def test_a_log_that_nobody_reads(server: FakeS3Server, tmp_path: Path) -> None:
    """A pipe in the place of the log file, without a reader, is reported at once, and not waited for."""
    (tmp_path / "mnt").mkdir()
    os.mkfifo(tmp_path / "log")
    command = [
        *VBNFS,
        "mount",
        "--log-file",
        tmp_path / "log",
        "--endpoint-url",
        server.endpoint_url,
        tmp_path / "mnt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, f"log file {tmp_path / 'log'}" in done.stderr) == (1, True), done.stderr


def test_a_daemon_that_is_killed_at_its_beginning(silence: socket.socket, tmp_path: Path) -> None:
    """A daemon that is killed before it has said a word is reported by the signal's name."""
    (tmp_path / "mnt").mkdir()
    process = begin(*VBNFS, "mount", "--endpoint-url", url_of(silence), tmp_path / "mnt")
    connection, _ = silence.accept()
    [child] = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    _, printed = process.communicate(timeout=20)
    connection.close()
    assert (process.returncode, "the daemon was killed (SIGKILL) before the mount was there" in printed) == (1, True)


_STOPPED = """
import select, subprocess, sys, threading
from contextlib import suppress
from pathlib import Path
from vbnfs.fuse.device import Unmounted
from vbnfs.fuse.mounting import open_mount
from vbnfs.fuse.protocol import Opcode, agree

folder = sys.argv[1]
device = open_mount(Path(folder), ["ro", "subtype=vbnfs", "fsname=x"])

def hear():
    with suppress(Unmounted):
        while select.select([device.descriptor], [], []):
            request = device.read()
            if request is not None and request[0].opcode == Opcode.INIT:
                device.reply(request[0].unique, agree(request[1]).body)

threading.Thread(target=hear, daemon=True).start()
for command in ["mount", "--offline"], ["status"], ["umount", "--lazy"]:
    asking = subprocess.Popen([sys.executable, "-m", "vbnfs", *command, folder], stderr=subprocess.PIPE, text=True)
    try:
        lines = asking.communicate(timeout=20)[1].splitlines()
        notes = [line for line in lines if ": waiting for " in line]
        printed = "".join(line for line in lines if line not in notes).partition(";")[0].strip()
        if command == ["status"]:
            print(*notes)
    except subprocess.TimeoutExpired:
        printed = "it does not end"
        asking.kill()
    print(asking.returncode, printed, flush=True)
device.close()
"""


@pytest.mark.root
def test_a_daemon_that_was_stopped_with_a_question(tmp_path: Path) -> None:
    """Commands end that ask a mount whose daemon reads the kernel's questions and answers none."""
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", _STOPPED, tmp_path / "mnt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    printed = done.stdout.replace(f"{tmp_path}/mnt: ", "").splitlines()
    assert printed[:1] == ["1 vbnfs: already a vbnfs mount"], done.stderr
    assert printed[1] == f"vbnfs: waiting for the daemon of {tmp_path}/mnt"
    assert printed[2].startswith("1 vbnfs: it works, but its control socket")
    assert printed[3:] == ["0 "]


@pytest.mark.root
def test_a_closed_device(tmp_path: Path) -> None:
    """Where only root may open /dev/fuse, the message for others says what root can do about it."""
    script = f"""
        mknod -m 600 {tmp_path}/fuse c 10 229 && mount --bind {tmp_path}/fuse /dev/fuse || exit 9
        exec setpriv --reuid 65534 --regid 65534 --clear-groups {sys.executable} -c "$1"
    """
    python = """
from vbnfs.errors import MountError
from vbnfs.daemon.machine import check_machine
try:
    check_machine()
except MountError as error:
    print(error)
"""
    done = subprocess.run(
        [*ALONE, "sh", "-c", script, "sh", python],
        capture_output=True,
        text=True,
        check=False,
        # Coverage is not measured in there: its file is root's.
        env={name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")},
    )
    printed = "/dev/fuse: not open to everybody; as root, run: chmod 666 /dev/fuse\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
