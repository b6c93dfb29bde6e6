"""A cache as the sink of a GET: what it says it has stored is there, and right where that is known."""

import itertools
import random
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.cache.test_content_file import file_size_limit
from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.block_sink import BlockSink
from vbnfs.cache.digests import DigestSet
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

BLOCKS = 4
DATA = random.Random(3).randbytes((BLOCKS - 1) * BLOCK_BYTES + 99)
HASH = blake2b(DATA).hexdigest()
CONTENT = Content("ab12", len(DATA), ObjectVersion("key", "v1"), HASH)
DIGESTS = DigestSet(
    HASH, len(DATA), b"".join(digest(DATA[at : at + BLOCK_BYTES]) for at in range(0, len(DATA), BLOCK_BYTES))
)


def cache_in(directory: Path) -> BlockCache:
    return BlockCache(directory, scope="test", metrics=Metrics())


def cut(data: bytes, *places: int) -> list[bytes]:
    """Some bytes in parts that begin at these places."""
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def stored(cache: BlockCache) -> list[int]:
    missing = cache.missing(CONTENT, range(BLOCKS))
    return [index for index in range(BLOCKS) if index not in missing]


@pytest.mark.parametrize("digests", [None, DIGESTS])
@given(places=st.lists(st.integers(0, len(DATA))))
def test_blocks_are_stored_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, digests: DigestSet | None, places: list[int]
) -> None:
    """Checked by their digests or not: the cache has them, and the sink counts them."""
    cache = cache_in(tmp_path_factory.mktemp("cache"))
    sink = BlockSink(cache, CONTENT, digests)
    assert sink.store(0, cut(DATA[: 2 * BLOCK_BYTES], *places))
    assert (stored(cache), sink.stored_bytes) == ([0, 1], 2 * BLOCK_BYTES)
    assert sink.store(2 * BLOCK_BYTES, cut(DATA[2 * BLOCK_BYTES :], *places))
    assert sink.stored_bytes == len(DATA)
    assert cache.read(CONTENT, ByteRange(0, len(DATA))) == DATA


@pytest.mark.parametrize("wrong", range(BLOCKS))
def test_a_wrong_block_is_not_stored(tmp_path: Path, wrong: int) -> None:
    """Nor is what came with it: all of it is handed on as bytes, and judged where they are."""
    cache, damaged = cache_in(tmp_path), bytearray(DATA)
    damaged[wrong * BLOCK_BYTES + 7] ^= 1
    sink = BlockSink(cache, CONTENT, DIGESTS)
    assert not sink.store(0, cut(bytes(damaged), 100_000, 300_000))
    assert (stored(cache), sink.stored_bytes) == ([], 0)
    assert BlockSink(cache, CONTENT, None).store(0, cut(bytes(damaged)))  # where nothing is known of it


def test_a_full_disk_takes_nothing(tmp_path: Path) -> None:
    """It says so; a block of which a part was written is not recorded, and comes again when there is room."""
    cache = cache_in(tmp_path)
    sink = BlockSink(cache, CONTENT, DIGESTS)
    assert sink.store(0, [DATA[:BLOCK_BYTES]])
    with file_size_limit(BLOCK_BYTES + 1000), capture_logs() as lines:
        assert not sink.store(BLOCK_BYTES, [DATA[BLOCK_BYTES:]])
    assert [line["event"] for line in lines] == ["blocks cannot be kept; reads go on without"]
    assert (stored(cache), sink.stored_bytes) == ([0], BLOCK_BYTES)
    assert cache.failure is not None
    assert sink.store(BLOCK_BYTES, [DATA[BLOCK_BYTES:]])
    assert cache.failure is None
    assert cache.read(CONTENT, ByteRange(0, len(DATA))) == DATA


def test_a_defect_is_a_block_that_was_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged; the thread that stores everything goes on, and readers have the bytes."""

    def fail(*_: object) -> int:
        raise ZeroDivisionError

    cache = cache_in(tmp_path)
    monkeypatch.setattr(cache, "put", fail)
    with capture_logs() as lines:
        assert not BlockSink(cache, CONTENT, None).store(0, [DATA])
    assert [line["event"] for line in lines] == ["unexpected failure of a write"]
