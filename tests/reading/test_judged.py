"""What is said of a whole file without hashing it: at its whole length, and in short, the same."""

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.verdict import Verdict, fingerprint_of
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cache.whole_file import Seal
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading.judged import describe, is_good

DATA = random.Random(5).randbytes(2 * BLOCK_BYTES + 9)
CONTENT = Content("ab12", len(DATA), ObjectVersion("key", "v1"), hashlib.blake2b(DATA).hexdigest())


@pytest.fixture
def kept(tmp_path: Path) -> tuple[BlockCache, Verdicts]:
    """A cache that has all of the content, and no verdict on it."""
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    for index in range(3):
        part = block_range(CONTENT, index)
        cache.put(CONTENT, index, DATA[part.start : part.stop])
    return cache, Verdicts(tmp_path, scope="aws")


def seal_of(cache: BlockCache) -> Seal:
    """What the content's file is known by."""
    seal = cache.seal(CONTENT)
    assert seal is not None
    return seal


def judged(cache: BlockCache, found_hash: str, seal: str = "") -> Verdict:
    """What hashing these blocks gives."""
    fingerprint = fingerprint_of(cache.records(CONTENT))
    assert fingerprint is not None
    return Verdict(found_hash, fingerprint, "2026-01-01", 0, seal=seal)


def test_before_it_was_hashed(kept: tuple[BlockCache, Verdicts]) -> None:
    """A file that was not hashed, or of which there is no hash, is not good."""
    cache, verdicts = kept
    assert describe(cache, verdicts, CONTENT) == "no: not hashed yet"
    assert not is_good(cache, verdicts, CONTENT, seal_of(cache))
    without = replace(CONTENT, file_hash=None)
    assert describe(cache, verdicts, without) == "no: the manifest has no hash of it"
    assert not is_good(cache, verdicts, without, seal_of(cache))
    part = replace(CONTENT, content_id="cd34")
    assert describe(cache, verdicts, part) == "no: not complete"


@pytest.mark.parametrize("has_seal", [False, True])
def test_what_was_found_good(
    kept: tuple[BlockCache, Verdicts], monkeypatch: pytest.MonkeyPatch, has_seal: bool
) -> None:
    """It is good as long as it has the same blocks; by its seal without a look at them."""
    cache, verdicts = kept
    assert CONTENT.file_hash is not None
    verdicts.keep(CONTENT, judged(cache, CONTENT.file_hash, seal_of(cache).text if has_seal else ""))
    assert describe(cache, verdicts, CONTENT).startswith(f"blake2b:{CONTENT.file_hash[:8]}")
    if has_seal:
        monkeypatch.setattr(cache, "records", lambda _: pytest.fail("the blocks' checksums are read"))
    assert is_good(cache, verdicts, CONTENT, seal_of(cache))


def test_what_was_found_bad(kept: tuple[BlockCache, Verdicts]) -> None:
    """Its text says so, and what the hash was."""
    cache, verdicts = kept
    verdicts.keep(CONTENT, judged(cache, "1" * 128))
    assert describe(cache, verdicts, CONTENT).startswith("no: mismatch: ")
    assert not is_good(cache, verdicts, CONTENT, seal_of(cache))


def test_other_blocks_since(kept: tuple[BlockCache, Verdicts], tmp_path: Path) -> None:
    """A verdict holds for the blocks that were hashed alone."""
    cache, verdicts = kept
    assert CONTENT.file_hash is not None
    verdicts.keep(CONTENT, replace(judged(cache, CONTENT.file_hash), fingerprint="of other blocks"))
    assert describe(cache, verdicts, CONTENT) == "no: not hashed yet"
    assert not is_good(cache, verdicts, CONTENT, seal_of(cache))
    verdicts.keep(CONTENT, judged(cache, CONTENT.file_hash, seal_of(cache).text))
    [data] = tmp_path.rglob("data")
    os.utime(data, ns=(1, 1))
    assert is_good(cache, verdicts, CONTENT, seal_of(cache)), "by its blocks: the seal is another one"
