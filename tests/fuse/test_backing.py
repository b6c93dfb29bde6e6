"""Real mounts of a file that the kernel reads by itself, from another one: passthrough."""

import errno
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fuse.test_device import Files, Mounted, serving
from vbnfs.fuse.engines import ENGINES, Connection
from vbnfs.fuse.operations import Backing, Opened
from vbnfs.host.mount_programs import detach

BYTES = bytes(range(256)) * 4096  # 1 MiB
INODE = 2

pytestmark = pytest.mark.root


@dataclass
class Passed(Files):
    """Its files are read by the kernel from `backing`, as soon as there is one."""

    backing: Backing | None = None
    opened: list[Backing | None] = field(default_factory=list)

    def open(self, inode: int, flags: int, pid: int) -> Opened:
        self.opened.append(self.backing)
        return Opened(inode, backing=self.backing)


@asynccontextmanager
async def passing(path: Path, source: Path) -> AsyncIterator[tuple[Passed, Mounted]]:
    """Serve a file of the daemon's own bytes, which are not those of the file `source` that the kernel reads."""
    files = Passed({b"file": bytes(len(BYTES))})
    async with serving(files, path, stack_depth=1) as mounted:
        await mounted.connection.agreed.wait()
        files.backing = backing_of(mounted.connection, source)
        yield files, mounted


def backing_of(connection: Connection, source: Path) -> Backing:
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return connection.open_backing(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file that the kernel reads."""
    path = tmp_path / "source"
    path.write_bytes(BYTES)
    return path


async def test_no_read_reaches_the_daemon(mountpoint: Path, source: Path) -> None:
    """read, pread, mmap and sendfile give the other file's bytes, and only OPEN and RELEASE are asked."""
    async with passing(mountpoint, source) as (files, mounted):

        def work() -> None:
            with (mountpoint / "file").open("rb") as file:
                assert file.read() == BYTES
                assert os.pread(file.fileno(), 1000, 4095) == BYTES[4095:5095]
                assert os.pread(file.fileno(), 1000, len(BYTES)) == b""
                assert os.pread(file.fileno(), 1000, len(BYTES) - 10) == BYTES[-10:]
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    assert mapped[:] == BYTES
                copy = mountpoint.parent / "copy"
                with copy.open("wb") as target:
                    assert os.sendfile(target.fileno(), file.fileno(), 0, len(BYTES)) == len(BYTES)
                assert copy.read_bytes() == BYTES
                assert os.fstat(file.fileno()).st_ino == INODE

        await mounted.does(work)
    assert files.asked["read"] == 0
    assert files.asked["release"] == 1
    assert files.failures == []


async def test_bytes_beyond_the_inode(mountpoint: Path, source: Path) -> None:
    """The kernel reads the other file to its own end, whatever size the inode shows: it must have no more bytes."""
    with source.open("ab") as file:
        file.write(b"more")
    async with passing(mountpoint, source) as (_, mounted):
        data = await mounted.does((mountpoint / "file").read_bytes)
        assert data in (BYTES, BYTES + b"more")  # Python's read() asks for the inode's size, and then once more


async def test_ways_of_reading_are_not_mixed(mountpoint: Path, source: Path) -> None:
    """While a file is open in one way, open(2) in the other way fails with EIO, and so does another number."""
    async with passing(mountpoint, source) as (files, mounted):
        path, passed = mountpoint / "file", files.backing

        def opened_as(backing: Backing | None) -> int:
            files.backing = backing
            return os.open(path, os.O_RDONLY)

        def refused_as(backing: Backing | None) -> None:
            with pytest.raises(OSError, match="Input/output error"):
                os.close(opened_as(backing))

        other = backing_of(mounted.connection, source)

        def work() -> None:
            for backing, wrong in ((passed, (None, other)), (None, (passed, other))):
                descriptor = opened_as(backing)
                for each in wrong:
                    refused_as(each)
                again = opened_as(backing)
                os.close(again)
                os.close(descriptor)

        await mounted.does(work)
    assert files.asked["release"] == len(files.opened) == 8  # each that was answered, refused by the kernel or not


async def test_a_number_that_was_given_back(mountpoint: Path, source: Path) -> None:
    """Files that are open are read on, also when the other file is gone; no other one can be opened with it."""
    async with passing(mountpoint, source) as (files, mounted):

        def work() -> None:
            with (mountpoint / "file").open("rb") as file:
                assert files.backing is not None
                mounted.connection.close_backing(files.backing)
                mounted.connection.close_backing(files.backing)  # no error
                source.unlink()
                assert file.read() == BYTES
            with pytest.raises(OSError, match="Input/output error"):
                (mountpoint / "file").read_bytes()

        await mounted.does(work)
    assert files.asked["read"] == 0


async def test_what_the_kernel_does_not_read(mountpoint: Path, source: Path) -> None:
    """A folder, and a file of a mount that is stacked itself, are refused with a reason, and the mount goes on."""
    async with passing(mountpoint, source) as (_, mounted):
        with pytest.raises(OSError, match="directory") as refused:
            backing_of(mounted.connection, source.parent)
        assert refused.value.errno == errno.EISDIR
        itself = await mounted.does(os.open, mountpoint / "file", os.O_RDONLY)
        with pytest.raises(OSError, match="symbolic links") as refused:
            mounted.connection.open_backing(itself)
        assert refused.value.errno == errno.ELOOP
        await mounted.does(os.close, itself)  # which asks the daemon


@pytest.mark.parametrize(("engine", "depth"), [("native", 0), ("pyfuse3", 1)])
async def test_without_it(mountpoint: Path, source: Path, engine: str, depth: int) -> None:
    """Where nobody asked for it, or the engine does not have it, a backing is refused, and files are read as ever."""
    assert ENGINES[engine].reads_files_itself == (engine == "native")
    files = Files({b"file": b"bytes"})
    async with serving(files, mountpoint, engine=engine, stack_depth=depth) as mounted:
        assert await mounted.does((mountpoint / "file").read_bytes) == b"bytes"
        with pytest.raises(OSError, match="does not offer it") as refused:
            backing_of(mounted.connection, source)
        assert refused.value.errno == errno.ENOTSUP
        mounted.connection.close_backing(Backing(1))


SERVES = """
import sys
from pathlib import Path
import trio
from tests.fuse.test_backing import BYTES, Passed, backing_of
from vbnfs.fuse.engines import load
files = Passed({b"file": bytes(len(BYTES))})
connection = load("native")(Path(sys.argv[1]), ["ro", "subtype=vbnfs"], files, is_busy=lambda: False, stack_depth=1)
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.serve)
        await connection.agreed.wait()
        files.backing = backing_of(connection, Path(sys.argv[2]))
        print("ready", flush=True)
trio.run(main)
"""


def test_readers_outlive_the_daemon(mountpoint: Path, source: Path) -> None:
    """After kill -9 of what serves the mount, a file that is open is read and mapped on; a new open fails at once."""
    command = [sys.executable, "-c", SERVES, str(mountpoint), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            with (mountpoint / "file").open("rb") as file:
                assert file.read(10) == BYTES[:10]
                server.send_signal(signal.SIGKILL)
                server.wait()
                assert file.read() == BYTES[10:]
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    assert mapped[-10:] == BYTES[-10:]
                with pytest.raises(OSError, match="not connected"):
                    (mountpoint / "file").read_bytes()
        finally:
            server.kill()
            detach(mountpoint, lazy=True)
