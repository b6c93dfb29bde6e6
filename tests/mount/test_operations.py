"""The answers to the kernel, without a kernel: what no program makes it ask, and what goes wrong inside."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyfuse3
import pytest
import structlog
import trio

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, manifest
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import Bench, bench
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.tree import ROOT_INODE, build_tree
from vbnfs.errors import AccessDeniedError, ObjectGoneError, TransportError
from vbnfs.mount.attributes import Attributes
from vbnfs.mount.operations import FileSystem
from vbnfs.reading.file_reader import FileReader
from vbnfs.storage.eviction import Evictor

NOBODY = cast(pyfuse3.RequestContext, None)  # who asks plays no part


class Reader:
    """A file whose reads end as a test wants them to."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

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

    async def inode(self, *path: str) -> int:
        inode = ROOT_INODE
        for name in path:
            inode = (await self.answers.lookup(inode, os.fsencode(name), NOBODY)).st_ino
        return inode

    async def read(self, outcome: Any) -> Any:
        self.reads.append(outcome)
        handle = (await self.answers.open(await self.inode("folder", "file"), os.O_RDONLY, NOBODY)).fh
        try:
            return await self.answers.read(handle, 0, 4)
        finally:
            await self.answers.release(handle)


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
        await catalog.attributes_of(file.version)
        tree = build_tree([version], bucket=BUCKET, default_version=DatasetVersion("1.0.0"), readme=b"text")
        yield World(_file_system(floor, catalog, tree, reads), reads)


def _file_system(floor: Bench, catalog: Catalog, tree: Any, reads: list[Any]) -> FileSystem:
    return FileSystem(
        tree=tree,
        catalog=catalog,
        attributes=Attributes(catalog, floor.cache, written=floor.source.written, public_url=str),
        open_reader=lambda content: cast(FileReader, Reader(reads.pop)),
        own_file=lambda uid: f"/file/of/{uid}",
        evictor=Evictor(floor.cache.directory, limit_bytes=1 << 30, metrics=floor.metrics),
        metrics=floor.metrics,
        io_timeout_seconds=30.0,
    )


async def errno_of(awaitable: Any) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await awaitable
    number: int = caught.value.errno
    return number


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (TransportError("no"), errno.EIO),
        (AccessDeniedError("no"), errno.EACCES),
        (ObjectGoneError("no"), errno.ESTALE),
        (ExceptionGroup("of a nursery", [ExceptionGroup("inner", [AccessDeniedError("no")])]), errno.EACCES),
        (ZeroDivisionError("a defect"), errno.EIO),
        (ExceptionGroup("of a nursery", [KeyError("a defect")]), errno.EIO),
        (MemoryError(), errno.EIO),
    ],
)
async def test_every_failure_is_answered(world: World, failure: Exception, expected: int) -> None:
    """Whatever a handler raises becomes an errno: no request stays unanswered, and the next one is served."""
    with structlog.testing.capture_logs() as logs:
        assert await errno_of(world.read(failure)) == expected
    [line] = logs
    is_defect = "defect" in repr(failure) or isinstance(failure, MemoryError)
    assert line["log_level"] == ("error" if is_defect else "warning")
    assert world.answers.last_error
    assert await world.read(b"data") == b"data"


async def test_a_read_has_a_deadline(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """A read that never ends is answered with ETIMEDOUT after the time allowed, and the reason tells it."""
    before = trio.current_time()
    assert await errno_of(world.read(None)) == errno.ETIMEDOUT
    assert trio.current_time() - before == pytest.approx(30)
    assert "--io-timeout" in (world.answers.last_error or "")


async def test_a_failure_is_logged_once(world: World) -> None:
    """A program that tries the same again and again does not fill the log; another reason is told."""
    with structlog.testing.capture_logs() as logs:
        for reason in ("no route", "no route", "no route", "reset"):
            assert await errno_of(world.read(TransportError(reason))) == errno.EIO
    assert [line["reason"] for line in logs] == ["no route", "reset"]


async def test_inodes_of_another_time(world: World) -> None:
    """An inode number that the tree does not have is stale."""
    assert await errno_of(world.answers.getattr(12345, NOBODY)) == errno.ESTALE


async def test_kinds_are_not_mixed_up(world: World) -> None:
    """Folders are not read, files are not listed, what is no link leads nowhere, nothing is written."""
    folder, file = await world.inode("folder"), await world.inode("folder", "file")
    assert await errno_of(world.answers.open(folder, os.O_RDONLY, NOBODY)) == errno.EISDIR
    assert await errno_of(world.answers.open(file, os.O_RDWR, NOBODY)) == errno.EROFS
    assert await errno_of(world.answers.opendir(file, NOBODY)) == errno.ENOTDIR
    assert await errno_of(world.answers.lookup(file, b"x", NOBODY)) == errno.ENOTDIR
    assert await errno_of(world.answers.readlink(file, NOBODY)) == errno.EINVAL


async def test_dots(world: World) -> None:
    """`.` and `..` are looked up like names; the root is its own parent."""
    folder = await world.inode("folder")
    assert await world.inode("folder", ".") == folder
    assert await world.inode("folder", "..") == ROOT_INODE
    assert await world.inode("..") == ROOT_INODE


async def test_absent_names(world: World) -> None:
    """A name that cannot appear is remembered by the kernel as absent; one that can is asked for again."""
    entry = await world.answers.lookup(await world.inode("folder"), b"nothing", NOBODY)
    assert (entry.st_ino, entry.entry_timeout > 1e6) == (0, True)
    for parent in ((), ("manifests",)):
        inode = await world.inode(*parent)
        assert await errno_of(world.answers.lookup(inode, b"v9.9.9", NOBODY)) == errno.ENOENT


async def test_access(world: World) -> None:
    """Files can be read, folders searched, and nothing written."""
    folder, file = await world.inode("folder"), await world.inode("folder", "file")
    assert await world.answers.access(file, os.R_OK, NOBODY)
    assert not await world.answers.access(file, os.X_OK, NOBODY)
    assert await world.answers.access(folder, os.R_OK | os.X_OK, NOBODY)
    assert await errno_of(world.answers.access(folder, os.W_OK, NOBODY)) == errno.EROFS


async def test_attributes_of_a_file(world: World) -> None:
    """A file's attributes never change but for its blocks; it is its owner's, and nobody may write it."""
    entry = await world.answers.getattr(await world.inode("folder", "file"), NOBODY)
    assert (entry.st_size, entry.st_nlink, entry.st_blocks) == (4, 2, 1)
    assert entry.st_mode == stat.S_IFREG | 0o444
    assert (entry.st_uid, entry.st_gid) == (os.getuid(), os.getgid())
    assert 0 < entry.attr_timeout < 1
    assert entry.entry_timeout > 1e6


async def test_other_namespaces_have_no_attributes(world: World) -> None:
    """Access lists and security labels are not supported, so that ls -l asks once and not for each file."""
    inode = await world.inode("folder", "file")
    for name in (b"system.posix_acl_access", b"security.selinux", b"trusted.x"):
        assert await errno_of(world.answers.getxattr(inode, name, NOBODY)) == errno.EOPNOTSUPP
    assert await errno_of(world.answers.getxattr(inode, b"user.other", NOBODY)) == errno.ENODATA
    assert await world.answers.listxattr(await world.inode("folder"), NOBODY) == []
