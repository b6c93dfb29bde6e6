"""A file of this machine becomes a whole content: proven by what the cache has of it then, shared where it can be."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cache_files import folder_of, unfinished_folders
from tests.fakes.disks import loop_disk, used_bytes
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.adoption import Adoption, can_share
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import DATA, PARTIAL, WHOLE
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.verdict import fingerprint_of
from vbnfs.cache.verdicts import Verdicts
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

BYTES = random.Random(6).randbytes((9 << 20) + 77)
CONTENT = Content("aa11", len(BYTES), ObjectVersion("key", "v1"), hashlib.blake2b(BYTES).hexdigest())


def make(directory: Path) -> tuple[BlockCache, Verdicts, DigestStore]:
    cache = directory / "cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    return BlockCache(cache, scope="aws", metrics=Metrics()), Verdicts(cache, scope="aws"), DigestStore(cache)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    """An open file with the bytes of the content."""
    (tmp_path / "source").write_bytes(BYTES)
    descriptor = os.open(tmp_path / "source", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_file_becomes_a_content(tmp_path: Path, source: int) -> None:
    """It is whole, each block has its checksum, the verdict is of them, and what was partial is gone."""
    cache, verdicts, digests = make(tmp_path)
    assert cache.put(CONTENT, 1, BYTES[BLOCK_BYTES : 2 * BLOCK_BYTES])
    adoption = Adoption(cache, verdicts, digests, CONTENT, source)
    assert list(adoption)[-1] == len(BYTES)
    assert adoption.is_right
    again, _, _ = make(tmp_path)
    assert folder_of(tmp_path / "cache", "aa11", scope="aws").parts[-3] == WHOLE
    assert not (tmp_path / "cache/blocks-v2/aws" / PARTIAL / "aa" / "aa11").exists()
    for one in (cache, again):
        assert one.read(CONTENT, ByteRange(0, len(BYTES))) == BYTES
    good = verdicts.good(CONTENT)
    assert good is not None
    assert good.fingerprint == fingerprint_of(again.records(CONTENT))
    known = digests.of(CONTENT)
    assert known is not None
    assert known.are_proven


def test_a_damaged_content_is_replaced(tmp_path: Path, source: int) -> None:
    """One that was cut short is made anew, and processes that had it open read the new one."""
    cache, verdicts, digests = make(tmp_path)
    list(Adoption(cache, verdicts, digests, CONTENT, source))
    assert cache.read(CONTENT, ByteRange(0, 10)) == BYTES[:10]
    os.truncate(folder_of(tmp_path / "cache", "aa11", scope="aws") / DATA, 5)
    assert not cache.is_whole(CONTENT)
    list(Adoption(cache, verdicts, digests, CONTENT, source))
    assert cache.is_whole(CONTENT)
    assert cache.read(CONTENT, ByteRange(0, len(BYTES))) == BYTES


@pytest.mark.parametrize("change", ["bytes to come", "cut short", "bytes that were copied"])
def test_a_file_that_changes_meanwhile(tmp_path: Path, source: int, change: str) -> None:
    """What counts are the bytes that were copied: if they are wrong, nothing is left of them."""
    cache, verdicts, digests = make(tmp_path)
    adoption = Adoption(cache, verdicts, digests, CONTENT, source)
    steps = iter(adoption)
    next(steps)
    if change == "cut short":
        os.ftruncate(source, 5 << 20)
    else:
        os.pwrite(source, b"changed", 8 << 20 if change == "bytes to come" else 0)
    list(steps)
    assert adoption.is_right == (change == "bytes that were copied")
    assert cache.is_whole(CONTENT) == adoption.is_right
    assert (verdicts.good(CONTENT) is not None) == adoption.is_right
    assert unfinished_folders(tmp_path / "cache") == []


def test_an_adoption_that_is_given_up(tmp_path: Path, source: int) -> None:
    """Closing it in the middle leaves nothing."""
    cache, verdicts, digests = make(tmp_path)
    steps = iter(Adoption(cache, verdicts, digests, CONTENT, source))
    next(steps)
    assert len(unfinished_folders(tmp_path / "cache")) == 1
    steps.close()
    assert unfinished_folders(tmp_path / "cache") == []
    assert cache.cached_bytes(CONTENT) == 0


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A disk with reflinks."""
    with loop_disk(tmp_path / "disk", ["mkfs.xfs", "-q", "-m", "reflink=1"], 400 << 20) as disk:
        yield disk


@pytest.mark.root
def test_a_file_is_shared_where_the_disk_can(xfs: Path) -> None:
    """A reflink takes no room; what is written to the original afterwards, or meanwhile, is not in the content."""
    cache, verdicts, digests = make(xfs)
    (xfs / "original").write_bytes(BYTES)
    os.sync()
    before = used_bytes(xfs)
    source = os.open(xfs / "original", os.O_RDWR)
    assert can_share(cache, source)
    adoption = Adoption(cache, verdicts, digests, CONTENT, source)
    steps = iter(adoption)
    next(steps)
    os.pwrite(source, b"changed", 8 << 20)
    list(steps)
    os.close(source)
    os.sync()
    assert adoption.is_right
    assert used_bytes(xfs) - before < 1 << 20
    assert (xfs / "original").stat().st_nlink == 1
    data = folder_of(xfs / "cache", "aa11", scope="aws") / DATA
    assert data.read_bytes() == BYTES


def test_two_file_systems_share_nothing(tmp_path: Path) -> None:
    """Whether a file can be shared is found out without a trace."""
    cache, _, _ = make(tmp_path)
    other = os.open("/proc/self/status", os.O_RDONLY)
    assert not can_share(cache, other)
    os.close(other)
    assert unfinished_folders(tmp_path / "cache") == []
