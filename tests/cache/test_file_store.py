"""What receives blocks for a cache: in this process, or with two descriptors in another one."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from vbnfs.blocks import BLOCK_BYTES, by_block, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.block_sink import BlockSink
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.file_store import FileStore
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion, OpenStore

DATA: Final = os.urandom(3 * BLOCK_BYTES + 99)
ALL: Final = ByteRange(0, len(DATA))
CONTENT: Final = Content("aa" * 16, len(DATA), ObjectVersion("data/a.nwb", "first"), "ab" * 64)
DIGESTS: Final = DigestSet("ab" * 64, len(DATA), b"".join(digest(*block) for block in by_block([DATA])))


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", scope="aws", metrics=Metrics())


def made_again(opened: OpenStore | None) -> FileStore:
    """The store as another process has it: by its plan, and by descriptors of its own."""
    assert opened is not None
    data, checksums = opened.descriptors
    return FileStore(opened.plan, os.dup(data), os.dup(checksums))


@pytest.mark.parametrize("digests", [None, DIGESTS], ids=["unknown", "known"])
def test_another_process_stores_what_the_cache_reads(cache: BlockCache, digests: DigestSet | None) -> None:
    """Blocks stored by way of the descriptors are in the cache; counted once this process has heard of them."""
    sink = BlockSink(cache, CONTENT, digests)
    store = made_again(sink.opened(ByteRange(BLOCK_BYTES, len(DATA))))
    assert store.store(BLOCK_BYTES, [DATA[BLOCK_BYTES : BLOCK_BYTES + 7], DATA[BLOCK_BYTES + 7 :]])
    assert cache.missing(CONTENT, range(4)) == [0]
    assert cache.read(CONTENT, ByteRange(BLOCK_BYTES, len(DATA))) == DATA[BLOCK_BYTES:]
    assert (cache.stock.allocated_bytes(CONTENT), sink.stored_bytes) == (0, 0)
    sink.note_stored(BLOCK_BYTES, len(DATA))
    assert cache.stock.allocated_bytes(CONTENT) == sink.stored_bytes == len(DATA) - BLOCK_BYTES
    assert cache.stock.take_changed() == {CONTENT.content_id}


def test_what_another_process_stored_is_counted_and_synced(tmp_path: Path) -> None:
    """The metrics and the next sync know of it as of what this process has put."""
    metrics = Metrics()
    cache = BlockCache(tmp_path, scope="aws", metrics=metrics)
    sink = BlockSink(cache, CONTENT, None)
    assert made_again(sink.opened(ALL)).store(0, [DATA])
    sink.note_stored(0, len(DATA))
    cache.flush()
    assert (metrics.kept_bytes, metrics.flushed_bytes) == (len(DATA), len(DATA))


def test_a_wrong_block_is_not_stored(cache: BlockCache) -> None:
    """A block without its digest is handed back, and the good ones beside it with it."""
    store = made_again(BlockSink(cache, CONTENT, DIGESTS).opened(ByteRange(BLOCK_BYTES, len(DATA))))
    wrong = DATA[2 * BLOCK_BYTES : -1] + b"?"
    assert not store.store(2 * BLOCK_BYTES, [wrong])
    assert store.store(BLOCK_BYTES, [DATA[BLOCK_BYTES : 2 * BLOCK_BYTES]])
    assert cache.missing(CONTENT, range(4)) == [0, 2, 3]


def test_a_content_that_was_deleted_takes_nothing(cache: BlockCache) -> None:
    """What came of a content that was evicted meanwhile is handed back, and the cache begins it anew."""
    sink = BlockSink(cache, CONTENT, None)
    store = made_again(sink.opened(ALL))
    cache.drop(CONTENT)
    assert not store.store(0, [DATA])
    assert sink.store(0, [DATA])
    assert cache.read(CONTENT, ALL) == DATA


def test_a_cache_that_cannot_be_written_opens_nothing(cache: BlockCache, tmp_path: Path) -> None:
    """Then what comes is handed on as bytes, and `put` says what is wrong with the disk."""
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    (tmp_path / "cache").write_bytes(b"no folder")
    assert BlockSink(cache, CONTENT, None).opened(ALL) is None
