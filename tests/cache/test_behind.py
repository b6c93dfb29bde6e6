"""Blocks of other caches, behind a cache: read where it has none, and nothing there is changed."""

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from tests.fakes.cache_files import folder_of
from vbnfs.blocks import BLOCK_BYTES, checksum, digest
from vbnfs.cache import behind
from vbnfs.cache.behind import Behind
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import CHECKSUMS, DATA
from vbnfs.cache.digests import DigestSet, DigestStore
from vbnfs.cache.stored_blocks import StoredBlocks, block_range
from vbnfs.cache.verdict import fingerprint_of
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

BYTES = random.Random(7).randbytes(5 * BLOCK_BYTES + 77)
CONTENT = Content("aa11", len(BYTES), ObjectVersion("key", "v1"), hashlib.blake2b(BYTES).hexdigest())
PROVEN = DigestSet(
    hashlib.blake2b(BYTES).hexdigest(),
    len(BYTES),
    b"".join(digest(BYTES[at : at + BLOCK_BYTES]) for at in range(0, len(BYTES), BLOCK_BYTES)),
)
OTHER = Content("bb22", len(BYTES), ObjectVersion("key", "v2"))
ALL = ByteRange(0, len(BYTES))


def put(cache: BlockCache, *indices: int) -> None:
    for index in indices:
        part = block_range(CONTENT, index)
        assert cache.put(CONTENT, index, BYTES[part.start : part.stop])


class Caches:
    """A cache, and a lab's behind it, which another process fills, and whose blocks are held against digests."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.lab_path, self.metrics = directory, directory / "lab", Metrics()
        for name in ("lab", "own"):
            (directory / name).mkdir(mode=0o700)
        self.lab = BlockCache(self.lab_path, scope="aws", metrics=Metrics())
        self.digests = DigestStore(directory / "own")
        self.own = self.again()

    def again(self, *more: StoredBlocks, check_every_read: bool = False) -> BlockCache:
        """The cache as another mount has it, perhaps with more places behind it."""
        lab = StoredBlocks(
            self.lab_path,
            scope="aws",
            metrics=self.metrics,
            digests=self.digests,
            check_every_read=check_every_read,
        )
        behind = Behind([lab, *more])
        return BlockCache(self.directory / "own", scope="aws", metrics=self.metrics, behind=behind)

    def plant(self, index: int) -> bytes:
        """A block of the lab's that its owner has made up, with the checksum that it would have."""
        part = block_range(CONTENT, index)
        wrong = b"planted" + BYTES[part.start + 7 : part.stop]
        folder = folder_of(self.lab_path, "aa11", scope="aws")
        with (folder / DATA).open("r+b") as data, (folder / CHECKSUMS).open("r+b") as checksums:
            data.seek(part.start)
            data.write(wrong)
            checksums.seek(64 + 16 * index)
            checksums.write(checksum("aa11", index, wrong))
        return wrong

    def state(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything in the lab's cache."""
        files = self.lab_path.rglob("*")
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes() if path.is_file() else b"")
            for path in files
        }


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    """The cache is empty; the lab's has all blocks of a content, and is whole."""
    made = Caches(tmp_path)
    put(made.lab, *range(6))
    made.lab.flush()
    assert made.lab.complete(CONTENT)
    made.lab.note_uses()
    return made


def test_what_others_have_is_here(caches: Caches) -> None:
    """It is read, not missing, counted as cached, and of the same fingerprint; nothing in the lab's cache changes."""
    before = caches.state()
    assert caches.own.missing(CONTENT, range(6)) == []
    assert caches.own.read(CONTENT, ALL) == BYTES
    assert caches.own.cached_bytes(CONTENT) == len(BYTES)
    assert caches.own.checked_block(CONTENT, 5) == BYTES[5 * BLOCK_BYTES :]
    assert fingerprint_of(caches.own.records(CONTENT)) == fingerprint_of(caches.lab.records(CONTENT))
    caches.own.note_uses()
    caches.own.flush()
    caches.own.forget_deleted()
    assert not caches.own.complete(CONTENT)
    assert caches.own.open_whole(CONTENT) is None
    assert caches.state() == before


def test_blocks_of_both(caches: Caches) -> None:
    """Each block is read where it is: the cache's own comes first, and what is in neither is missing."""
    folder = folder_of(caches.lab_path, "aa11", scope="aws")
    with (folder / CHECKSUMS).open("r+b") as file:
        file.seek(64 + 2 * 16)
        file.write(bytes(2 * 16))
    assert caches.own.missing(CONTENT, range(6)) == [2, 3]
    put(caches.own, 2)
    assert caches.own.missing(CONTENT, range(6)) == [3]
    for index in (0, 1, 2, 4, 5):
        part = block_range(CONTENT, index)
        assert caches.own.read(CONTENT, part) == BYTES[part.start : part.stop]
    assert caches.own.read(CONTENT, block_range(CONTENT, 3)) is None
    assert None in list(caches.own.records(CONTENT))
    put(caches.own, 5)
    assert caches.own.cached_bytes(CONTENT) == len(BYTES) - BLOCK_BYTES


def test_warm_blocks_are_read_without_waiting(caches: Caches) -> None:
    """After the first read no thread is needed, whether the cache itself has a part of the content or nothing."""
    part = ByteRange(BLOCK_BYTES, BLOCK_BYTES + 4096)
    with pytest.raises(trio.WouldBlock):
        caches.own.read_nowait(CONTENT, part)
    for _ in range(2):
        assert caches.own.read(CONTENT, part) == BYTES[part.start : part.stop]
        assert caches.own.read_nowait(CONTENT, part) == BYTES[part.start : part.stop]
        put(caches.own, 5)
    assert caches.own.read(OTHER, ByteRange(0, 10)) is None
    assert caches.own.read_nowait(OTHER, ByteRange(0, 10)) is None


def test_a_damaged_block_is_a_miss(caches: Caches) -> None:
    """It counts as damaged, is fetched, and is read from the cache then; the lab's file stays as it is."""
    with (folder_of(caches.lab_path, "aa11", scope="aws") / DATA).open("r+b") as file:
        file.write(b"damaged")
    before, part = caches.state(), ByteRange(0, 10)
    assert caches.own.read(CONTENT, part) is None
    assert caches.metrics.corrupt_blocks == 1
    assert caches.state() == before
    put(caches.own, 0)
    assert caches.own.read(CONTENT, part) == BYTES[:10]


def test_a_wrong_content_is_not_used_again(caches: Caches) -> None:
    """What proved to be wrong is dropped: nothing of it is read there any more, and nothing there is deleted."""
    before = caches.state()
    caches.own.drop(CONTENT)
    assert caches.own.read(CONTENT, ALL) is None
    assert caches.own.missing(CONTENT, range(6)) == list(range(6))
    assert caches.state() == before


def test_a_file_that_goes(caches: Caches) -> None:
    """Evicted there, or cut short: a miss, and no signal that ends the process."""
    assert caches.own.read(CONTENT, ALL) == BYTES
    view = caches.own.read(CONTENT, ALL)
    os.truncate(folder_of(caches.lab_path, "aa11", scope="aws") / DATA, 10)
    assert view == BYTES
    assert caches.own.read(CONTENT, ALL) is None
    caches.lab.drop(CONTENT)
    caches.own.forget_deleted()
    assert caches.own.read(CONTENT, ByteRange(0, 10)) is None
    assert caches.own.cached_bytes(CONTENT) == 0


def test_closing_what_others_delete_leaves_no_trace(caches: Caches) -> None:
    """What is still open of another's cache is not shown there: nothing is ever written to it."""
    assert caches.lab.put(OTHER, 0, BYTES[:BLOCK_BYTES])
    for content in (CONTENT, OTHER):
        assert caches.own.read(content, ByteRange(0, 10)) == BYTES[:10]
    caches.lab.drop(OTHER)
    before = caches.state()
    caches.own.forget_deleted()
    assert caches.own.read(OTHER, ByteRange(0, 10)) is None
    assert caches.state() == before


# Digests


@pytest.mark.parametrize("are_proven", [True, False], ids=["proven", "imported"])
def test_a_block_that_contradicts_its_digest_is_not_used(caches: Caches, are_proven: bool) -> None:
    """It is missing, counted once, and named; all others are read, and nothing changes where it stands."""
    caches.plant(3)
    before = caches.state()
    caches.digests.keep_proven(PROVEN) if are_proven else caches.digests.take_in(PROVEN)
    with capture_logs() as logs:
        for _ in range(2):
            assert caches.own.read(CONTENT, ALL) is None
    for index in (0, 1, 2, 4, 5):
        part = block_range(CONTENT, index)
        assert (
            caches.own.read(CONTENT, part) == caches.own.read_nowait(CONTENT, part) == BYTES[part.start : part.stop]
        )
    assert caches.own.read_nowait(CONTENT, block_range(CONTENT, 3)) is None
    assert caches.own.checked_block(CONTENT, 3) is None
    assert caches.own.missing(CONTENT, range(6)) == [3]
    assert caches.own.cached_bytes(CONTENT) == len(BYTES) - BLOCK_BYTES
    assert fingerprint_of(caches.own.records(CONTENT)) is None
    assert (caches.metrics.wrong_blocks, caches.metrics.corrupt_blocks) == (1, 0)
    [said] = [one["reason"] for one in logs]
    assert said.startswith(f"{folder_of(caches.lab_path, 'aa11', scope='aws')}: block 3 came as blake2b-128:")
    assert caches.state() == before
    put(caches.own, 3)
    assert caches.own.read(CONTENT, block_range(CONTENT, 3)) == BYTES[3 * BLOCK_BYTES : 4 * BLOCK_BYTES]


def test_the_next_place_is_asked_for_it(caches: Caches) -> None:
    """Another lab has the block as it was released: it is read from there."""
    caches.plant(0)
    caches.digests.keep_proven(PROVEN)
    second = caches.directory / "second"
    second.mkdir(mode=0o700)
    put(BlockCache(second, scope="aws", metrics=Metrics()), 0)
    own = caches.again(StoredBlocks(second, scope="aws", metrics=Metrics(), digests=caches.digests))
    assert own.read(CONTENT, ByteRange(0, 100)) == BYTES[:100]
    assert own.read_nowait(CONTENT, ByteRange(0, 100)) == BYTES[:100]
    assert own.missing(CONTENT, range(6)) == []


def test_digests_that_become_known_while_blocks_are_used(caches: Caches) -> None:
    """What was used before is held against them, off the event loop; without the claim it is used again."""
    wrong = caches.plant(0)
    assert caches.own.read(CONTENT, ByteRange(0, 7)) == wrong[:7]
    caches.digests.take_in(PROVEN)
    with pytest.raises(trio.WouldBlock):
        caches.own.read_nowait(CONTENT, ByteRange(0, 7))
    assert caches.own.read(CONTENT, ByteRange(0, 7)) is None
    assert caches.own.read_nowait(CONTENT, ByteRange(0, 7)) is None
    caches.digests.doubt(PROVEN.file_hash)
    assert caches.own.read(CONTENT, ByteRange(0, 7)) == wrong[:7]


def test_each_read_is_held_against_digests_where_each_is_checked(caches: Caches) -> None:
    """With `--verify always` a block that was good is not used any more when its owner has made up another."""
    caches.digests.keep_proven(PROVEN)
    own = caches.again(check_every_read=True)
    assert own.read(CONTENT, ByteRange(0, 7)) == BYTES[:7]
    with pytest.raises(trio.WouldBlock):
        own.read_nowait(CONTENT, ByteRange(0, 7))
    caches.plant(0)
    assert own.read(CONTENT, ByteRange(0, 7)) is None


def test_a_place_of_ours_forgets_a_block_that_contradicts(caches: Caches) -> None:
    """What a mirror sent once is written anew when it comes again, and is good then."""
    wrong = bytes(BLOCK_BYTES)
    sent = BlockCache(caches.directory / "own", scope="mirror", metrics=caches.metrics, digests=caches.digests)
    assert sent.put(CONTENT, 0, wrong)
    caches.lab.drop(CONTENT)
    own = caches.again(sent)
    assert own.read(CONTENT, ByteRange(0, 7)) == wrong[:7]
    caches.digests.keep_proven(PROVEN)
    assert own.read(CONTENT, ByteRange(0, 7)) is None
    assert caches.metrics.wrong_blocks == 1
    assert sent.put(CONTENT, 0, BYTES[:BLOCK_BYTES])
    assert own.read(CONTENT, ByteRange(0, 7)) == BYTES[:7]


class Hanging(StoredBlocks):
    """A lab's cache on a disk of another host, which hangs when a test wants it to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, scope="aws", metrics=Metrics())
        self.answers, self.is_asked = threading.Event(), threading.Event()

    def _read(self, content: Content, byte_range: ByteRange, *, is_checked_now: bool) -> memoryview | None:
        self.is_asked.set()
        self.answers.wait()
        return super()._read(content, byte_range, is_checked_now=is_checked_now)

    def forget_deleted(self) -> None:
        """Ask."""
        self.answers.wait()
        super().forget_deleted()


def test_a_place_that_hangs(caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one question has no answer all others are a miss, and go to S3; when it has, the place is used again."""
    lab = Hanging(caches.lab_path)
    own = BlockCache(tmp_path / "own", scope="aws", metrics=Metrics(), behind=Behind([lab]))
    monkeypatch.setattr(behind, "_PATIENCE_SECONDS", 0.0)
    found: list[memoryview | None] = []
    first = threading.Thread(target=lambda: found.append(own.read(CONTENT, ALL)))
    first.start()
    lab.is_asked.wait()
    own.forget_deleted()
    assert own.read(CONTENT, ALL) is None
    assert own.checked_block(CONTENT, 0) is None
    assert own.missing(CONTENT, range(6)) == list(range(6))
    assert fingerprint_of(own.records(CONTENT)) is None
    assert own.cached_bytes(CONTENT) == 0
    lab.answers.set()
    first.join()
    assert found == [BYTES] == [own.read(CONTENT, ALL)]


def test_making_room_does_not_wait_for_a_place(
    caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes room closes what is deleted, in all places: one that hangs does not hold it up."""
    lab = Hanging(caches.lab_path)
    own = BlockCache(tmp_path / "own", scope="aws", metrics=Metrics(), behind=Behind([lab]))
    monkeypatch.setattr(behind, "_PATIENCE_SECONDS", 0.0)
    own.forget_deleted()
    assert own.read(CONTENT, ALL) is None
    lab.answers.set()
