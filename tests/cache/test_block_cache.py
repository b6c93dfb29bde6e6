"""Blocks on disk: shared by all processes, found without an index, and never needed."""

import errno
import gc
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import trio
from structlog.testing import capture_logs

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import block_cache
from vbnfs.cache.block_cache import FORMAT, BlockCache, block_range
from vbnfs.cache.eviction import SegmentFile, scan
from vbnfs.cache.segment import SEGMENT_BLOCKS, SEGMENT_BYTES, TABLE_BYTES, Segment
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


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def only_file(directory: Path) -> Path:
    (path,) = files(directory)
    return path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (TABLE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Keeping and reading


def test_what_was_put_is_read_after_a_restart(tmp_path: Path) -> None:
    """There is nothing but the files: a new process finds every block, and only in the place of its name."""
    put_all(make(tmp_path), A, SMALL)
    assert only_file(tmp_path) == tmp_path / FORMAT / "aws" / "aa" / "aa11.0"
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


def test_a_range_over_two_segments_is_joined(tmp_path: Path) -> None:
    """The boundary at 256 MiB is nothing that a reader could notice; sparse files make it cheap."""
    big = content("bb22", SEGMENT_BYTES + BLOCK_BYTES + 5)
    left, right = SMALL[:BLOCK_BYTES], SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES]
    cache = make(tmp_path)
    cache.put(big, SEGMENT_BLOCKS - 1, left)
    boundary = ByteRange(SEGMENT_BYTES - 10, SEGMENT_BYTES + 10)
    assert cache.read(big, boundary) is None
    cache.put(big, SEGMENT_BLOCKS, right)
    cache.put(big, SEGMENT_BLOCKS + 1, b"final")
    assert cache.read(big, boundary) == left[-10:] + right[:10]
    assert cache.read(big, ByteRange(SEGMENT_BYTES - 10, SEGMENT_BYTES)) == left[-10:]
    assert cache.read(big, ByteRange(SEGMENT_BYTES, SEGMENT_BYTES + 10)) == right[:10]
    assert cache.read(big, ByteRange(SEGMENT_BYTES + BLOCK_BYTES, big.size_bytes)) == b"final"
    assert sorted(path.name for path in files(tmp_path)) == ["bb22.0", "bb22.1"]
    with pytest.raises(trio.WouldBlock):
        cache.read_nowait(big, boundary)


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
    """A segment that has to make way for another is closed without the lock: that may take long."""
    monkeypatch.setattr(block_cache, "_OPEN_SEGMENTS", 1)
    cache = make(tmp_path)
    closed: list[set[str]] = []
    close = Segment.__del__

    def ask_and_close(segment: Segment) -> None:
        asked = threading.Thread(target=lambda: closed.append(cache.take_changed()), daemon=True)
        asked.start()
        asked.join(1.0)
        close(segment)

    put_all(cache, A, SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "__del__", ask_and_close)
        put_all(cache, content("bb22", 5), b"other")
    assert closed == [{"aa11"}]


def test_read_nowait_opens_nothing(tmp_path: Path) -> None:
    """Opening a segment may take time. Of an open one, a block is at hand, also when it has to be checked first."""
    put_all(make(tmp_path), A, SMALL)
    cache = make(tmp_path)
    with pytest.raises(trio.WouldBlock):
        cache.read_nowait(A, ByteRange(0, 10))
    cache.read(A, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 1))
    part = ByteRange(BLOCK_BYTES - 5, BLOCK_BYTES + 9)
    assert cache.read_nowait(A, part) == SMALL[part.start : part.stop]


def test_what_an_open_segment_lacks_is_known_at_once(tmp_path: Path) -> None:
    """A reader waits neither for the disk nor for a thread to learn that a block is not here."""
    cache = make(tmp_path)
    cache.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert cache.read_nowait(A, ByteRange(0, 10)) is None
    assert cache.read_nowait(A, ByteRange(BLOCK_BYTES - 1, BLOCK_BYTES + 1)) is None
    assert cache.read_nowait(A, ByteRange(BLOCK_BYTES, BLOCK_BYTES + 1)) == SMALL[BLOCK_BYTES : BLOCK_BYTES + 1]


def test_cached_and_allocated_bytes(tmp_path: Path) -> None:
    """`cached_bytes` counts recorded bytes, of all segments; `allocated_bytes` what the disk gave."""
    big = content("bb22", SEGMENT_BYTES + 100)
    cache = make(tmp_path)
    assert (cache.cached_bytes(big), cache.allocated_bytes(big)) == (0, 0)
    cache.put(big, 7, SMALL[:BLOCK_BYTES])
    cache.put(big, SEGMENT_BLOCKS, SMALL[:100])
    assert cache.cached_bytes(big) == BLOCK_BYTES + 100
    assert cache.allocated_bytes(big) == BLOCK_BYTES + 100
    usage = sum(path.stat().st_blocks * 512 for path in files(tmp_path))
    other = SegmentFile("other/bb/bb22.0", 4096, 0)  # of another scope
    cache.take_stock([*scan(cache.directory), other])
    assert cache.allocated_bytes(big) == usage
    assert BLOCK_BYTES + 100 < usage < 2 * BLOCK_BYTES


def test_counting_and_dropping_look_at_what_is_here(tmp_path: Path) -> None:
    """However large a content is said to be, the work is for the files that there are of it."""
    huge = content("cc33", 10_000 * (5 << 30))
    cache = make(tmp_path)
    last = huge.size_bytes // BLOCK_BYTES - 1
    for index in (0, 70 * SEGMENT_BLOCKS, last):
        cache.put(huge, index, SMALL[:BLOCK_BYTES])
    (only_folder := files(tmp_path)[0].parent).joinpath("cc33.no-number").touch()
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
    assert calls < 1_000 + 10 * 3 * SEGMENT_BLOCKS
    assert [path.name for path in files(only_folder)] == ["cc33.no-number"]


def test_a_fully_cached_gib_is_four_files(tmp_path: Path) -> None:
    """Every sixteenth block of 1 GiB touches all files that the whole of it has: not one for each block."""
    big = content("bb22", GIB)
    cache = make(tmp_path)
    for index in range(0, GIB // BLOCK_BYTES, 64):
        cache.put(big, index, bytes(BLOCK_BYTES))
    cache.put(big, GIB // BLOCK_BYTES - 1, bytes(BLOCK_BYTES))
    assert len(files(tmp_path)) == 4


def test_what_one_server_sent_does_not_answer_for_another(tmp_path: Path) -> None:
    """Scopes are apart, also for contents of the same name."""
    put_all(make(tmp_path), A, SMALL)
    other = make(tmp_path, scope="localhost_8333")
    assert other.read(A, ByteRange(0, 1)) is None
    assert other.missing(A, [0]) == [0]
    assert other.cached_bytes(A) == 0
    other.put(A, 0, SMALL[:BLOCK_BYTES])
    assert make(tmp_path).read(A, ByteRange(0, len(SMALL))) == SMALL


_looked_at: list[str] | None = None


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _looked_at is not None and event in {"open", "os.scandir", "os.listdir"}:
        _looked_at.append(f"{event} {arguments[0]}")


sys.addaudithook(_hear)  # permanently: Python takes none away


def test_starting_looks_at_nothing_and_a_read_at_its_segment_only(tmp_path: Path) -> None:
    """With 5,000 segments in the cache, the first read opens one file and its folders, and lists none."""
    global _looked_at  # noqa: PLW0603
    put_all(make(tmp_path), A, SMALL)
    for number in range(5000):
        folder = tmp_path / FORMAT / "aws" / f"{number % 256:02x}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:06}.0").touch()
    _looked_at = looked_at = []
    try:
        cache = make(tmp_path)
        assert looked_at == [f"open {name}" for name in ("/", *tmp_path.parts[1:], ".")]  # none can be replaced
        looked_at.clear()
        assert cache.read(A, ByteRange(0, 10)) == SMALL[:10]
    finally:
        _looked_at = None
    assert looked_at == [f"open {name}" for name in (FORMAT, "aws", "aa", "aa11.0")]


# Damage and loss


def test_a_damaged_block_is_counted_and_missed(tmp_path: Path) -> None:
    """The adjacent blocks serve, and it can be put again."""
    metrics = Metrics()
    put_all(make(tmp_path), A, SMALL)
    with open(only_file(tmp_path), "r+b") as file:
        file.seek(TABLE_BYTES + BLOCK_BYTES + 1000)
        file.write(b"damage")
    cache = make(tmp_path, metrics=metrics)
    assert cache.read(A, ByteRange(0, len(SMALL))) is None
    assert metrics.corrupt_blocks == 1
    assert cache.missing(A, range(4)) == [1]
    cache.put(A, 1, SMALL[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    assert metrics.corrupt_blocks == 1


def test_a_file_cut_short_while_in_use_never_shows_holes(tmp_path: Path) -> None:
    """A put after the cut makes a new file: growing the old one would show zeros in verified blocks."""
    reader, writer = make(tmp_path), make(tmp_path)
    put_all(writer, A, SMALL)
    for cache in (reader, writer):
        assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    os.truncate(only_file(tmp_path), TABLE_BYTES + BLOCK_BYTES)
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
    only_file(tmp_path).unlink()
    assert cache.read(A, ByteRange(0, len(SMALL))) == SMALL
    cache.put(A, 0, SMALL[:BLOCK_BYTES])
    assert make(tmp_path).read(A, ByteRange(0, BLOCK_BYTES)) == SMALL[:BLOCK_BYTES]
    assert cache.missing(A, range(4)) == [1, 2, 3]


def test_forgetting_evicted_segments_gives_their_space_back(tmp_path: Path) -> None:
    """Their descriptors are closed; those of segments that are still there are not."""
    cache, before = make(tmp_path), descriptors()
    other = content("cc33", 10)
    put_all(cache, A, SMALL)
    put_all(cache, other, b"0123456789")
    (tmp_path / FORMAT / "aws" / "aa" / "aa11.0").unlink()
    cache.forget_deleted()
    assert descriptors() == before + 1
    assert cache.read(A, ByteRange(0, 1)) is None
    assert cache.read(other, ByteRange(0, 10)) == b"0123456789"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.parent.rmdir(), path.parent.touch()),
    ],
    ids=["link", "folder", "file-as-folder"],
)
def test_what_is_no_segment_is_a_miss_and_keeps_nothing(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """Whatever stands in a segment's place: reads miss, puts are counted as failed, nothing raises."""
    metrics = Metrics()
    put_all(make(tmp_path), A, SMALL)
    spoil(only_file(tmp_path))
    cache = make(tmp_path, metrics=metrics)
    assert cache.read(A, ByteRange(0, 1)) is None
    assert cache.missing(A, [0, 1]) == [0, 1]
    assert cache.cached_bytes(A) == 0
    assert cache.put(A, 0, SMALL[:BLOCK_BYTES]) == 0
    assert metrics.cache_write_errors == 1


def test_a_full_disk_keeps_nothing_and_is_logged_once(tmp_path: Path) -> None:
    """No read fails for it, and the log is not flooded, also not by a disk that is full again and again."""
    metrics = Metrics()
    cache = make(tmp_path, metrics=metrics)
    with capture_logs() as logs:
        with full_disk():
            assert [cache.put(A, 3, SMALL[3 * BLOCK_BYTES :]) for _ in range(50)] == [0] * 50
        put_all(cache, A, SMALL)
        with full_disk():
            cache.put(A, 0, SMALL[:BLOCK_BYTES])
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
    only_file(tmp_path).unlink()
    cache.flush()
    assert metrics.flushed_bytes == metrics.kept_bytes == len(SMALL) + BLOCK_BYTES


# Many at once


def test_open_segments_are_bounded(tmp_path: Path) -> None:
    """Of 300 contents, 256 stay open, and all can be read: a limit of 1,024 descriptors is never in sight."""
    gc.collect()  # what other tests left open
    cache, before = make(tmp_path), descriptors()
    contents = [content(f"{number:06x}", 10) for number in range(300)]
    for number, one in enumerate(contents):
        cache.put(one, 0, f"{number:010}".encode())
        assert descriptors() <= before + 256
    assert descriptors() == before + 256
    for number, one in enumerate(contents):
        assert cache.read(one, ByteRange(0, 10)) == f"{number:010}".encode()
    assert descriptors() == before + 256


def test_two_mounts_share_a_directory(tmp_path: Path) -> None:
    """What one puts the other reads, also into a segment that both have open."""
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
            (directory / FORMAT / "aws" / "dd" / f"dd{number}.0").unlink(missing_ok=True)
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
    """More segments than may be open, read by eight threads: every answer is right, no descriptor is left over."""
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
