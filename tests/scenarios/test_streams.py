"""Standard streams that are closed, full, or read by nobody: commands do what they are for, and end as documented."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.host.mountinfo import find_mount

CLOSED = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
FILE = "project_metadata/units.csv"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {FILE: b"unit_id\n1\n"}}) as server:
        yield server


def closed_run(closed: tuple[int, ...], *arguments: str | Path, module: str = "vbnfs") -> tuple[int, str, str]:
    """The status of a command that is started without some of the descriptors 0 to 2, and what it writes."""
    closing = " ".join(f"{number}>&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", CLOSED)
def test_a_mount_without_standard_streams(server: FakeS3Server, mounts: Mounts, closed: tuple[int, ...]) -> None:
    """Mounting, asking, reading and unmounting work with any of 0 to 2 closed, without a word more."""
    mount = Mount(mounts.directory / "mnt", [])
    mounts.made.append(mount)
    mount.path.mkdir()
    assert closed_run(closed, "mount", "--endpoint-url", server.endpoint_url, mount.path)[::2] == (0, "")
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    status, out, err = closed_run(closed, "status", mount.path)
    assert (status, str(mount.path) in out, err) == (0, 1 not in closed, "")
    mount.status()  # it still answers
    assert closed_run(closed, "umount", mount.path) == (0, "", "")
    assert closed_run(closed, "umount", mount.path)[0] == 1
    if len(closed) == 2:
        return
    options = f"endpoint_url={server.endpoint_url}"
    helper = "vbnfs.cli.mount_helper"
    assert closed_run(closed, PROJECT, mount.path, "-o", options, module=helper) == (0, "", "")
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    status, out, err = closed_run(closed, PROJECT, mount.path, "-o", options, module=helper)
    assert (status, out, "already a vbnfs mount" in err) == (32, "", 2 not in closed)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_in_the_foreground(server: FakeS3Server, mounts: Mounts, closed: tuple[int, ...]) -> None:
    """A mount in the foreground answers with any of the descriptors 0 to 2 closed, and ends with status 0."""
    mount = Mount(mounts.directory / "mnt", [])
    mounts.made.append(mount)
    mount.path.mkdir()
    closing = " ".join(f"{number}>&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", "vbnfs", "mount", "--foreground"]
    process = subprocess.Popen([*command, "--endpoint-url", server.endpoint_url, mount.path])
    until(lambda: find_mount(mount.path) is not None or process.poll() is not None)
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize("command", [["status"], ["versions"], ["--help"], ["verify", "--fetch", FILE]])
def test_nobody_reads(server: FakeS3Server, mounts: Mounts, command: list[str]) -> None:
    """A command whose output nobody reads ends with status 1, without a word."""
    mounts(server.endpoint_url)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "vbnfs", *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "VBNFS_ENDPOINT_URL": server.endpoint_url},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("kind", ["nobody reads", "full"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_mount_that_cannot_be_reported(server: FakeS3Server, mounts: Mounts, kind: str, stream: str) -> None:
    """Where no word can be written, mounting ends with 0, for it is mounted, and failures keep their status."""
    mount = Mount(mounts.directory / "mnt", [])
    mounts.made.append(mount)
    mount.path.mkdir()
    if kind == "full":
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    for expected in (0, 1):
        command = [sys.executable, "-m", "vbnfs", "mount", "--endpoint-url", server.endpoint_url, str(mount.path)]
        where = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: output}
        done = subprocess.run(command, check=False, **where)  # type: ignore[call-overload]
        assert (done.returncode, b"Traceback" in (done.stderr or b"")) == (expected, False)
    assert (mount.path / FILE).read_bytes() == b"unit_id\n1\n"
    os.close(output)


def test_verifying_that_cannot_be_reported(server: FakeS3Server) -> None:
    """A result that cannot be written is a failure in one line; a summary that cannot be is none."""
    command = [sys.executable, "-m", "vbnfs", "verify", "--fetch", "--endpoint-url", server.endpoint_url, FILE]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
        assert (done.returncode, done.stdout.split()[0]) == (0, "good")
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, "vbnfs: standard output: No space left on device\n")
