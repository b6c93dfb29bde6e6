"""The disk's reserve: how much it is, when contents go for it, and that no more of them do than must."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.disks import memory_disk
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import reserve
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.inventory import scan
from vbnfs.cache.reserve import Reserve, default_reserve, space_of
from vbnfs.host.disk_space import DiskSpace
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

MIB, GIB = 1 << 20, 1 << 30


def content(number: int, blocks: int) -> Content:
    name = f"{number:04x}"
    return Content(name, blocks * BLOCK_BYTES, ObjectVersion(name, None))


class Mounted:
    """What a mount has of a cache: its blocks, and its evictor."""

    def __init__(self, directory: Path, reserve_bytes: int | None) -> None:
        self.cache = BlockCache(directory, scope="aws", metrics=Metrics())
        self.evictor = Evictor(
            directory,
            limit_bytes=GIB,
            reserve_bytes=reserve_bytes,
            metrics=Metrics(),
            close_deleted=self.cache.forget_deleted,
        )

    def write(self, number: int) -> bool:
        """A content of 2 MiB; whether all of it was written."""
        return all(self._write_block(number, index) for index in range(8))

    def _write_block(self, number: int, index: int) -> bool:
        return self.evictor.make_room(BLOCK_BYTES) and bool(
            self.cache.put(content(number, 8), index, bytes([1 + index]) * BLOCK_BYTES)
        )


def free_bytes(directory: Path) -> int:
    return space_of(folder_at(directory)).free_bytes


@pytest.mark.parametrize(
    ("total_bytes", "reserve_bytes"),
    [
        (1000 * GIB, 50 * GIB),
        (40 * GIB, 2 * GIB),
        (10 * GIB, 2 * GIB),
        (4 * GIB, 2 * GIB),
        (12 * MIB, 6 * MIB),
        (0, 0),
    ],
)
def test_the_default(total_bytes: int, reserve_bytes: int) -> None:
    """2 GiB, or 5 % of a large disk; of a disk of less than 4 GiB half."""
    assert default_reserve(total_bytes) == reserve_bytes


@given(total=st.integers(1, 1 << 60))
def test_the_default_leaves_room_for_a_cache(total: int) -> None:
    """On any disk."""
    assert 0 <= default_reserve(total) <= total / 2


def test_what_is_not_known_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reserve, no folder yet, a file system that does not say how large it is: blocks are written."""
    tmp_path.chmod(0o700)
    assert Reserve(folder_at(tmp_path), 0).lacking_bytes(1 << 60) < 0
    assert Reserve(folder_at(tmp_path / "none"), 1 << 60).lacking_bytes() < 0
    assert Reserve(folder_at(tmp_path), 1 << 60).lacking_bytes() > 0
    monkeypatch.setattr(reserve, "space_of", lambda directory: DiskSpace(0, 0, is_read_only=False))
    assert Reserve(folder_at(tmp_path), 1 << 60).lacking_bytes() < 0


@pytest.mark.root
def test_the_reserve_is_left_free(tmp_path: Path) -> None:
    """Writing more than the disk takes besides: contents go, and at no moment less than the reserve is free."""
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=40m"):
        mounted = Mounted(directory, 16 * MIB)
        for number in range(30):
            assert mounted.write(number)
            assert free_bytes(directory) >= 16 * MIB
        assert sum(one.allocated_bytes for one in scan(directory)) > 12 * MIB


@pytest.mark.root
def test_others_get_their_room_back(tmp_path: Path) -> None:
    """When another program has written, contents go until the reserve is free again, and not all of them."""
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=64m"):
        mounted = Mounted(directory, 16 * MIB)
        assert all(mounted.write(number) for number in range(15))
        (directory / "of another program").write_bytes(bytes(20 * MIB))
        assert free_bytes(directory) < 16 * MIB
        mounted.evictor.keep_reserve()
        assert 16 * MIB <= free_bytes(directory) <= 22 * MIB
        assert sum(one.allocated_bytes for one in scan(directory)) > 16 * MIB


@pytest.mark.root
def test_what_others_hold_open_is_not_deleted_twice(tmp_path: Path) -> None:
    """Deleted contents that another mount has open are free later: meanwhile no more goes, and nothing is written.

    That mount sees that the disk lacks room, closes them first, and deletes nothing then.
    """
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=64m"):
        mounted, other = Mounted(directory, 16 * MIB), Mounted(directory, 16 * MIB)
        assert all(mounted.write(number) for number in range(15))
        for number in range(15):
            assert other.cache.cached_bytes(content(number, 8)) == 2 * MIB
        (directory / "of another program").write_bytes(bytes(20 * MIB))
        mounted.evictor.keep_reserve()
        left = len(list(scan(directory)))
        assert 8 <= left < 15
        for _ in range(3):
            mounted.evictor.keep_reserve()
        assert not mounted.write(99)
        assert len(list(scan(directory))) == left
        other.evictor.keep_reserve()
        assert free_bytes(directory) >= 16 * MIB
        assert mounted.evictor.make_room(BLOCK_BYTES)
        assert len(list(scan(directory))) == left


@pytest.mark.root
def test_two_mounts_that_have_each_other_s_deleted_files_open(tmp_path: Path) -> None:
    """While another program goes on writing: each closes what the other has deleted, and waits for nothing first.

    What is closed here does not show as free, because as much is written meanwhile.
    """
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=64m"):
        one, other = Mounted(directory, 16 * MIB), Mounted(directory, 16 * MIB)
        assert all(one.write(number) for number in range(15))
        for number in range(15):
            assert other.cache.cached_bytes(content(number, 8)) == 2 * MIB
        for mounted, written_bytes in ((one, 20 * MIB), (other, 5 * MIB)):
            (directory / f"of another program, {written_bytes}").write_bytes(bytes(written_bytes))
            mounted.evictor.keep_reserve()
        assert free_bytes(directory) < 16 * MIB
        one.evictor.keep_reserve()
        assert free_bytes(directory) >= 16 * MIB


@pytest.mark.root
def test_what_was_deleted_and_is_not_free_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has become free and others have written as much since, or it is held: six seconds later more is deleted."""
    directory, now = tmp_path / "cache", time.monotonic()
    monkeypatch.setattr("vbnfs.cache.reserve.time.monotonic", lambda: now)
    with memory_disk(directory, "size=64m"):
        mounted = Mounted(directory, 16 * MIB)
        assert all(mounted.write(number) for number in range(15))
        held = [path.open("rb") for path in directory.rglob("data")]
        (directory / "of another program").write_bytes(bytes(20 * MIB))
        mounted.evictor.keep_reserve()
        left = len(list(scan(directory)))
        mounted.evictor.keep_reserve()
        assert len(list(scan(directory))) == left < 15
        now += 6
        mounted.evictor.keep_reserve()
        assert len(list(scan(directory))) < left
        for file in held:
            file.close()
        assert free_bytes(directory) >= 16 * MIB


@pytest.mark.root
def test_a_reserve_that_cannot_be_kept(tmp_path: Path) -> None:
    """Larger than the disk: all contents go, nothing is written, and the disk is not scanned for each block."""
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=64m"):
        assert all(Mounted(directory, 0).write(number) for number in range(3))
        scans = 0

        def count(found: object) -> None:
            nonlocal scans
            scans += 1

        evictor = Evictor(directory, limit_bytes=GIB, reserve_bytes=GIB, metrics=Metrics(), on_scan=count)
        assert [evictor.make_room(BLOCK_BYTES) for _ in range(20)] == [False] * 20
        assert list(scan(directory)) == []
        assert scans < 5


@pytest.mark.root
def test_without_a_reserve_a_disk_is_filled(tmp_path: Path) -> None:
    """A reserve of 0 asks for nothing: what the disk does not take is not kept."""
    directory = tmp_path / "cache"
    with memory_disk(directory, "size=8m"):
        mounted = Mounted(directory, 0)
        assert not all(mounted.write(number) for number in range(5))
        assert mounted.cache.failure is not None
        assert os.strerror(mounted.cache.failure.errno or 0) == "No space left on device"
