"""Real mounts of a few files in memory: what the kernel makes of the answers, and how mounting fails."""

import errno
import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from vbnfs.fuse.device import Device, Unmounted
from vbnfs.fuse.engines import ENGINES, NATIVE, Connection, load
from vbnfs.fuse.mounting import open_mount
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Attr,
    Buffer,
    DirEntry,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
)
from vbnfs.fuse.protocol import attributes_changed
from vbnfs.host import mount_programs
from vbnfs.host.mount_programs import detach
from vbnfs.host.mountinfo import find_mount

ROOT = 1
LONG_SECONDS = 3600.0
DEADLINE_SECONDS = 60
BEFORE_1970_NS = -1_500_000_001
SUBTYPE = "subtype=vbnfs"
XATTR = "user.long"
Result = TypeVar("Result")


@dataclass
class Files:
    """A folder of files in memory. Counts what is asked; inode 2 is the first name's."""

    files: dict[bytes, bytes]
    links: dict[bytes, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    read_later: Callable[[], Answer[Buffer]] | None = None

    def __post_init__(self) -> None:
        self.names = [b".", b"..", *self.files, *self.links]
        self.inodes = {name: number for number, name in enumerate(self.names[2:], 2)}

    def _attr(self, inode: int) -> Attr:
        name = self.names[inode] if inode != ROOT else b"."
        kind = stat.S_IFDIR if inode == ROOT else stat.S_IFLNK if name in self.links else stat.S_IFREG
        size = len(self.files.get(name, b""))
        return Attr(
            inode=inode,
            mode=kind | 0o555,
            size_bytes=size,
            blocks=-(-size // 512),
            links=1,
            uid=os.getuid(),
            gid=os.getgid(),
            modified_ns=BEFORE_1970_NS,
            preferred_read_bytes=4096,
        )

    def _entry(self, inode: int) -> Entry:
        return Entry(self._attr(inode), entry_seconds=LONG_SECONDS, attr_seconds=LONG_SECONDS)

    def lookup(self, parent: int, name: bytes) -> Entry | Absent:
        self.asked["lookup"] += 1
        inode = self.inodes.get(name)
        return Absent(LONG_SECONDS) if inode is None else self._entry(inode)

    def getattr(self, inode: int) -> Entry:
        self.asked["getattr"] += 1
        return self._entry(inode)

    def readlink(self, inode: int, uid: int, pid: int) -> bytes:
        return self.links[self.names[inode]]

    def look_ahead(self) -> None:
        pass

    def list(self, inode: int) -> Listing:
        self.asked["list"] += 1
        listed = [(name, self.inodes.get(name, ROOT)) for name in self.names]
        return Listing(
            [
                DirEntry(name, inode, self._attr(inode).mode, self._entry(inode) if inode != ROOT else None)
                for name, inode in listed
            ]
        )

    def open(self, inode: int, flags: int, pid: int) -> Opened:
        return Opened(inode)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        self.asked["read"] += 1
        if self.read_later is not None:
            return self.read_later()
        return memoryview(self.files[self.names[handle]])[offset : offset + size]

    def release(self, handle: int) -> None:
        self.asked["release"] += 1

    def statfs(self) -> FileSystemStatus:
        return FileSystemStatus(
            block_bytes=4096,
            blocks=1000,
            free_blocks=900,
            available_blocks=900,
            inodes=len(self.names),
            longest_name=255,
        )

    def getxattr(self, inode: int, name: bytes) -> bytes:
        if name != XATTR.encode():
            raise ErrnoReply(errno.ENODATA)
        return b"v" * 300

    def listxattr(self, inode: int) -> Sequence[bytes]:
        return [XATTR.encode()]

    def errno_of(self, request: str, error: Exception) -> int:
        self.failures.append((request, error))
        return errno.EIO


@dataclass
class Mounted:
    """A mount that is served."""

    path: Path
    connection: Connection
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    async def does(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a program sees that looks at the mount, in a thread."""
        with trio.fail_after(DEADLINE_SECONDS):
            return await trio.to_thread.run_sync(partial(function, *arguments), abandon_on_cancel=True)


@asynccontextmanager
async def serving(
    files: Files, path: Path, *options: str, engine: str = NATIVE, stack_depth: int = 0
) -> AsyncIterator[Mounted]:
    """Serve `files` on a folder, unmounted at the end."""
    connection = load(engine)(path, ["ro", SUBTYPE, *options], files, is_busy=lambda: False, stack_depth=stack_depth)
    mounted = Mounted(path, connection)

    async def serve() -> None:
        try:
            with mounted.scope:
                await connection.serve()
        finally:
            connection.close()  # the kernel answers the test's threads, should the engine have failed
            mounted.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield mounted
        connection.stop()


@pytest.mark.parametrize("engine", ENGINES)
async def test_files_are_what_was_answered(mountpoint: Path, engine: str) -> None:
    """Bytes, sizes, kinds, times before 1970, links and the state of the file system arrive as they were answered."""
    files = Files({b"file": b"0123456789" * 1000, b"empty": b""}, {b"link": b"file"})
    async with serving(files, mountpoint, engine=engine) as mounted:
        assert await mounted.does((mountpoint / "file").read_bytes) == b"0123456789" * 1000
        assert await mounted.does((mountpoint / "empty").read_bytes) == b""
        assert await mounted.does(os.readlink, mountpoint / "link") == "file"
        status = await mounted.does(os.stat, mountpoint / "file")
        assert (status.st_ino, status.st_size, status.st_blocks, status.st_nlink) == (2, 10000, 20, 1)
        assert status.st_mode == stat.S_IFREG | 0o555
        assert {status.st_mtime_ns, status.st_atime_ns, status.st_ctime_ns} == {BEFORE_1970_NS}
        space = await mounted.does(os.statvfs, mountpoint)
        assert (space.f_bsize, space.f_frsize, space.f_blocks) == (4096, 4096, 1000)
        assert (space.f_bavail, space.f_files) == (900, 5)
        with pytest.raises(FileNotFoundError):
            await mounted.does(os.stat, mountpoint / "nothing")
    assert files.failures == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_names_of_any_bytes(mountpoint: Path, engine: str) -> None:
    """Names need not be text: whatever bytes they are of, they are listed and found."""
    odd = [b"\xff\xfe", b"new\nline", "häß".encode(), b"a,b\\c", b"-", b" ", b"x" * 255, b"caf\xe9.nwb"]
    async with serving(Files({name: name for name in odd}), mountpoint, engine=engine) as mounted:
        listed = await mounted.does(os.listdir, mountpoint)
        assert sorted(map(os.fsencode, listed)) == sorted(odd)
        for name in odd:
            path = Path(os.fsdecode(os.path.join(os.fsencode(mountpoint), name)))  # noqa: PTH118 - of bytes
            assert await mounted.does(path.read_bytes) == name


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_listing_is_kept(mountpoint: Path, engine: str) -> None:
    """A second look asks for nothing but the names, of an engine by which the kernel does not keep them."""
    files = Files({b"a": b"1", b"b": b"2"})
    async with serving(files, mountpoint, engine=engine) as mounted:

        def look() -> list[tuple[str, int]]:
            with os.scandir(mountpoint) as entries:
                return [(entry.name, entry.stat().st_size + len(Path(entry.path).read_bytes())) for entry in entries]

        first = await mounted.does(look)
        asked = Counter(files.asked)
        assert asked["list"] > 0
        assert await mounted.does(look) == first == [("a", 2), ("b", 2)]
        asked["release"] = files.asked["release"]
        if not ENGINES[engine].keeps_listings:
            assert files.asked["list"] > asked["list"]
            asked["list"] = files.asked["list"]
        assert files.asked == asked


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_large_folder_is_listed_in_parts(mountpoint: Path, engine: str) -> None:
    """A folder of 5,000 names comes in parts, each name once and with its kind, and no attributes are asked for."""
    files = Files({f"file {number:04}".encode(): b"" for number in range(5000)})
    async with serving(files, mountpoint, engine=engine) as mounted:

        def look() -> list[tuple[str, bool]]:
            with os.scandir(mountpoint) as entries:
                return [(entry.name, entry.is_file(follow_symlinks=False)) for entry in entries]

        listed = await mounted.does(look)
        assert listed == [(f"file {number:04}", True) for number in range(5000)]
        assert files.asked["list"] > 10
        assert files.asked["lookup"] == 0


@pytest.mark.parametrize("engine", ENGINES)
async def test_changed_attributes_are_asked_for(mountpoint: Path, engine: str) -> None:
    """After `attributes_changed` the kernel asks for the attributes again, and keeps the bytes that it has."""
    files = Files({b"file": b"bytes"})
    async with serving(files, mountpoint, engine=engine) as mounted:
        path = mountpoint / "file"
        await mounted.does(path.read_bytes)
        await mounted.does(os.stat, path)
        asked = Counter(files.asked)
        mounted.connection.invalidate_attributes(files.inodes[b"file"])
        mounted.connection.invalidate_attributes(12345)  # which the kernel has never met
        assert files.asked["getattr"] == asked["getattr"]
        await mounted.does(os.stat, path)
        assert files.asked["getattr"] == asked["getattr"] + 1
        assert await mounted.does(path.read_bytes) == b"bytes"
        assert files.asked["read"] == asked["read"]


@pytest.mark.root
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_notice_waits_for_no_read(mountpoint: Path, engine: str) -> None:
    """Of a file that is read ahead, is closed and is thrown out of memory, while these reads have no answer."""
    files = Files({b"file": bytes(1 << 20)})
    asked, answered = trio.Event(), trio.Event()

    async def later() -> Buffer:
        asked.set()
        await answered.wait()
        raise ErrnoReply(errno.EIO)

    files.read_later = later

    def begin_and_leave() -> None:
        descriptor = os.open(mountpoint / "file", os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        os.close(descriptor)

    async with serving(files, mountpoint, engine=engine) as mounted, trio.open_nursery() as nursery:
        await mounted.does(begin_and_leave)
        await asked.wait()
        throw_out = ["mount", "-i", "-o", "remount,ro", str(mountpoint)]  # which drops all names that nobody uses
        nursery.start_soon(partial(trio.run_process, throw_out, capture_stderr=True))
        for _ in range(100):
            await mounted.does(mounted.connection.invalidate_attributes, files.inodes[b"file"])
        assert files.asked["release"] == 0
        answered.set()


@pytest.mark.parametrize("engine", ENGINES)
async def test_programs_do_what_they_do_elsewhere(mountpoint: Path, engine: str) -> None:
    """access, flock, fsync, holes, ioctl, poll, sendfile and copy_file_range need no operation of their own."""
    async with serving(Files({b"file": b"bytes" * 1000}), mountpoint, engine=engine) as mounted:

        def work() -> None:
            path = mountpoint / "file"
            assert os.access(path, os.R_OK)
            with path.open("rb") as file:
                descriptor = file.fileno()
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.fsync(descriptor)
                assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 5000
                assert os.lseek(descriptor, 10, os.SEEK_DATA) == 10
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                assert poll.poll(0) == [(descriptor, select.POLLIN)]
                with pytest.raises(OSError, match="ioctl") as caught:
                    fcntl.ioctl(descriptor, 0x80086601, bytes(8))  # FS_IOC_GETFLAGS, as lsattr does
                assert caught.value.errno == errno.ENOTTY
                copy = mountpoint.parent / "copy"
                with copy.open("wb") as target:
                    sent = os.sendfile(target.fileno(), descriptor, 0, 5000)
                    assert sent == 5000
                assert copy.read_bytes() == b"bytes" * 1000
            done = subprocess.run(["cp", "--reflink=auto", path, copy], check=False, capture_output=True)
            assert (done.returncode, done.stderr) == (0, b"")

        await mounted.does(work)


@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_can_be_changed(mountpoint: Path, engine: str) -> None:
    """Whatever would change a file fails as on any read-only file system."""
    async with serving(Files({b"file": b"bytes"}), mountpoint, engine=engine) as mounted:
        path = mountpoint / "file"
        for change in (
            partial(path.write_bytes, b"other"),
            path.unlink,
            partial(path.rename, mountpoint / "other"),
            (mountpoint / "folder").mkdir,
            partial(path.chmod, 0o777),
            partial(os.utime, path),
            partial(os.truncate, path, 0),
            partial(os.setxattr, path, XATTR, b"other"),
            partial(os.removexattr, path, XATTR),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                await mounted.does(change)


@pytest.mark.parametrize("engine", ENGINES)
async def test_extended_attributes(mountpoint: Path, engine: str) -> None:
    """Names and values arrive whole, also those that do not fit at first (ERANGE); an unknown name is ENODATA."""
    async with serving(Files({b"file": b"bytes"}), mountpoint, engine=engine) as mounted:
        path = mountpoint / "file"
        assert await mounted.does(os.listxattr, path) == [XATTR]
        assert await mounted.does(os.getxattr, path, XATTR) == b"v" * 300  # Python tries with 128 bytes
        with pytest.raises(OSError, match="No data available"):
            await mounted.does(os.getxattr, path, "user.other")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_reply_that_the_kernel_does_not_take(mountpoint: Path, engine: str) -> None:
    """A reply that is too long is a failure of its request, at once and later, and the mount goes on."""
    files = Files({b"file": b"bytes"}, {b"link": b"x" * 5000})

    async def too_much() -> Buffer:
        return bytes(1 << 21)

    async with serving(files, mountpoint, engine=engine) as mounted:
        with pytest.raises(OSError, match="Input/output error"):
            await mounted.does(os.readlink, mountpoint / "link")
        files.read_later = too_much
        with pytest.raises(OSError, match="Input/output error"):
            await mounted.does((mountpoint / "file").read_bytes)
        files.read_later = None
        assert await mounted.does((mountpoint / "file").read_bytes) == b"bytes"
    assert {request for request, _ in files.failures} == {"readlink", "read"}
    assert {getattr(error, "errno", None) for _, error in files.failures} == {errno.EINVAL}


@pytest.mark.parametrize("engine", ENGINES)
async def test_unmounting_ends_the_server(mountpoint: Path, engine: str) -> None:
    """When the mount is taken away, the server ends by itself."""
    async with serving(Files({b"file": b"bytes"}), mountpoint, engine=engine) as mounted:
        await mounted.does(os.listdir, mountpoint)
        await mounted.does(partial(detach, mountpoint, lazy=False))
        with trio.fail_after(DEADLINE_SECONDS):
            await mounted.ended.wait()
    assert find_mount(mountpoint) is None


@pytest.mark.parametrize("engine", ENGINES)
async def test_programs_that_wait_when_the_device_is_closed(mountpoint: Path, engine: str) -> None:
    """When the server is cancelled and the device closed, the kernel answers programs that still wait."""
    files = Files({b"file": b"bytes"})
    reading = trio.Event()

    async def never() -> Buffer:
        reading.set()
        await trio.sleep_forever()

    files.read_later = never
    refused: list[int | None] = []

    async with serving(files, mountpoint, engine=engine) as mounted, trio.open_nursery() as nursery:

        async def read() -> None:
            try:
                await mounted.does((mountpoint / "file").read_bytes)
            except OSError as error:
                refused.append(error.errno)

        nursery.start_soon(read)
        await reading.wait()
        mounted.scope.cancel()
    assert refused in ([errno.ECONNABORTED], [errno.ENOTCONN])


@pytest.mark.parametrize("engine", ENGINES)
async def test_options_with_commas(mountpoint: Path, engine: str) -> None:
    """A value may contain commas and backslashes: it is shown as it is."""
    name = r"data, set\one\,two"
    async with serving(Files({}), mountpoint, f"fsname={name}", engine=engine):
        entry = find_mount(mountpoint)
        assert entry is not None
        assert (entry.source, entry.file_system_type) == (name, "fuse.vbnfs")


def test_a_device_without_a_server(mountpoint: Path) -> None:
    """Nothing to read is None; an answer to nobody is no failure, a reply that is none is; at the end `Unmounted`."""
    device = open_mount(mountpoint, ["ro", SUBTYPE])
    assert device.is_readable()
    request = device.read()
    assert request is not None
    assert request[0].opcode == 26  # INIT
    assert device.read() is None
    assert not device.is_readable()
    device.reply(12345, b"")
    device.refuse(12345, errno.EIO)
    with pytest.raises(OSError, match="Invalid argument"):
        device.notify(bytes(16))
    assert not os.get_inheritable(device.descriptor)
    detach(mountpoint, lazy=True)
    assert device.is_readable()
    with pytest.raises(Unmounted):
        device.read()
    device.refuse(12345, errno.EIO)
    device.notify(attributes_changed(1))
    device.close()


def test_a_notice_after_the_end(tmp_path: Path) -> None:
    """A thread that says something when the device is closed meets nobody: no file that was opened since, either."""
    read_end, write_end = os.pipe()
    device = Device(write_end)
    device.close()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        device.notify(b"too late")
        assert file.tell() == 0
    assert os.read(read_end, 10) == b""  # its other end is closed
    del device
    os.close(read_end)


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
async def test_a_signal_to_everybody_does_not_end_the_unmounting(
    mountpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """systemd and Ctrl-C signal the daemon and whatever it has just started: that goes on taking the mount away."""
    program = "umount" if os.geteuid() == 0 else "fusermount3"
    (tmp_path / "bin").mkdir()
    signalled = tmp_path / "bin" / program
    signalled.write_text(f'#!/bin/sh\nkill -{name} $$\nexec {shutil.which(program)} "$@"\n')
    signalled.chmod(0o755)
    async with serving(Files({}), mountpoint) as mounted:
        monkeypatch.setattr(mount_programs, "_FOLDERS", (f"{tmp_path}/bin",))
        await mounted.does(partial(detach, mountpoint, lazy=False))
        assert find_mount(mountpoint) is None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINTR, errno.EAGAIN, errno.ENOMEM])
def test_requests_that_were_withdrawn(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A request that was withdrawn, or that the kernel had no memory to hand over, is no end of the mount."""
    assert read_failing(monkeypatch, number) is None


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ECONNABORTED])
def test_the_end_of_a_mount(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What the kernel says of a mount that is gone, or aborted, is `Unmounted`."""
    with pytest.raises(Unmounted):
        read_failing(monkeypatch, number)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EPERM])
def test_failures_of_the_device(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Any other failure to read is raised as it is, and not taken for the end of the mount."""
    with pytest.raises(OSError, match=os.strerror(number)):
        read_failing(monkeypatch, number)


def read_failing(monkeypatch: pytest.MonkeyPatch, number: int) -> object:
    """Read while the kernel answers with an errno."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    read_end, write_end = os.pipe()
    device = Device(read_end)
    monkeypatch.setattr(os, "readv", fail)
    try:
        return device.read()
    finally:
        device.close()
        os.close(write_end)
