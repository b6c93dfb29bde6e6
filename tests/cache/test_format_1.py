"""What an earlier vbnfs cached is taken over: every good block, no other, and none is lost on the way."""

import os
import random
from pathlib import Path

import pytest

from tests.cache.test_content_file import file_size_limit
from tests.fakes.format_1 import TABLE_BYTES, write_segments
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.format_1 import Taken, convert, is_there, remove_rest, segments
from vbnfs.cache.inventory import CachedContent
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

SEGMENT_BYTES = 1024 * BLOCK_BYTES
DATA = random.Random(4).randbytes(20 * BLOCK_BYTES + 1000)
LAST = len(DATA) // BLOCK_BYTES


def content(name: str, size_bytes: int) -> Content:
    return Content(name, size_bytes, ObjectVersion(name, "v1"))


A = content("aa11", len(DATA))


def only_segment(directory: Path) -> CachedContent:
    (one,) = segments(folder_at(directory), scope="aws")
    return one


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    """A cache in the present format, in the same directory."""
    return BlockCache(tmp_path, scope="aws", metrics=Metrics())


def test_a_complete_file_is_taken_over(tmp_path: Path, cache: BlockCache) -> None:
    """All of its bytes are in the present format, and the segment is gone."""
    write_segments(tmp_path, A, DATA, blocks=range(LAST + 1))
    taken = convert(folder_at(tmp_path), only_segment(tmp_path), {A.content_id: A}, cache)
    assert taken == Taken(len(DATA), is_done=True)
    assert cache.read(A, ByteRange(0, len(DATA))) == DATA
    assert segments(folder_at(tmp_path), scope="aws") == []


def test_blocks_are_taken_over_where_they_are_good(tmp_path: Path, cache: BlockCache) -> None:
    """Those that are missing stay missing; a damaged one is missing, too."""
    here = [0, 1, 5, 15, 16, 17, LAST]
    write_segments(tmp_path, A, DATA, blocks=here)
    [path] = (tmp_path / "blocks-v1").rglob("*.0")
    with open(path, "r+b") as file:
        file.seek(TABLE_BYTES + 16 * BLOCK_BYTES + 5)
        file.write(b"damage")
    convert(folder_at(tmp_path), only_segment(tmp_path), {A.content_id: A}, cache)
    assert cache.missing(A, range(LAST + 1)) == sorted({*range(LAST + 1)} - {*here} | {16})
    assert cache.read(A, ByteRange(17 * BLOCK_BYTES, 17 * BLOCK_BYTES + 9)) == DATA[17 * BLOCK_BYTES :][:9]


def test_a_file_of_several_segments(tmp_path: Path, cache: BlockCache) -> None:
    """Blocks on both sides of 256 MiB have their places; sparse files make it cheap."""
    big = content("bb22", SEGMENT_BYTES + BLOCK_BYTES + 5)
    parts = {1023: DATA[:BLOCK_BYTES], 1024: DATA[BLOCK_BYTES : 2 * BLOCK_BYTES], 1025: b"final"}
    write_segments(tmp_path, big, parts, blocks=parts)
    found = segments(folder_at(tmp_path), scope="aws")
    assert sorted(one.path[-1] for one in found) == ["0", "1"]
    for one in found:
        assert convert(folder_at(tmp_path), one, {big.content_id: big}, cache) is not None
    assert {index for index in range(1026) if index not in cache.missing(big, range(1026))} == parts.keys()
    assert cache.read(big, ByteRange(1023 * BLOCK_BYTES, big.size_bytes)) == b"".join(parts.values())


def test_what_no_version_names_stays(tmp_path: Path, cache: BlockCache) -> None:
    """Its length is not known, and it may be another dataset's."""
    write_segments(tmp_path, A, DATA, blocks=[0])
    assert convert(folder_at(tmp_path), only_segment(tmp_path), {}, cache) is None
    assert only_segment(tmp_path).content_id == "aa11"


@pytest.mark.parametrize("taken_blocks", [1, 5, 16])
def test_a_disk_that_is_full_costs_nothing(tmp_path: Path, cache: BlockCache, taken_blocks: int) -> None:
    """What the cache did not take stays in the segment, and is taken over when there is room."""
    write_segments(tmp_path, A, DATA, blocks=range(LAST + 1))
    cache.put(A, 0, DATA[:BLOCK_BYTES])  # the files are there, as long as they will be
    with file_size_limit(BLOCK_BYTES * taken_blocks):
        taken = convert(folder_at(tmp_path), only_segment(tmp_path), {A.content_id: A}, cache)
    assert taken is not None
    assert not taken.is_done
    taken = convert(folder_at(tmp_path), only_segment(tmp_path), {A.content_id: A}, cache)
    assert taken is not None
    assert taken.is_done
    assert cache.read(A, ByteRange(0, len(DATA))) == DATA


def test_converting_takes_little_room_besides(
    tmp_path: Path, cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment does the cache take more than 16 blocks more than before."""
    write_segments(tmp_path, A, DATA, blocks=range(LAST + 1))
    put, most = BlockCache.put, 0

    def usage() -> int:
        return sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())

    def measured(self: BlockCache, *arguments: object) -> int:
        nonlocal most
        kept = put(self, *arguments)  # type: ignore[arg-type]
        most = max(most, usage())
        return kept

    before = usage()
    monkeypatch.setattr(BlockCache, "put", measured)
    convert(folder_at(tmp_path), only_segment(tmp_path), {A.content_id: A}, cache)
    assert most <= before + 17 * BLOCK_BYTES


def test_the_least_recently_used_is_converted_first(tmp_path: Path) -> None:
    """So it is evicted first afterwards, too; what came from another server is not listed."""
    for number, used in enumerate((30, 10, 20)):
        [path] = write_segments(tmp_path, content(f"aa{number}", 10), b"0123456789", blocks=[0])
        os.utime(path, (used, used))
    write_segments(tmp_path, A, DATA, blocks=[0], scope="other")
    assert [one.content_id for one in segments(folder_at(tmp_path), scope="aws")] == ["aa1", "aa2", "aa0"]


@pytest.mark.parametrize("rest", [None, "notes.txt", "aws/aa/aa11.0", "aws/aa/notes.txt"])
def test_the_old_folder_goes_when_nothing_is_left_in_it(tmp_path: Path, rest: str | None) -> None:
    """Files that are no part of it, and segments, stay."""
    old = tmp_path / "blocks-v1"
    for name in (".size", ".evicting", "aws/.claims", "aws/aa/x", "other/bb/x"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("x"):
            (old / name).touch()
    if rest is not None:
        (old / rest).write_text("precious")
    remove_rest(folder_at(tmp_path))
    assert is_there(folder_at(tmp_path)) == (rest is not None)
    assert rest is None or (old / rest).read_text() == "precious"
