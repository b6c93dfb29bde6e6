"""The cache keeps within its size: what to delete, and that it is done in time and not twice."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import DEFAULT_BYTES, Evictor, SegmentFile, choose_victims, scan, store_size
from vbnfs.host.places import Anchor, Place, folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

MIB = 1 << 20

segment_files = st.lists(
    st.builds(SegmentFile, st.uuids().map(str), st.integers(0, 1 << 40), st.integers(0, 50)),
    max_size=40,
)


def content(name: str, size_bytes: int) -> Content:
    return Content(name, size_bytes, ObjectVersion(name, None))


def allocated(directory: Path) -> int:
    """What `du` says of the files, at this moment."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(Path(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def add_file(directory: Path, name: str, size_bytes: int, *, used: float) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    os.utime(path, (used, used))
    return path


def make(directory: Path | Place, limit_bytes: int | None) -> Evictor:
    return Evictor(directory, limit_bytes=limit_bytes, metrics=Metrics())


class Writer:
    """A mount that fetches: makes room, then puts, as the task that keeps blocks does."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.cache = BlockCache(directory, scope="aws", metrics=Metrics())
        self.evictor = make(self.cache.directory, limit_bytes)

    def put(self, wanted: Content, index: int) -> None:
        if self.evictor.make_room(BLOCK_BYTES):
            self.cache.forget_deleted()
        assert self.cache.put(wanted, index, bytes([index % 256]) * BLOCK_BYTES) == BLOCK_BYTES


# Choosing


@given(files=segment_files, limit=st.integers(0, 1 << 42))
def test_victims_are_the_least_recently_used_and_no_more_than_needed(files: list[SegmentFile], limit: int) -> None:
    """Nothing within the limit; else down to 95 % of it, oldest first, and without the last it would be above."""
    victims = choose_victims(files, limit_bytes=limit)
    usage = sum(file.allocated_bytes for file in files)
    after = usage - sum(file.allocated_bytes for file in victims)
    kept = [file for file in files if file not in victims]
    if usage <= limit:
        assert victims == []
        return
    assert after <= limit * 0.95
    assert after + victims[-1].allocated_bytes > limit * 0.95
    assert len(set(victims)) == len(victims)
    assert max(file.used_ns for file in victims) <= min((file.used_ns for file in kept), default=1 << 62)


# Looking


def test_scan_finds_segments_of_all_scopes_with_their_use_and_what_they_allocate(tmp_path: Path) -> None:
    """Holes are not counted; hidden files are no segments."""
    add_file(tmp_path, "aws/ab/ab.0", 10_000, used=1000)
    sparse = add_file(tmp_path, "localhost/cd/cd.7", 1, used=2000)
    os.truncate(sparse, 1 << 30)
    os.utime(sparse, (2000, 2000))
    add_file(tmp_path, ".evicting", 5, used=1)
    found = sorted(scan(tmp_path), key=lambda file: file.used_ns)
    assert [file.path for file in found] == ["aws/ab/ab.0", "localhost/cd/cd.7"]
    assert [file.used_ns for file in found] == [1000 * 10**9, 2000 * 10**9]
    assert [file.allocated_bytes for file in found] == [
        (tmp_path / file.path).stat().st_blocks * 512 for file in found
    ]
    assert found[1].allocated_bytes < MIB


def test_scan_deletes_temporary_files_of_the_dead_and_leaves_those_of_the_living(tmp_path: Path) -> None:
    """A file that is about to get its name is locked: without a lock its writer is gone, however young it is."""
    dead = add_file(tmp_path, "aws/ab/.new-dead", 10, used=time.time())
    living = add_file(tmp_path, "aws/ab/.new-living", 10, used=1)
    other = add_file(tmp_path, "aws/ab/.nfs0001", 10, used=1)
    with open(living, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert list(scan(tmp_path)) == []
    assert not dead.exists()
    assert living.exists()
    assert other.exists()


def test_where_there_are_no_locks_temporary_files_go_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is more than any process needs between making a file and giving it its name."""
    old = add_file(tmp_path, "aws/ab/.new-old", 10, used=time.time() - 7200)
    young = add_file(tmp_path, "aws/ab/.new-young", 10, used=time.time() - 60)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert list(scan(tmp_path)) == []
    assert not old.exists()
    assert young.exists()


def test_scan_of_no_cache_is_empty(tmp_path: Path) -> None:
    """Before the first block there is no folder."""
    assert list(scan(tmp_path / "nowhere")) == []


def test_a_look_evicts_the_least_recently_used(tmp_path: Path) -> None:
    """Usage is known afterwards, and the figure is counted."""
    metrics = Metrics()
    for number in range(10):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=1000 + (number * 7) % 10)
    evictor = Evictor(tmp_path, limit_bytes=int(6.5 * MIB), metrics=metrics)
    assert evictor.usage_bytes == 0
    assert evictor.scan_and_evict()
    kept = sorted(int(path.stat().st_mtime) for path in (tmp_path / "aws" / "ab").iterdir())
    assert kept == [1004, 1005, 1006, 1007, 1008, 1009]
    assert metrics.evicted_segments == 4
    assert evictor.usage_bytes == allocated(tmp_path) == 6 * MIB
    assert evictor.limit_bytes == int(6.5 * MIB)
    assert not evictor.scan_and_evict()
    assert metrics.evicted_segments == 4


def test_nothing_is_looked_at_until_half_a_percent_was_written(tmp_path: Path) -> None:
    """A scan costs a walk: a cache of 100 GiB is scanned after each 512 MiB."""
    add_file(tmp_path, "aws/ab/ab0.0", 3 * MIB, used=1000)
    evictor = make(tmp_path, 1000 * MIB)
    evictor.make_room(4 * MIB)
    assert evictor.usage_bytes == 4 * MIB
    evictor.make_room(MIB)
    assert evictor.usage_bytes == 3 * MIB + MIB


def test_room_is_made_for_what_is_about_to_be_written(tmp_path: Path) -> None:
    """Usage that is within the limit only without the coming bytes is too much already."""
    old = add_file(tmp_path, "aws/ab/ab0.0", MIB, used=1000)
    add_file(tmp_path, "aws/ab/ab1.0", MIB, used=2000)
    evictor = make(tmp_path, 2 * MIB + BLOCK_BYTES)
    assert not evictor.make_room(BLOCK_BYTES)
    assert evictor.make_room(BLOCK_BYTES + 1)
    assert not old.exists()
    assert make(tmp_path, MIB).make_room(5 * MIB)
    assert allocated(tmp_path) == 0


def test_times_in_the_future_are_no_later_than_now(tmp_path: Path) -> None:
    """Files that are dated ahead are in their turn evicted, before what was used after that was noticed."""
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=time.time() + 10 * 365 * 86400)
    evictor = make(tmp_path, 5 * MIB)
    assert not evictor.scan_and_evict()
    assert all(path.stat().st_mtime <= time.time() for path in (tmp_path / "aws" / "ab").iterdir())
    new = [add_file(tmp_path, f"aws/ab/abn{number}.0", MIB, used=time.time()) for number in range(2)]
    assert evictor.scan_and_evict()
    assert all(path.exists() for path in new)
    assert allocated(tmp_path) == 4 * MIB


def test_a_clock_that_is_a_little_ahead_is_let_be(tmp_path: Path) -> None:
    """Hosts differ by seconds; files of the one whose clock is ahead count as used now, and are not changed."""
    ahead = add_file(tmp_path, "aws/ab/ab0.0", MIB, used=time.time() + 20)
    before = ahead.stat().st_mtime_ns
    [file] = scan(tmp_path)
    assert file.used_ns <= time.time_ns()
    assert ahead.stat().st_mtime_ns == before


def test_a_temporary_file_from_the_future_ages_from_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks, one whose writer died is deleted an hour after it was first seen, and not never."""
    left = add_file(tmp_path, "aws/ab/.new-left", 10, used=time.time() + 10 * 86400)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert list(scan(tmp_path)) == []
    assert left.stat().st_mtime <= time.time()
    os.utime(left, (time.time() - 3700,) * 2)
    assert list(scan(tmp_path)) == []
    assert not left.exists()


def plant_foreign(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    os.chown(path, 65534, 65534)


def plant_file(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    os.utime(path, (0, 0))


PLANTED: dict[str, Callable[[Path], object]] = {
    "aws/ab/notes.txt": plant_file,
    "aws/ab/cd12.0": plant_file,  # not the folder of its name
    "aws/ab/ab12": plant_file,
    "aws/ab/ab12.x": plant_file,
    "aws/ab12.0": plant_file,
    "ab12.0": plant_file,
    "aws/ab/cd/cd12.0": plant_file,
    "aws/ab/ab13.0": os.mkfifo,
    "aws/ab/ab14.0": lambda path: path.symlink_to("/etc/passwd"),
    "aws/ab/.new-15": os.mkfifo,
    "aws/ab/.new-16": lambda path: path.symlink_to("/etc/passwd"),
    "aws/cd": lambda path: path.symlink_to(path.parent / "ab"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_the_cache_did_not_make_is_neither_counted_nor_deleted(tmp_path: Path, name: str) -> None:
    """Only regular files of ours with a segment's name, in its place, are its own; nothing waits for a pipe."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PLANTED[name](path)
    own = add_file(tmp_path, "aws/ab/ab0.0", MIB, used=1)
    evictor = make(tmp_path, MIB // 2)
    assert evictor.scan_and_evict()
    assert os.path.lexists(path)
    assert not own.exists()
    assert evictor.usage_bytes == 0


@pytest.mark.root
def test_another_users_file_is_not_deleted(tmp_path: Path) -> None:
    """Also with the name of a segment, or of a temporary file."""
    paths = [tmp_path / "aws" / "ab" / name for name in ("ab1.0", ".new-1")]
    add_file(tmp_path, "aws/ab/ab0.0", MIB, used=1)
    for path in paths:
        plant_foreign(path)
    assert make(tmp_path, MIB // 2).scan_and_evict()
    assert sorted(path for path in (tmp_path / "aws" / "ab").iterdir()) == sorted(paths)


def test_a_link_at_the_top_is_not_followed(tmp_path: Path) -> None:
    """A folder of blocks that turns out to be a link has nothing in it."""
    own = add_file(tmp_path, "real/aws/ab/ab0.0", MIB, used=1)
    (tmp_path / "blocks-v1").symlink_to(tmp_path / "real")
    assert not make(folder_at(tmp_path) / "blocks-v1", MIB // 2).scan_and_evict()
    assert own.exists()


# A process without a size of its own


def test_a_process_without_a_size_uses_the_cache_s(tmp_path: Path) -> None:
    """It is the one that was given last, less as well as more, also meanwhile; 100 GiB before any was given."""
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=number)
    early = make(tmp_path, None)
    assert early.limit_bytes == DEFAULT_BYTES == 100 << 30
    store_size(tmp_path, 2 * MIB)
    late = make(tmp_path, None)
    store_size(tmp_path, 2 << 40)
    assert (late.limit_bytes, late.scan_and_evict()) == (2 * MIB, False)
    assert late.limit_bytes == 2 << 40
    store_size(tmp_path, 2 * MIB)
    assert early.scan_and_evict()
    assert make(tmp_path, 8 * MIB).limit_bytes == 8 * MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == [".evicting", ".size", "aws"]


@pytest.mark.parametrize("damage", ["", "-5", "0", "much", "\xff", None])
def test_a_size_that_cannot_be_read(tmp_path: Path, damage: str | None) -> None:
    """The one that is known goes on to hold: no process evicts because of it."""
    store_size(tmp_path, 2 << 40)
    evictor = make(tmp_path, None)
    if damage is None:
        (tmp_path / ".size").unlink()
    else:
        (tmp_path / ".size").write_text(damage, encoding="latin-1")
    evictor.scan_and_evict()
    assert evictor.limit_bytes == 2 << 40


def test_a_size_that_cannot_be_kept(tmp_path: Path) -> None:
    """That is no reason not to mount: the log says so."""
    (tmp_path / "blocks-v1").touch()
    with capture_logs() as logged:
        store_size(tmp_path / "blocks-v1", MIB)
    assert [line["event"] for line in logged] == ["the cache's size cannot be kept for others"]


# Several evictors


def test_who_finds_another_evicting_leaves_it_to_him(tmp_path: Path) -> None:
    """Two that delete at once would delete twice as much."""
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=number)
    evictor = make(tmp_path, 2 * MIB)
    with open(tmp_path / ".evicting", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not evictor.scan_and_evict()
        assert allocated(tmp_path) == 4 * MIB
    assert evictor.scan_and_evict()
    assert allocated(tmp_path) == MIB


class _Meddled(Place):
    """A directory in which something happens just before the evictor takes its lock."""

    __slots__ = ("before_lock",)
    before_lock: Callable[[], object]

    def __truediv__(self, name: str) -> Place:
        if name == ".evicting":
            self.before_lock()
        return super().__truediv__(name)


def test_room_that_another_made_meanwhile_is_not_made_twice(tmp_path: Path) -> None:
    """After the lock is taken the victims are chosen again: a file that was made anew is not deleted unread."""
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=number)

    def meddle() -> None:
        make(tmp_path, 2 * MIB).scan_and_evict()
        add_file(tmp_path, "aws/ab/ab0.0", BLOCK_BYTES, used=10)

    directory = _Meddled(Anchor(tmp_path))
    directory.before_lock = meddle
    metrics = Metrics()
    assert not Evictor(directory, limit_bytes=2 * MIB, metrics=metrics).scan_and_evict()
    assert sorted(path.name for path in (tmp_path / "aws" / "ab").iterdir()) == ["ab0.0", "ab3.0"]
    assert metrics.evicted_segments == 0


def test_a_look_during_a_look_does_nothing(tmp_path: Path) -> None:
    """Housekeeping and the writer of blocks are two threads of one process."""
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=number)
    inner: list[bool] = []
    directory = _Meddled(Anchor(tmp_path))
    evictor = make(directory, 2 * MIB)
    directory.before_lock = lambda: inner.append(evictor.scan_and_evict())
    assert evictor.scan_and_evict()
    assert inner == [False]


def test_a_victim_that_is_gone_already_is_not_counted(tmp_path: Path) -> None:
    """Someone empties the cache by hand in the middle of a scan."""
    victim = add_file(tmp_path, "aws/ab/ab0.0/file", MIB, used=1)  # a folder in a segment's place cannot be unlinked
    metrics = Metrics()
    evictor = Evictor(tmp_path, limit_bytes=MIB // 2, metrics=metrics)
    os.chmod(victim, 0o400)  # noqa: PTH101
    evictor._delete([SegmentFile("aws/ab/ab0.0", MIB, 0), SegmentFile("aws/ab/gone.0", MIB, 0)])
    assert metrics.evicted_segments == 0
    assert victim.exists()


def test_where_no_lock_can_be_had_eviction_goes_on(tmp_path: Path) -> None:
    """A cache that grows without end would be worse; and no problem with the lock ends the mount."""
    (tmp_path / ".evicting").symlink_to("/nonexistent")
    for number in range(4):
        add_file(tmp_path, f"aws/ab/ab{number}.0", MIB, used=number)
    assert make(tmp_path, 2 * MIB).scan_and_evict()
    assert allocated(tmp_path / "aws") == MIB


# Keeping within the limit


@pytest.mark.parametrize(
    ("limit_bytes", "segment_blocks"),
    [(MIB, 40), (5 * MIB + 1, 10), (16 * MIB, 30), (64 * MIB, 600)],
    ids=["1M", "5M", "16M", "64M-less-than-a-segment"],
)
def test_usage_is_within_the_limit_at_every_moment(tmp_path: Path, limit_bytes: int, segment_blocks: int) -> None:
    """Writing much more than the limit, in segments smaller or larger than it, never takes 5 % too much."""
    writer, most = Writer(tmp_path, limit_bytes), 0
    for number in range(max(2, int(2.2 * limit_bytes / BLOCK_BYTES / segment_blocks))):
        wanted = content(f"{number:04x}", segment_blocks * BLOCK_BYTES)
        for index in range(segment_blocks):
            writer.put(wanted, index)
            most = max(most, allocated(tmp_path))
    assert most <= limit_bytes * 1.05
    assert most >= limit_bytes * 0.5
    assert writer.cache.read(wanted, ByteRange((segment_blocks - 1) * BLOCK_BYTES, wanted.size_bytes)) is not None


def test_two_mounts_together_keep_within_the_limit(tmp_path: Path) -> None:
    """They write in turns, different contents and the same: the limit is for both together."""
    limit_bytes = 24 * MIB
    first, second = Writer(tmp_path, limit_bytes), Writer(tmp_path, limit_bytes)
    order = random.Random(3)
    for step in range(400):
        writer = order.choice([first, second])
        writer.put(content(f"{step // 20:04x}", 20 * BLOCK_BYTES), order.randrange(20))
        assert allocated(tmp_path) <= limit_bytes * 1.05


def write_much(directory: Path, limit_bytes: int, seed: int) -> None:
    """The life of a process that fetches four times the limit."""
    writer = Writer(directory, limit_bytes)
    for step in range(4 * limit_bytes // BLOCK_BYTES):
        writer.put(content(f"{seed}{step // 16:04x}", 16 * BLOCK_BYTES), step % 16)


def test_two_processes_together_keep_within_the_limit(tmp_path: Path) -> None:
    """Stopped again and again while both write, and measured: no more than 5 % above."""
    limit_bytes = 16 * MIB
    script = "import sys; from pathlib import Path; from tests.cache.test_eviction import write_much\n"
    script += "write_much(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
    command = [sys.executable, "-c", script, str(tmp_path), str(limit_bytes)]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([*command, str(seed)], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for seed in range(2)
    ]
    most = 0
    while alive := [process for process in processes if process.poll() is None]:
        for process in alive:
            process.send_signal(signal.SIGSTOP)
        for process in alive:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        most = max(most, allocated(tmp_path))  # at rest: a walk among moving files counts some twice
        for process in alive:
            process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.002)
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
    assert limit_bytes * 0.5 < most <= limit_bytes * 1.05


def test_a_reader_of_an_evicted_segment_goes_on(tmp_path: Path) -> None:
    """Its verified bytes stay readable in its process, until that forgets them."""
    writer, reader = Writer(tmp_path, 4 * MIB), BlockCache(tmp_path, scope="aws", metrics=Metrics())
    first = content("0000", 8 * BLOCK_BYTES)
    writer.put(first, 5)
    part = ByteRange(5 * BLOCK_BYTES, 6 * BLOCK_BYTES)
    view = reader.read(first, part)
    for number in range(1, 4):
        for index in range(8):
            writer.put(content(f"{number:04x}", 8 * BLOCK_BYTES), index)
    assert writer.cache.read(first, part) is None
    assert view == reader.read(first, part) == reader.read_nowait(first, part) == b"\5" * BLOCK_BYTES
    reader.forget_deleted()
    assert reader.read(first, part) is None
    assert view == b"\5" * BLOCK_BYTES
