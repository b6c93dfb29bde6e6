"""The answers to the kernel, without a kernel: what no program makes it ask, and what goes wrong inside."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import trio

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, manifest, tree_of
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.fuse.replies import names_of
from tests.reading.bench import Bench, bench
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.holdings import Holdings
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import ROOT_INODE
from vbnfs.errors import (
    AccessDeniedError,
    ChangedError,
    DeadlineError,
    HashMismatchError,
    MismatchError,
    ObjectGoneError,
    TransportError,
)
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.open_files import KernelPages
from vbnfs.filesystem.operations import FileSystem
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.recording import Recording
from vbnfs.fuse.operations import Absent, Answer, Attr, Entry, ErrnoReply, is_later
from vbnfs.fuse.replies import listing_part
from vbnfs.host.places import folder_at
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.deadlines import Deadlines
from vbnfs.reading.file_reader import FileReader

NOBODY = 65534


class Reader:
    """A file whose reads have to wait, and end as a test wants them to."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        self.advises = True

    def read_nowait(self, offset: int, size: int) -> bytes:
        raise trio.WouldBlock

    async def read(self, offset: int, size: int) -> bytes:
        outcome = self._read()
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            await trio.sleep_forever()
        return bytes(outcome)


@dataclass
class World:
    """A file system of one version with a file `folder/file` of 4 bytes."""

    answers: FileSystem
    reads: list[Any]
    stale: set[int]  # inodes of which the kernel has pages that it must not keep
    recording: Recording

    def entry(self, parent: int, name: str) -> Entry:
        found = at_once(self.answers.lookup(parent, os.fsencode(name)))
        assert isinstance(found, Entry)
        return found

    def attr(self, parent: int, name: str) -> Attr:
        return self.entry(parent, name).attr

    def inode(self, *path: str) -> int:
        inode = ROOT_INODE
        for name in path:
            inode = self.attr(inode, name).inode
        return inode

    async def read(self, outcome: Any) -> bytes:
        self.reads.append(outcome)
        handle = at_once(self.answers.open(self.inode("folder", "file"), os.O_RDONLY, 0)).handle
        answer = self.answers.read(handle, 0, 4)
        assert is_later(answer)
        try:
            return bytes(await answer)
        finally:
            self.answers.release(handle)


def at_once(answer: Answer[Any]) -> Any:
    """The value of an answer that needs no waiting."""
    assert not is_later(answer)
    return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = MemoryStore(BUCKET)
    client = MemoryClient(store)
    version = manifest("1.0.0", {"folder/file": "data"})
    [file] = version.files
    store.put(file.version.key, b"data", version_id=file.version.version_id)
    async with bench(tmp_path, client=client) as floor:
        reads: list[Any] = []
        catalog = Catalog(client, tmp_path / "kept", origin=ORIGIN, project=PROJECT)
        await catalog.sizes.fetch_object(file.version)
        tree = tree_of([version], default="1.0.0")
        stale: set[int] = set()
        recording = Recording("m")
        answers = _file_system(tmp_path, floor, catalog, tree, reads, stale=stale, recording=recording)
        yield World(answers, reads, stale, recording)


async def own_file(uid: int, pid: int) -> str:
    """Where a thread of a user finds what AllenSDK writes; the disk of user 13 does not answer."""
    if uid == 13:
        await trio.sleep_forever()
    return f"/file/of/{uid}/{pid}"


def _file_system(
    directory: Path,
    floor: Bench,
    catalog: Catalog,
    tree: Any,
    reads: list[Any],
    *,
    stale: set[int],
    recording: Recording,
) -> FileSystem:
    return FileSystem(
        tree=tree,
        catalog=catalog,
        attributes=Attributes(
            catalog, floor.cache, written=floor.source.writer.written, url=str, verified=lambda c: "no"
        ),
        open_reader=lambda content, advises: cast(FileReader, Reader(reads.pop)),
        passthrough=Passthrough(
            CheckedFiles(floor.cache, floor.verdicts, floor.metrics),
            Holdings(folder_at(directory)),
            floor.metrics,
            reason="not in this test",
        ),
        own_file=own_file,
        disk=CacheDisk(floor.cache, Evictor(directory, limit_bytes=1 << 30, metrics=floor.metrics)),
        metrics=floor.metrics,
        io_timeout_seconds=30.0,
        deadlines=Deadlines(),
        pages=KernelPages(are_stale=stale.__contains__),
        recording=recording,
    )


async def failure_of(world: World, outcome: Exception | None) -> int:
    """The errno that the kernel gets when a read fails."""
    try:
        await world.read(outcome)
    except Exception as error:
        return world.answers.errno_of("read", error)
    raise AssertionError("it did not fail")


def refusal_of(ask: Callable[[], object]) -> int:
    """The errno that is the answer to a request."""
    with pytest.raises(ErrnoReply) as caught:
        ask()
    return caught.value.errno


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (TransportError("no"), errno.EIO),
        (AccessDeniedError("no"), errno.EACCES),
        (ObjectGoneError("no"), errno.ESTALE),
        (ChangedError("no"), errno.ESTALE),
        (MismatchError("no"), errno.EIO),
        (ExceptionGroup("of a nursery", [ExceptionGroup("inner", [AccessDeniedError("no")])]), errno.EACCES),
        (ZeroDivisionError("a defect"), errno.EIO),
        (ExceptionGroup("of a nursery", [KeyError("a defect")]), errno.EIO),
        (MemoryError(), errno.EIO),
    ],
)
async def test_every_failure_is_answered(world: World, failure: Exception, expected: int) -> None:
    """Whatever a handler raises becomes an errno: no request stays unanswered, and the next one is served."""
    with structlog.testing.capture_logs() as logs:
        assert await failure_of(world, failure) == expected
    [line] = logs
    is_defect = "defect" in repr(failure) or isinstance(failure, MemoryError)
    assert line["log_level"] == ("error" if is_defect else "warning")
    assert world.answers.last_error is not None
    assert await world.read(b"data") == b"data"


async def test_a_read_has_a_deadline(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """A read that never ends is answered with ETIMEDOUT after the time allowed, and the reason tells it."""
    before = trio.current_time()
    assert await failure_of(world, None) == errno.ETIMEDOUT
    assert trio.current_time() - before == pytest.approx(30)
    assert world.answers.last_error is not None
    assert "--io-timeout" in world.answers.last_error.text


async def test_a_home_that_hangs(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """A user whose disk does not answer gets ETIMEDOUT after the time allowed, and the reason names the user."""
    before = trio.current_time()
    with pytest.raises(DeadlineError) as caught:
        await world.answers._own_target(ROOT_INODE, 13, 1)
    assert trio.current_time() - before == pytest.approx(30)
    assert world.answers.errno_of("readlink", caught.value) == errno.ETIMEDOUT
    assert "home of user 13" in str(caught.value)
    assert await world.answers._own_target(ROOT_INODE, 14, 1) == b"/file/of/14/1"


async def test_a_read_that_the_kernel_asks_for_again_fails_at_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """A read that failed late is not begun anew by what the kernel asks at once; what is asked later is another."""
    for later, seconds in ((0, 30), (0, 0), (0.4, 0), (0.2, 30)):
        await trio.sleep(later)
        began = trio.current_time()
        assert await failure_of(world, None) == errno.ETIMEDOUT
        assert trio.current_time() - began == pytest.approx(seconds)
    await trio.sleep(0.6)
    assert await failure_of(world, AccessDeniedError("no")) == errno.EACCES
    assert await world.read(b"data") == b"data"  # that failed soon


async def test_a_failure_is_logged_once(world: World) -> None:
    """A program that tries the same again and again does not fill the log; another reason is logged."""
    with structlog.testing.capture_logs() as logs:
        for reason in ("no route", "no route", "no route", "reset"):
            assert await failure_of(world, TransportError(reason)) == errno.EIO
    assert [line["reason"].partition(";")[0] for line in logs] == ["no route", "reset"]


async def test_inodes_of_another_time(world: World) -> None:
    """An inode number that the tree does not have is stale."""
    assert refusal_of(lambda: world.answers.getattr(12345)) == errno.ESTALE


async def test_kinds_are_not_mixed_up(world: World) -> None:
    """Folders are not read, files are not listed, what is no link leads nowhere, nothing is written."""
    folder, file = world.inode("folder"), world.inode("folder", "file")
    assert refusal_of(lambda: world.answers.open(folder, os.O_RDONLY, 0)) == errno.EISDIR
    assert refusal_of(lambda: world.answers.open(file, os.O_RDWR, 0)) == errno.EROFS
    assert refusal_of(lambda: world.answers.list(file)) == errno.ENOTDIR
    assert refusal_of(lambda: world.answers.lookup(file, b"x")) == errno.ENOTDIR
    assert refusal_of(lambda: world.answers.readlink(file, NOBODY, 1)) == errno.EINVAL


async def test_dots(world: World) -> None:
    """`.` and `..` are looked up like names; the root is its own parent."""
    folder = world.inode("folder")
    assert world.inode("folder", ".") == folder
    assert world.inode("folder", "..") == ROOT_INODE
    assert world.inode("..") == ROOT_INODE


async def test_an_inode_is_found_again(world: World) -> None:
    """`.` is looked up in files, too, and is the file itself: so NFS finds an inode that the kernel has forgotten."""
    file = world.inode("folder", "file")
    assert world.entry(file, ".") == world.entry(world.inode("folder"), "file")
    assert refusal_of(lambda: world.answers.lookup(file, b"..")) == errno.ENOTDIR
    assert refusal_of(lambda: world.answers.lookup(12345, b".")) == errno.ESTALE


async def test_absent_names(world: World) -> None:
    """A name that cannot appear is remembered by the kernel as absent; one that can is asked for again."""
    absent = world.answers.lookup(world.inode("folder"), b"nothing")
    assert isinstance(absent, Absent)
    assert absent.entry_seconds > 1e6
    for parent in ((), ("manifests",)):
        inode = world.inode(*parent)
        assert refusal_of(lambda inode=inode: world.answers.lookup(inode, b"v9.9.9")) == errno.ENOENT  # type: ignore[misc]


async def test_a_name_that_is_too_long(world: World) -> None:
    """A name beyond what statfs(2) calls the longest is ENAMETOOLONG, as on a local disk."""
    folder = world.inode("folder")
    assert refusal_of(lambda: world.answers.lookup(folder, b"x" * 256)) == errno.ENAMETOOLONG
    assert isinstance(world.answers.lookup(folder, b"x" * 255), Absent)


@pytest.mark.parametrize("size", [400, 1000, 4096])
async def test_listing_in_parts(world: World, size: int) -> None:
    """A folder is listed in as many parts as the reader's buffer asks for, each name once, and then comes nothing."""
    root: list[str] = []
    offset = 0
    while part := listing_part(world.answers.list(ROOT_INODE), offset, size):
        assert len(part) <= size
        names = names_of(part)
        root += [name for name, _ in names]
        offset = names[-1][1]
    assert root == [".", "..", "README.txt", "folder", "manifests"]


async def test_attributes_of_a_file(world: World) -> None:
    """A file's attributes never change but for its blocks; it is its owner's, and nobody may write it."""
    entry = world.entry(world.inode("folder"), "file")
    attr = entry.attr
    assert (attr.size_bytes, attr.links, attr.blocks) == (4, 2, 1)
    assert attr.mode == stat.S_IFREG | 0o444
    assert (attr.uid, attr.gid) == (os.getuid(), os.getgid())
    assert min(entry.attr_seconds, entry.entry_seconds) > 1e6


async def test_other_namespaces_have_no_attributes(world: World) -> None:
    """Access lists and security labels are not supported, so that ls -l asks once and not for each file."""
    inode = world.inode("folder", "file")
    for name in (b"system.posix_acl_access", b"security.selinux", b"trusted.x"):
        assert refusal_of(lambda name=name: world.answers.getxattr(inode, name)) == errno.EOPNOTSUPP  # type: ignore[misc]
    assert refusal_of(lambda: world.answers.getxattr(inode, b"user.other")) == errno.ENODATA
    assert world.answers.listxattr(world.inode("folder")) == []


async def test_a_file_that_is_found_wrong(world: World) -> None:
    """A read that waits begins anew, and fails as the file is refused; opened again, the kernel drops its pages."""
    refusal = HashMismatchError("other bytes")
    inode = world.inode("folder", "file")
    outcomes: list[Exception] = []

    async def read() -> None:
        with pytest.raises(HashMismatchError) as caught:
            await world.read(None)
        outcomes.append(caught.value)

    assert at_once(world.answers.open(inode, os.O_RDONLY, 0)).keeps_pages
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        world.reads.append(refusal)
        world.answers.files.begin_reads_anew(inode)
    assert outcomes == [refusal]
    world.stale.add(inode)
    assert not at_once(world.answers.open(inode, os.O_RDONLY, 0)).keeps_pages


async def test_what_is_recorded(world: World) -> None:
    """Each open is a line, with the bytes that the kernel was given; a read that fails adds none."""
    await world.read(b"data")
    with pytest.raises(ConnectionError):
        await world.read(ConnectionError("no"))
    assert not world.recording.make_lines_of_open_files()
    lines, lost = world.recording.take()
    assert [(line.open_number, list(line.ranges), line.read is None) for line in lines] == [
        (1, [(0, 4)], False),
        (2, [], True),
    ]
    assert lost == 0
