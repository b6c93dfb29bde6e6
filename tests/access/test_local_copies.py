"""A file of the dataset as an ordinary one: copied or shared, right or not there."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.disks import loop_disk, memory_disk, used_bytes
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from vbnfs.access.dataset import open_dataset
from vbnfs.access.door import opened
from vbnfs.access.filling import Progress
from vbnfs.access.local_copies import make_copy, write_file
from vbnfs.access.open_files import open_files
from vbnfs.access.versions import load_versions
from vbnfs.config.sources import load_config
from vbnfs.errors import HashMismatchError, OfflineError

LARGE, SMALL, WRONG, OTHER = (f"sessions/{name}.nwb" for name in ("large", "small", "wrong", "other"))
FILES = {
    LARGE: Pattern(9_000_001, seed=1),
    SMALL: Pattern(300_001, seed=2),
    WRONG: Pattern(300_001, seed=3),
    OTHER: Pattern(300_001, seed=4),
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of some files, of which one has another hash in the manifest."""
    dataset = FakeDataset()
    entries = {path: dataset.entry(path, data) for path, data in FILES.items()}
    entries[WRONG]["file_hash"] = "ab" * 64
    dataset.publish_entries("0.1.0", entries)
    with FakeS3Server(dataset.store) as server:
        yield server


Copy = Callable[..., Progress]


@contextmanager
def copying(server: FakeS3Server, **settings: object) -> Iterator[Copy]:
    """What copies a file by its path to a place, with files besides, and returns what was noted meanwhile."""
    given = {"endpoint_url": server.endpoint_url, **{name: str(value) for name, value in settings.items()}}
    with opened(open_dataset(load_config(command_line=given))) as dataset:
        versions = dataset.run(load_versions, dataset.value)
        files = {"/".join(file.path): file for file in versions.manifest(None).files}
        with opened(open_files(versions)) as reading:

            def copy(path: str, to: Path, *besides: str) -> Progress:
                more, progress = tuple(files[name] for name in besides), Progress()
                reading.run(partial(make_copy, reading.value, files[path], to, besides=more, progress=progress))
                return progress

            yield copy


def test_copies(server: FakeS3Server, tmp_path: Path) -> None:
    """A copy has the released bytes; what is fetched besides is cached, and copied later without network.

    Another hash than the manifest's is an error, and so is what is not cached offline. What was there stays.
    """
    to = tmp_path / "folder" / "copy.nwb"
    to.parent.mkdir()
    to.write_bytes(b"what was there before")
    with copying(server) as copy:
        progress = copy(LARGE, to, LARGE, SMALL)
        sizes = len(FILES[LARGE]) + len(FILES[SMALL])
        assert (progress.files, progress.count_bytes, progress.done_bytes) == (2, sizes, sizes)
        assert to.read_bytes() == FILES[LARGE][:]
        with pytest.raises(HashMismatchError):
            copy(WRONG, to)
    with copying(server, offline="true") as copy:
        with pytest.raises(OfflineError):
            copy(OTHER, to)
        assert to.read_bytes() == FILES[LARGE][:]
        assert copy(SMALL, to).count_bytes == 0
    assert [path.read_bytes() for path in to.parent.iterdir()] == [FILES[SMALL][:]]


def test_a_cache_that_is_too_small(server: FakeS3Server, tmp_path: Path) -> None:
    """What the cache cannot keep as a whole is copied all the same."""
    with copying(server, cache_size="1MB") as copy:
        copy(LARGE, tmp_path / "copy.nwb")
    assert (tmp_path / "copy.nwb").read_bytes() == FILES[LARGE][:]


@pytest.mark.root
def test_reflinks(server: FakeS3Server, tmp_path: Path) -> None:
    """On a disk that can share files a copy takes no room; what is written to it is not in the cache.

    A disk that takes no more is an error that says so; what was begun is deleted.
    """
    xfs = loop_disk(tmp_path / "disk", ["mkfs.xfs", "-q", "-m", "reflink=1"], 400 << 20)
    with xfs as disk, copying(server, cache_dir=disk / "cache") as copy:
        copy(LARGE, disk / "first.nwb")
        before = used_bytes(disk)
        copy(LARGE, disk / "second.nwb")
        assert used_bytes(disk) - before < 1 << 20
        with (disk / "first.nwb").open("r+b") as file:
            file.write(b"of the user's")
        copy(LARGE, disk / "third.nwb")
        assert (disk / "second.nwb").read_bytes() == (disk / "third.nwb").read_bytes() == FILES[LARGE][:]
        with memory_disk(tmp_path / "small", "size=4m") as small:
            with pytest.raises(OSError, match="No space left") as failure:
                copy(LARGE, small / "copy.nwb")
            assert (failure.value.errno, failure.value.filename) == (errno.ENOSPC, str(small / "copy.nwb"))
            assert list(small.iterdir()) == []


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A program that has the old file open reads that; the name leads to the new one."""
    to = tmp_path / "record.json"
    write_file(to, b"old")
    with to.open("rb") as file:
        write_file(to, b"new")
        assert (file.read(), to.read_bytes()) == (b"old", b"new")
