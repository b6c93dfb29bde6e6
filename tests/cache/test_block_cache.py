"""Blocks on disk: shared by all processes, found without an index, and never needed."""

import errno
import gc
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.fakes.disks import memory_disk, remount
from tests.open_files import open_files
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import content_places, open_contents
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_blocks import ContentBlocks
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT, WHOLE
from vbnfs.cache.inventory import CachedContent, scan, stock_of
from vbnfs.cache.stock import Stock
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.whole_file import WholeFile
from vbnfs.host.places import Place
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

GIB = 1 << 30
SMALL = random.Random(2).randbytes(3 * BLOCK_BYTES + 77)


def content(name: str, size_bytes: int) -> Content:
    return Content(name, size_bytes, ObjectVersion(f"key-of-{name}", "v1"))


A = content("aa11", len(SMALL))


def make(directory: Path, *, scope: str = "aws", metrics: Metrics | None = None) -> BlockCache:
    return BlockCache(directory, scope=scope, metrics=metrics or Metrics())


def put_all(cache: BlockCache, wanted: Content, data: bytes) -> None:
    for index in range(-(-len(data) // BLOCK_BYTES)):
        part = block_range(wanted, index)
        assert cache.put(wanted, index, data[part.start : part.stop]) == len(part)


def folders(directory: Path) -> list[Path]:
    """The folders of contents."""
    return [path.parent for path in directory.rglob(DATA)]


def only_data(directory: Path) -> Path:
    (folder,) = folders(directory)
    return folder / DATA


def descriptors() -> int:
    return len(open_files())


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Keeping and reading


def test_what_was_put_is_read_after_a_restart(tmp_path: Path) -> None:
    """There is nothing but the files: a new process finds every block, and only in the place of its name."""
    put_all(make(tmp_path), A, SMALL)
    assert folders(tmp_path) == [tmp_path / FORMAT / "aws" / "partial" / "aa" / "aa11"]
    again = make(tmp_path)
    assert again.read(A, ByteRange(0, len(SMALL))) == SMALL
    assert again.read(A, ByteRange(BLOCK_BYTES - 3, BLOCK_BYTES + 3)) == SMALL[BLOCK_BYTES - 3 : BLOCK_BYTES + 3]


def test_a_range_with_a_block_missing_is_a_miss(tmp_path: Path) -> None:
    """And `missing` names exactly the blocks that are not recorded, in the order asked."""
    cache = make(tmp_path)
    assert cache.missing(A, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert cache.read(A, ByteRange(0, 1)) is None
    cache.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    cache.put(A, 3, SMALL[3 * BLOCK_BYTES :])
    assert cache.missing(A, [3, 2, 1, 0]) == [2, 0]
    assert cache.read(A, ByteRange(BLOCK_BYTES, 2 * BLOCK_BYTES + 1)) is None
    assert cache.read(A, ByteRange(3 * BLOCK_BYTES, len(SMALL))) == SMALL[3 * BLOCK_BYTES :]


def test_read_nowait_asks_no_other_host(tmp_path: Path) -> None:
    """Where another host may have the cache, no range is read, or found missing, without a thread."""
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics(), is_local=False)
    put_all(cache, A, SMALL)
    whole = ByteRange(0, len(SMALL))
    assert cache.read(A, whole) == SMALL
    for wanted in (whole, ByteRange(0, 10)):
        with pytest.raises(trio.WouldBlock):
            cache.read_nowait(A, wanted)
    cache.drop(A)
    assert cache.read(A, whole) is None
    with pytest.raises(trio.WouldBlock):
        cache.read_nowait(A, whole)


def test_no_file_is_closed_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A content that has to make way for another is closed without the lock: that may take long."""
    monkeypatch.setattr(open_contents, "_MOST", 1)
    cache = make(tmp_path)
    closed: list[set[str]] = []
    close = ContentBlocks.__del__

    def ask_and_close(file: ContentBlocks) -> None:
        asked = threading.Thread(target=lambda: closed.append(cache.stock.take_changed()), daemon=True)
        asked.start()
        asked.join(60)
        close(file)

    put_all(cache, A, SMALL)
    gc.collect()  # what other tests have left is closed before
    with monkeypatch.context() as patch:
        patch.setattr(ContentBlocks, "__del__", ask_and_close)
        put_all(cache, content("bb22", 5), b"other")
    assert closed == [{"aa11"}]


def test_read_nowait_opens_nothing(tmp_path: Path) -> None:
    """Opening a content may take time. Of an open one, a block is at hand, also when it has to be checked first."""
    put_all(make(tmp_path), A, SMALL)
    cache = make(tmp_path)
    with pytest.raises(trio.WouldBlock):
        cache.read_nowait(A, ByteRange(0, 10))
    cache.read(A, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 1))
    part = ByteRange(BLOCK_BYTES - 5, BLOCK_BYTES + 9)
    assert cache.read_nowait(A, part) == SMALL[part.start : part.stop]


def test_what_an_open_content_lacks_is_known_at_once(tmp_path: Path) -> None:
    """A reader waits neither for the disk nor for a thread to learn that a block is not here."""
    cache = make(tmp_path)
    cache.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert cache.read_nowait(A, ByteRange(0, 10)) is None
    assert cache.read_nowait(A, ByteRange(BLOCK_BYTES - 1, BLOCK_BYTES + 1)) is None
    assert cache.read_nowait(A, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 1)) == SMALL[BLOCK_BYTES : BLOCK_BYTES + 1]


def test_cached_and_allocated_bytes(tmp_path: Path) -> None:
    """`cached_bytes` counts recorded bytes; `Stock.allocated_bytes` what the disk gave."""
    big = content("bb22", (1 << 30) + 100)
    cache = make(tmp_path)
    assert (cache.cached_bytes(big), cache.stock.allocated_bytes(big)) == (0, 0)
    cache.put(big, 7, SMALL[:BLOCK_BYTES])
    cache.put(big, 4096, SMALL[:100])
    assert cache.cached_bytes(big) == BLOCK_BYTES + 100
    assert cache.stock.allocated_bytes(big) == BLOCK_BYTES + 100
    (folder,) = folders(tmp_path)
    usage = sum(path.stat().st_blocks * 512 for path in (folder, *folder.iterdir()))
    other = CachedContent(f"{FORMAT}/other/partial/bb/bb22", 4096, 0)  # of another scope
    cache.stock.take([*scan(tmp_path), other])
    assert cache.stock.allocated_bytes(big) == usage
    assert BLOCK_BYTES + 100 < usage < 2 * BLOCK_BYTES


def test_what_is_here_of_many_contents_is_found_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the contents that are asked for is opened for that; numbers are those of each."""
    partial, absent = content("bb22", 1 << 40), [content(f"cc{number:04}", 1 << 40) for number in range(100)]
    cut = content("bb33", 3 * BLOCK_BYTES + 100)
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    assert cache.complete(A)
    cache.put(partial, 7, SMALL[:BLOCK_BYTES])
    cache.put(cut, 3, SMALL[:100])
    opened = list[str]()
    really = ContentFile.open

    def counted(place: Place, **options: Any) -> ContentFile | None:
        opened.append(place.name)
        return really(place, **options)

    monkeypatch.setattr(ContentFile, "open", counted)
    other = make(tmp_path)
    found = other.cached_bytes_of([A, partial, cut, *absent])
    numbers = {"aa11": len(SMALL), "bb22": BLOCK_BYTES, "bb33": 100}
    assert found == numbers | {one.content_id: 0 for one in absent}
    assert cache.cached_bytes_of([A, partial, cut]) == numbers  # the same where they are open already
    assert other.cached_bytes_of([content("bb22", 1 << 30)]) == {"bb22": 0}  # what is here is of another size
    assert opened == []
    assert other.whole_ids() == {"aa11"}
    assert other.whole_seals({"aa11", "bb22"}) == {"aa11": cache.seal(A)}
    stock = dict(stock_of(tmp_path, "aws"))
    assert (stock.keys(), stock["aa11"]) == ({"aa11", "bb22", "bb33"}, None)
    assert stock["bb22"] in range(BLOCK_BYTES, 2 * BLOCK_BYTES)
    assert dict(stock_of(tmp_path, "other")) == {}


def test_a_content_whose_files_cannot_be_looked_at_has_nothing_here(tmp_path: Path) -> None:
    """A folder of a content without its checksums, or with a link in their place, is as good as none."""
    lacking, linked, good = (content(f"bb{number}", 2 * BLOCK_BYTES) for number in range(3))
    cache = make(tmp_path)
    for one in (lacking, linked, good):
        cache.put(one, 0, SMALL[:BLOCK_BYTES])
    checksums = {path.parent.name: path for path in tmp_path.rglob("checksums")}
    checksums["bb0"].unlink()
    checksums["bb1"].unlink()
    checksums["bb1"].symlink_to(checksums["bb2"])
    assert make(tmp_path).cached_bytes_of([lacking, linked, good]) == {"bb0": 0, "bb1": 0, "bb2": BLOCK_BYTES}


def test_caches_of_two_scopes_share_their_stock(tmp_path: Path) -> None:
    """What a mirror sent of a content counts with what the dataset's bucket sent of it."""
    stock = Stock({"aws", "mirror"})
    for scope in ("aws", "mirror", "other"):
        more = {} if scope == "other" else {"stock": stock}
        cache = BlockCache(tmp_path, scope=scope, metrics=Metrics(), **more)
        cache.put(A, 0, SMALL[:BLOCK_BYTES])
    assert stock.allocated_bytes(A) == 2 * BLOCK_BYTES
    assert stock.take_changed() == {A.content_id}
    stock.take(list(scan(tmp_path)))
    assert stock.allocated_bytes(A) == sum(one.allocated_bytes for one in scan(tmp_path) if one.scope != "other")
    assert (stock.take_changed(), stock.take_changed()) == ({A.content_id}, set())


def test_what_format_1_holds_is_not_cached(tmp_path: Path) -> None:
    """No read uses it, so `du` does not show it either."""
    cache = make(tmp_path)
    cache.stock.take([CachedContent("blocks-v1/aws/aa/aa11.0", 4096, 0)])
    assert cache.stock.allocated_bytes(A) == 0


def test_counting_and_dropping_look_at_what_is_here(tmp_path: Path) -> None:
    """However large a content is said to be, the work is for what there is of it; other files stay."""
    huge = content("cc33", 8 << 40)
    cache = make(tmp_path)
    last = huge.size_bytes // BLOCK_BYTES - 1
    for index in (0, 70_000, last):
        cache.put(huge, index, SMALL[:BLOCK_BYTES])
    (parent := folders(tmp_path)[0].parent).joinpath("no-content").touch()
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert cache.cached_bytes(huge) == 3 * BLOCK_BYTES
        cache.drop(huge)
        assert cache.cached_bytes(huge) == 0
    finally:
        sys.setprofile(before)
    assert calls < 1_000 + 10 * 3 * 1024
    assert os.listdir(parent) == ["no-content"]


def test_a_fully_cached_gib_is_two_files(tmp_path: Path) -> None:
    """However many blocks of it are here."""
    big = content("bb22", GIB)
    cache = make(tmp_path)
    for index in range(0, GIB // BLOCK_BYTES, 64):
        cache.put(big, index, bytes(BLOCK_BYTES))
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders(tmp_path)] == [[CHECKSUMS, DATA]]


# Whole contents


def test_a_complete_content_is_whole_when_it_is_said_to_be(tmp_path: Path) -> None:
    """Then its `data` stands under `whole`, and is the file; until then there is none."""
    cache, other = make(tmp_path), make(tmp_path)
    cache.put(A, 0, SMALL[:BLOCK_BYTES])
    assert not cache.complete(A)
    put_all(other, A, SMALL)
    assert cache.open_whole(A) is None
    assert cache.complete(A)
    assert other.complete(A)
    assert folders(tmp_path) == [tmp_path / FORMAT / "aws" / "whole" / "aa" / "aa11"]
    assert only_data(tmp_path).read_bytes() == SMALL
    for each in (cache, other, make(tmp_path)):
        assert each.read(A, ByteRange(0, len(SMALL))) == SMALL
        with open(each.open_whole(A) or 0, "rb") as file:
            assert file.read() == SMALL


def test_what_the_disk_cannot_sync_is_not_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is whole is whole after a power cut; when the disk is well again, it is made whole."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert not cache.complete(A)
    assert cache.open_whole(A) is None
    assert cache.complete(A)


def test_what_was_evicted_is_not_made_whole(tmp_path: Path) -> None:
    """Though this process still reads it."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    shutil.rmtree(folders(tmp_path)[0])
    assert not cache.complete(A)
    assert folders(tmp_path) == []


def test_a_whole_content_with_a_damaged_block_is_not_whole(tmp_path: Path) -> None:
    """It is whole again when the block is back; what was partial beside it goes."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    assert cache.complete(A)
    with open(only_data(tmp_path), "r+b") as file:
        file.write(b"damage")
    beside = tmp_path / FORMAT / "aws" / "partial" / "aa" / "aa11"
    beside.mkdir(parents=True)
    (beside / DATA).touch()
    cache = make(tmp_path)
    assert cache.read(A, ByteRange(0, 10)) is None
    assert folders(tmp_path) == [beside]
    assert cache.open_whole(A) is None
    assert not cache.complete(A)
    cache.put(A, 0, SMALL[:BLOCK_BYTES])
    assert cache.complete(A)
    assert only_data(tmp_path).read_bytes() == SMALL


@pytest.mark.parametrize("size", [0, len(SMALL) - 1])
def test_what_stands_in_the_place_of_a_whole_content(tmp_path: Path, size: int) -> None:
    """A folder that is no content of that length goes; one that is stays, and the second one goes."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    foreign = tmp_path / FORMAT / "aws" / "whole" / "aa" / "aa11"
    foreign.mkdir(parents=True)
    for name in (DATA, CHECKSUMS):
        (foreign / name).write_bytes(bytes(size))
    assert cache.complete(A)
    assert only_data(tmp_path).read_bytes() == SMALL


def test_only_what_is_whole_is_opened_as_one(tmp_path: Path) -> None:
    """Neither a content of another length nor a link."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    cache.complete(A)
    os.truncate(only_data(tmp_path), 100)
    assert cache.open_whole(A) is None
    assert not cache.is_whole(A)
    data = only_data(tmp_path)
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        cache.open_whole(A)
    assert not cache.is_whole(A)


def test_what_lacks_its_checksums_is_not_whole(tmp_path: Path) -> None:
    """One file of a content alone serves no read, though a process that has it open reads it on."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    assert cache.complete(A)
    only_data(tmp_path).with_name(CHECKSUMS).unlink()
    assert not cache.is_whole(A)


def test_opening_counts_as_use(tmp_path: Path) -> None:
    """A content of which only opening is seen is used, for eviction; noting it asks no disk, and it may be gone."""
    put_all(make(tmp_path), A, SMALL)
    checksums = only_data(tmp_path).with_name(CHECKSUMS)
    os.utime(checksums, (0, 0))
    cache = make(tmp_path)
    cache.note_opened(A)
    cache.note_opened(content("bb22", 5))
    assert checksums.stat().st_mtime == 0
    cache.note_uses()
    assert checksums.stat().st_mtime > 1e9


def test_a_content_has_the_seal_of_its_file(tmp_path: Path) -> None:
    """It is the same when the content is made whole, and for who has the file open; none of what is not here."""
    cache = make(tmp_path)
    assert cache.seal(A) is None
    put_all(cache, A, SMALL)
    seal = cache.seal(A)
    assert cache.complete(A)
    descriptor = make(tmp_path).open_whole(A)
    assert descriptor is not None
    assert WholeFile(descriptor).seal() == seal == cache.seal(A)


def test_what_one_server_sent_does_not_answer_for_another(tmp_path: Path) -> None:
    """Scopes are apart, also for contents of the same name."""
    put_all(make(tmp_path), A, SMALL)
    other = make(tmp_path, scope="localhost_8333")
    assert other.read(A, ByteRange(0, 1)) is None
    assert other.missing(A, [0]) == [0]
    assert other.cached_bytes(A) == 0
    other.put(A, 0, SMALL[:BLOCK_BYTES])
    assert make(tmp_path).read(A, ByteRange(0, len(SMALL))) == SMALL


# A process of its own: Python takes no audit hook away, and one that stays lets two threads that start at once
# fail where a test is traced for its coverage (Python 3.11, `sys.settrace`).
LOOKS_AT = """
import json, sys
from pathlib import Path
from tests.cache.test_block_cache import A, SMALL, make
from vbnfs.objects import ByteRange

looked_at = []
def hear(event, arguments):
    if event in {"open", "os.scandir", "os.listdir"}:
        looked_at.append(f"{event} {arguments[0]}")

sys.addaudithook(hear)
cache = make(Path(sys.argv[1]))
at_start = list(looked_at)
looked_at.clear()
data = cache.read(A, ByteRange(0, 10))
at_read = list(looked_at)
assert data == SMALL[:10]
print(json.dumps([at_start, at_read]))
"""


def test_starting_looks_at_nothing_and_a_read_at_its_content_only(tmp_path: Path) -> None:
    """With 5,000 contents in the cache, the first read opens two files and their folders, and lists none."""
    put_all(make(tmp_path), A, SMALL)
    for number in range(5000):
        folder = tmp_path / FORMAT / "aws" / "whole" / f"{number % 256:02x}" / f"{number:06}"
        folder.mkdir(parents=True)
    command = [sys.executable, "-c", LOOKS_AT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    at_start, at_read = json.loads(done.stdout)
    way = ("/", *tmp_path.parts[1:], ".", "/proc/self/mountinfo")
    assert at_start == [f"open {name}" for name in way]  # none can be replaced
    tried, found = [FORMAT, "aws", "whole", "aa", "aa11"], [FORMAT, "aws", "partial", "aa", "aa11", DATA, CHECKSUMS]
    assert at_read == [f"open {name}" for name in (*tried, *found)]


# Damage and loss


def test_a_damaged_block_is_counted_and_missed(tmp_path: Path) -> None:
    """The adjacent blocks serve, and it can be put again."""
    metrics = Metrics()
    put_all(make(tmp_path), A, SMALL)
    with open(only_data(tmp_path), "r+b") as file:
        file.seek(BLOCK_BYTES + 1000)
        file.write(b"damage")
    cache = make(tmp_path, metrics=metrics)
    assert cache.read(A, ByteRange(0, len(SMALL))) is None
    assert metrics.corrupt_blocks == 1
    assert cache.missing(A, range(4)) == [1]
    cache.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    assert metrics.corrupt_blocks == 1


def test_a_damaged_block_is_left_to_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading must not wait, nothing is written, renamed or counted: the disk may be frozen."""
    metrics = Metrics()
    cache = make(tmp_path, metrics=metrics)
    put_all(make(tmp_path), A, SMALL)
    assert cache.read(A, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 1)) is not None
    with open(only_data(tmp_path), "r+b") as file:
        file.write(b"damage")
    for name in ("pwrite", "rename"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("it may wait for the disk"))
    with pytest.raises(trio.WouldBlock):
        cache.read_nowait(A, ByteRange(0, 10))
    monkeypatch.undo()
    assert metrics.corrupt_blocks == 0
    assert cache.read(A, ByteRange(0, 10)) is None
    assert metrics.corrupt_blocks == 1


def test_a_file_cut_short_while_in_use_never_shows_holes(tmp_path: Path) -> None:
    """A put after the cut makes a new file: growing the old one would show zeros in verified blocks."""
    reader, writer = make(tmp_path), make(tmp_path)
    put_all(writer, A, SMALL)
    for cache in (reader, writer):
        assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    os.truncate(only_data(tmp_path), BLOCK_BYTES)
    writer.put(A, 3, SMALL[3 * BLOCK_BYTES :])
    for cache in (reader, writer):
        for index in range(4):
            part = block_range(A, index)
            assert cache.read(A, part) in {None, SMALL[part.start : part.stop]}
    put_all(writer, A, SMALL)
    reader.forget_deleted()
    assert reader.read(A, ByteRange(0, len(SMALL))) == SMALL


def test_a_put_after_eviction_makes_the_file_again(tmp_path: Path) -> None:
    """The old file goes on reading until then; what is put afterwards is found by others."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    shutil.rmtree(folders(tmp_path)[0])
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    cache.put(A, 0, SMALL[:BLOCK_BYTES])
    assert make(tmp_path).read(A, ByteRange(0, BLOCK_BYTES)) == SMALL[:BLOCK_BYTES]
    assert cache.missing(A, range(4)) == [1, 2, 3]


def test_forgetting_evicted_contents_gives_their_space_back(tmp_path: Path) -> None:
    """Their descriptors are closed; those of contents that are still there are not."""
    cache, before = make(tmp_path), descriptors()
    other = content("cc33", 10)
    put_all(cache, A, SMALL)
    put_all(cache, other, b"0123456789")
    shutil.rmtree(tmp_path / FORMAT / "aws" / "partial" / "aa" / "aa11")
    cache.forget_deleted()
    assert descriptors() == before + 3  # and what shows to others what is held
    assert cache.read(A, ByteRange(0, 1)) is None
    assert cache.read(other, ByteRange(0, 10)) == b"0123456789"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (shutil.rmtree(folder), folder.symlink_to("/etc")),
        lambda folder: (shutil.rmtree(folder), folder.touch()),
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        lambda folder: ((folder / DATA).unlink(), (folder / DATA).symlink_to("/etc/passwd")),
        lambda folder: ((folder / CHECKSUMS).unlink(), (folder / CHECKSUMS).mkdir()),
        lambda folder: (shutil.rmtree(folder.parent), folder.parent.touch()),
    ],
    ids=["link", "file", "empty", "link-as-data", "folder-as-checksums", "file-as-folder"],
)
def test_what_is_no_content_is_a_miss(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """Whatever stands in a content's place: reads miss, puts replace it or are counted as failed, nothing raises."""
    metrics = Metrics()
    put_all(make(tmp_path), A, SMALL)
    spoil(folders(tmp_path)[0])
    cache = make(tmp_path, metrics=metrics)
    assert cache.read(A, ByteRange(0, 1)) is None
    assert cache.missing(A, [0, 1]) == [0, 1]
    assert cache.cached_bytes(A) == 0
    is_put = cache.put(A, 0, SMALL[:BLOCK_BYTES]) > 0
    assert metrics.cache_write_errors == (not is_put)
    assert make(tmp_path).read(A, ByteRange(0, 1)) == (SMALL[:1] if is_put else None)


def test_a_full_disk_keeps_nothing_and_is_logged_once(tmp_path: Path) -> None:
    """No read fails for it, and the log is not flooded, also not by a disk that is full again and again."""
    metrics = Metrics()
    cache = make(tmp_path, metrics=metrics)
    with capture_logs() as logs:
        with full_disk():
            assert [cache.put(A, 3, SMALL[3 * BLOCK_BYTES :]) for _ in range(50)] == [0] * 50
        put_all(cache, A, SMALL)
        with full_disk():
            cache.put(content("bb22", BLOCK_BYTES), 0, SMALL[:BLOCK_BYTES])
    assert metrics.cache_write_errors == 51
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert os.strerror(errno.EFBIG) in logs[0]["reason"]
    assert make(tmp_path).read(A, ByteRange(0, len(SMALL))) == SMALL


def test_what_is_safe_from_a_power_cut_is_counted(tmp_path: Path) -> None:
    """What was put is safe after a flush; what was evicted before it counts no more either, and nothing raises."""
    metrics = Metrics()
    cache = make(tmp_path, metrics=metrics)
    put_all(cache, A, SMALL)
    assert (metrics.kept_bytes, metrics.flushed_bytes) == (len(SMALL), 0)
    cache.flush()
    cache.flush()
    assert (metrics.kept_bytes, metrics.flushed_bytes) == (len(SMALL), len(SMALL))
    cache.put(A, 0, SMALL[:BLOCK_BYTES])
    shutil.rmtree(folders(tmp_path)[0])
    cache.flush()
    assert metrics.flushed_bytes == metrics.kept_bytes == len(SMALL) + BLOCK_BYTES


# Many at once


def test_open_contents_are_bounded(tmp_path: Path) -> None:
    """Of 300 contents, 128 stay open, and all can be read: a limit of 1,024 descriptors is never in sight."""
    cache, before = make(tmp_path), descriptors()
    contents = [content(f"{number:06x}", 10) for number in range(300)]
    for number, one in enumerate(contents):
        cache.put(one, 0, f"{number:010}".encode())
        assert len(os.listdir("/proc/self/fd")) <= before + 256 + 1  # that of the listing
    assert descriptors() == before + 256
    for number, one in enumerate(contents):
        assert cache.read(one, ByteRange(0, 10)) == f"{number:010}".encode()
    assert descriptors() == before + 256


def test_two_mounts_share_a_directory(tmp_path: Path) -> None:
    """What one puts the other reads, also into a content that both have open."""
    first, second = make(tmp_path), make(tmp_path)
    first.put(A, 0, SMALL[:BLOCK_BYTES])
    assert second.read(A, ByteRange(0, 10)) == SMALL[:10]
    second.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert first.read(A, ByteRange(0, 2 * BLOCK_BYTES)) == SMALL[: 2 * BLOCK_BYTES]
    first.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert second.read(A, ByteRange(0, 2 * BLOCK_BYTES)) == SMALL[: 2 * BLOCK_BYTES]


def hammer(directory: Path, seed: int, *, rounds: int) -> int:
    """Put, read, evict and forget blocks of a few contents at random; how many reads were answered."""
    order, cache, answered = random.Random(seed), make(directory), 0
    for _ in range(rounds):
        number, index = order.randrange(3), order.randrange(3)
        one = content(f"dd{number}", 2 * BLOCK_BYTES + 100)
        part = block_range(one, index)
        wanted = random.Random(f"{number} {index}").randbytes(len(part))
        action = order.random()
        if action < 0.45:
            cache.put(one, index, wanted)
        elif action < 0.9:
            data = cache.read(one, part)
            assert data is None or data == wanted
            answered += data is not None
        elif action < 0.95:
            cache.forget_deleted()
        else:
            make(directory).drop(one)
    return answered


def test_threads_read_put_and_evict_without_a_wrong_byte(tmp_path: Path) -> None:
    """Eight threads, each with a cache of its own or the same: an answer is right or a miss."""
    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(lambda seed: hammer(tmp_path, seed, rounds=150), range(8)))
    assert all(answered)


def test_processes_read_put_and_evict_without_a_wrong_byte(tmp_path: Path) -> None:
    """Two real processes on one directory: no damaged block, no wrong byte, no crash."""
    script = "import sys; from pathlib import Path; from tests.cache.test_block_cache import hammer\n"
    script += "print(hammer(Path(sys.argv[1]), int(sys.argv[2]), rounds=300))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root)
        for seed in range(2)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert int(out) > 0
        assert b"damaged" not in err


def test_one_cache_serves_many_threads(tmp_path: Path) -> None:
    """More contents than may be open, read by eight threads: every answer is right, no descriptor is left over."""
    before, cache = descriptors(), make(tmp_path)
    contents = [content(f"{number:06x}", 10) for number in range(300)]
    for number, one in enumerate(contents):
        cache.put(one, 0, f"{number:010}".encode())

    def read(seed: int, cache: BlockCache = cache) -> None:
        order = random.Random(seed)
        for _ in range(300):
            number = order.randrange(300)
            assert cache.read(contents[number], ByteRange(0, 10)) == f"{number:010}".encode()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    assert descriptors() <= before + 256 + 1  # and the cache's folder
    del cache, read
    assert descriptors() == before


def test_a_content_that_is_begun_anew_while_it_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its bytes are synced another process evicts it, and gets a block of it: that is not whole."""
    cache, other = (BlockCache(tmp_path, scope="aws", metrics=Metrics()) for _ in range(2))
    content = Content("ab12", 3 * BLOCK_BYTES, ObjectVersion("key", "v1"))
    cache.put(content, 0, *(bytes(BLOCK_BYTES) for _ in range(3)))

    def meddle(place: Place) -> None:
        if WHOLE not in place.path.parts:
            other.drop(content)
            other.put(content, 1, bytes(BLOCK_BYTES))

    monkeypatch.setattr(content_places, "flush_files", meddle)
    assert not cache.complete(content)
    assert not other.is_whole(content)
    assert other.missing(content, range(3)) == [0, 2]


@pytest.mark.root
def test_a_disk_that_takes_writes_again(tmp_path: Path) -> None:
    """A content that was opened while the disk could only be read takes blocks as soon as the disk does."""
    with memory_disk(tmp_path, "size=8M"):
        content = Content("ab12", 2 * BLOCK_BYTES, ObjectVersion("key", "v1"))
        BlockCache(tmp_path, scope="aws", metrics=Metrics()).put(content, 0, bytes(BLOCK_BYTES))
        remount(tmp_path, "ro")
        cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
        assert cache.read(content, ByteRange(0, 10)) is not None
        assert cache.put(content, 1, bytes(BLOCK_BYTES)) == 0
        remount(tmp_path, "rw")
        assert cache.put(content, 1, bytes(BLOCK_BYTES)) == BLOCK_BYTES


def test_what_another_host_has_deleted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESTALE (open(2) on NFS) of an open content is a miss, and what comes then is kept in a new one."""
    cache = make(tmp_path)
    put_all(cache, A, SMALL)
    read, write = ContentFile.read, ContentFile.write
    stale = [cache._open.known(A)]

    def check(file: ContentFile) -> None:
        if file in stale:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def read_stale(file: ContentFile, *arguments: Any, **options: Any) -> Any:
        check(file)
        return read(file, *arguments, **options)

    def write_stale(file: ContentFile, *arguments: Any) -> None:
        check(file)
        write(file, *arguments)

    monkeypatch.setattr(ContentFile, "read", read_stale)
    monkeypatch.setattr(ContentFile, "write", write_stale)
    assert cache.put(A, 0, SMALL) == len(SMALL)
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    stale.append(cache._open.known(A))
    assert cache.read(A, ByteRange(0, len(SMALL))) is None
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    assert cache.failure is None
