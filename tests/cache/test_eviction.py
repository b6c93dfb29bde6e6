"""The cache keeps within its size: what to delete, and that it is done in time and not twice."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import content_folder, evicting, eviction, reserve
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT, Shape
from vbnfs.cache.evicting import no_eviction
from vbnfs.cache.eviction import DEFAULT_BYTES, Evictor, store_size, take_over_size
from vbnfs.cache.histories import EVICTED, Evicted, read_history, recall_evicted, remember_evicted, write_history
from vbnfs.cache.holdings import Held, Holdings
from vbnfs.cache.inventory import FORMAT_1, CachedContent, delete, scan
from vbnfs.cache.pins import Pin, PinnedFile, pin_names, store_pin
from vbnfs.host import own_folders
from vbnfs.host.atomic import lock_new_folder
from vbnfs.host.disk_space import DiskSpace
from vbnfs.host.folders import Folder
from vbnfs.host.locks import lock_file
from vbnfs.host.places import Anchor, Place, folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

MIB = 1 << 20
DAY_NS = 86_400 * 10**9


def content(name: str, size_bytes: int) -> Content:
    return Content(name, size_bytes, ObjectVersion(name, None))


def allocated(directory: Path) -> int:
    """What `du` says of contents, at this moment: their files and folders; not what is remembered of evicted ones."""
    total = 0
    for folder, _, names in os.walk(directory):
        counted = [Path(folder, name) for name in set(names) - {EVICTED}]
        for path in [*counted, Path(folder)] if {DATA, CHECKSUMS} & set(names) else counted:
            with suppress(FileNotFoundError):
                total += disk_bytes(path)
    return total


def disk_bytes(path: Path) -> int:
    return os.lstat(path).st_blocks * 512


def add_file(directory: Path, name: str, size_bytes: int, *, used: float) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    os.utime(path, (used, used))
    return path


def add_content(directory: Path, name: str, size_bytes: int, *, used: float, kind: str = "whole") -> Path:
    """The folder of a content that takes so much on the disk, with itself and 4 KiB for checksums."""
    folder = directory / FORMAT / "aws" / kind / name[:2] / name
    folder.mkdir(parents=True)
    add_file(folder, DATA, max(1, size_bytes - 4096 - disk_bytes(folder)), used=1)
    add_file(folder, CHECKSUMS, Shape(size_bytes).checksums_bytes, used=used)
    return folder


def names(directory: Path) -> list[str]:
    """Of the contents that there are."""
    return sorted(path.parent.name for path in directory.rglob(DATA))


def pinned(directory: Path, *contents: str) -> None:
    """Pin them, by the name of the first."""
    files = tuple(PinnedFile(one, one, MIB, None) for one in contents)
    store_pin(directory, Pin(contents[0], "", "", "", "", {}, files))


def make(directory: Path | Place, limit_bytes: int | None) -> Evictor:
    return Evictor(directory, limit_bytes=limit_bytes, metrics=Metrics())


def end_of_a_day(directory: Path, contents: Sequence[Content]) -> None:
    """Have all that is noted of uses be a day older, so that tomorrow is now."""
    for one in scan(directory):
        with (directory / one.path / CHECKSUMS).open("r+b") as file:
            history = read_history(file.fileno(), one.content_id)
            assert history is not None
            write_history(file.fileno(), one.content_id, replace(history, began_ns=history.began_ns - DAY_NS))
        os.utime(directory / one.path / CHECKSUMS, ns=(one.used_ns - DAY_NS,) * 2)
    scope = folder_at(directory) / FORMAT / "aws"
    for content_id in (one.content_id for one in contents):
        if (evicted := recall_evicted(scope, content_id)) is not None:
            history = replace(evicted.history, began_ns=evicted.history.began_ns - DAY_NS)
            remember_evicted(scope, content_id, Evicted(history, evicted.used_ns - DAY_NS))


class Writer:
    """A mount that fetches: makes room, then puts, as the task that keeps blocks does."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.cache = BlockCache(directory, scope="aws", metrics=Metrics())
        self.evictor = Evictor(
            directory, limit_bytes=limit_bytes, metrics=Metrics(), close_deleted=self.cache.forget_deleted
        )

    def put(self, wanted: Content, index: int) -> None:
        assert self.evictor.make_room(BLOCK_BYTES)
        assert self.cache.put(wanted, index, bytes([index % 256]) * BLOCK_BYTES) == BLOCK_BYTES


# Looking


def test_scan_finds_contents_of_all_scopes_and_formats(tmp_path: Path) -> None:
    """With their use, and what files and folders allocate: no holes. The time of `data` does not matter."""
    add_content(tmp_path, "ab12", 10_000, used=1000)
    sparse = add_file(tmp_path, "blocks-v2/localhost/partial/cd/cd34/data", 1, used=5)
    os.truncate(sparse, 1 << 30)
    add_file(tmp_path, "blocks-v2/localhost/partial/cd/cd34/checksums", 64, used=2000)
    add_file(tmp_path, "blocks-v1/aws/ef/ef.7", 10_000, used=3000)
    add_file(tmp_path, "blocks-v2/.evicting", 5, used=1)
    found = sorted(scan(tmp_path), key=lambda one: one.used_ns)
    paths = ["blocks-v2/aws/whole/ab/ab12", "blocks-v2/localhost/partial/cd/cd34", "blocks-v1/aws/ef/ef.7"]
    assert [one.path for one in found] == paths
    assert [(one.scope, one.content_id) for one in found] == [("aws", "ab12"), ("localhost", "cd34"), ("aws", "ef")]
    assert [one.used_ns for one in found] == [1000 * 10**9, 2000 * 10**9, 3000 * 10**9]
    assert [one.allocated_bytes for one in found] == [allocated(tmp_path / path) for path in paths[:2]] + [
        (tmp_path / paths[2]).stat().st_blocks * 512
    ]
    assert found[1].allocated_bytes < MIB


def test_scan_deletes_what_the_dead_were_making_or_deleting(tmp_path: Path) -> None:
    """A folder that is about to get its name is locked: without a lock its maker is gone, however young it is."""
    above = add_content(tmp_path, "ab12", 10, used=1).parent
    dead, living, deleted, other = (above / name for name in (".new-dead", ".new-living", ".old-dead", ".nfs0001"))
    for folder in (dead, living, deleted):
        add_file(folder, DATA, 10, used=1)
    other.touch()
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert [one.content_id for one in scan(tmp_path)] == ["ab12"]
    os.close(lock)
    assert [path.exists() for path in (dead, living, deleted, other)] == [False, True, False, True]


def test_a_folder_that_is_taken_for_abandoned_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process scans between making a folder and locking it: the content is made all the same."""
    scans = iter([lambda: list(scan(tmp_path)), list])

    def lock_late(folder: Folder) -> bool:
        next(scans)()
        return lock_new_folder(folder)

    monkeypatch.setattr(content_folder, "lock_new_folder", lock_late)
    place = folder_at(tmp_path) / "blocks-v2/aws/partial/ab/ab12"
    file = ContentFile.create(place, identity="ab12", data_bytes=10)
    file.write(0, bytes(10))
    assert next(scans, None) is None
    assert file.is_intact
    assert os.listdir(file.path.parent) == ["ab12"]


@pytest.mark.parametrize("name", [DATA, CHECKSUMS])
def test_one_of_the_two_files_alone_is_counted_and_goes_first(tmp_path: Path, name: str) -> None:
    """Somebody has deleted the other one: what is left takes room, and serves nobody."""
    folder = add_content(tmp_path, "ab12", MIB, used=1000)
    (folder / name).unlink()
    [one] = scan(tmp_path)
    assert (one.allocated_bytes, one.used_ns) == (allocated(folder), 0)
    assert make(tmp_path, 1).scan_and_evict()
    assert not folder.exists()


def test_where_there_are_no_locks_new_folders_go_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is more than any process needs between making a folder and giving it its name.

    One from the future ages from now on.
    """
    above = add_content(tmp_path, "ab12", 10, used=1).parent
    old, young, future = (above / f".new-{name}" for name in ("old", "young", "future"))
    for folder, age in ((old, 7200), (young, 60), (future, -86400)):
        add_file(folder, DATA, 10, used=1)
        os.utime(folder, (time.time() - age,) * 2)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert [one.content_id for one in scan(tmp_path)] == ["ab12"]
    assert [path.exists() for path in (old, young, future)] == [False, True, True]
    assert future.stat().st_mtime <= time.time()
    os.utime(future, (time.time() - 3700,) * 2)
    assert len(list(scan(tmp_path))) == 1
    assert not future.exists()


@pytest.fixture
def as_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is on a file system that other hosts may have."""
    monkeypatch.setattr(own_folders, "is_shared", lambda path: True)


@pytest.mark.usefixtures("as_shared")
def test_where_hosts_are_the_servers_clock_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock of a folder is believed there. What is old goes, by the clock of the files: ours may be far ahead."""
    above = add_content(tmp_path, "ab12", 10, used=1).parent
    old, young = (above / f".new-{name}" for name in ("old", "young"))
    for folder, age in ((old, 7200), (young, 60)):
        add_file(folder, DATA, 10, used=1)
        os.utime(folder, (time.time() - age,) * 2)
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert [one.content_id for one in scan(tmp_path)] == ["ab12"]
    assert [path.exists() for path in (old, young)] == [False, True]


@pytest.mark.usefixtures("as_shared")
def test_where_hosts_are_one_evicts_by_a_mark(tmp_path: Path) -> None:
    """A mark of another host keeps this one from evicting, until it is old; it is no lock, and goes at the end."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    mark = tmp_path / "claims-v1" / ".evicting"
    mark.parent.mkdir()
    mark.symlink_to("elsewhere/boot/1/2/3#4")
    evictor = make(tmp_path, 2 * MIB)
    assert not evictor.scan_and_evict()
    with no_eviction(folder_at(tmp_path / "none")):  # a cache that is not there yet
        pass
    long_ago = time.time() - 3600
    os.utime(mark, (long_ago, long_ago), follow_symlinks=False)
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["ab3"]
    assert not mark.is_symlink()


def test_a_file_with_which_a_dead_process_tried_the_disk_is_deleted(tmp_path: Path) -> None:
    """It stands beside the scopes, and is empty."""
    left = add_file(tmp_path, f"{FORMAT}/.new-left", 0, used=1)
    assert list(scan(tmp_path)) == []
    assert not left.exists()


def test_temporary_files_of_format_1_go_with_their_writers(tmp_path: Path) -> None:
    """Nothing makes new ones."""
    dead = add_file(tmp_path, "blocks-v1/aws/ab/.new-dead", 10, used=time.time())
    living = add_file(tmp_path, "blocks-v1/aws/ab/.new-living", 10, used=1)
    with open(living, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert list(scan(tmp_path)) == []
    assert (dead.exists(), living.exists()) == (False, True)


def test_scan_of_no_cache_is_empty(tmp_path: Path) -> None:
    """Before the first block there is no folder."""
    assert list(scan(tmp_path / "nowhere")) == []


def test_a_look_evicts_the_least_recently_used(tmp_path: Path) -> None:
    """Usage is known afterwards, and the figure is counted."""
    metrics = Metrics()
    for number in range(10):
        add_content(tmp_path, f"ab{number}", MIB, used=1000 + (number * 7) % 10)
    evictor = Evictor(tmp_path, limit_bytes=int(6.5 * MIB), metrics=metrics)
    assert evictor.usage_bytes == 0
    assert evictor.scan_and_evict()
    kept = sorted(int(path.stat().st_mtime) for path in tmp_path.rglob(CHECKSUMS))
    assert kept == [1004, 1005, 1006, 1007, 1008, 1009]
    assert metrics.evicted_contents == 4
    assert evictor.usage_bytes == allocated(tmp_path) == 6 * MIB
    assert evictor.limit_bytes == int(6.5 * MIB)
    assert not evictor.scan_and_evict()
    assert metrics.evicted_contents == 4


def test_nothing_is_looked_at_until_half_a_percent_was_written(tmp_path: Path) -> None:
    """A scan costs a walk: a cache of 100 GiB is scanned after each 512 MiB."""
    add_content(tmp_path, "ab0", 3 * MIB, used=1000)
    evictor = make(tmp_path, 1000 * MIB)
    evictor.make_room(4 * MIB)
    assert evictor.usage_bytes == 4 * MIB
    evictor.make_room(MIB)
    assert evictor.usage_bytes == 3 * MIB + MIB


def test_room_is_made_for_what_is_about_to_be_written(tmp_path: Path) -> None:
    """Usage that is within the limit only without the coming bytes is too much already."""
    old = add_content(tmp_path, "ab0", MIB, used=1000)
    add_content(tmp_path, "ab1", MIB, used=2000)
    evictor = make(tmp_path, 2 * MIB + BLOCK_BYTES)
    evictor.make_room(BLOCK_BYTES)
    assert old.exists()
    evictor.make_room(BLOCK_BYTES + 1)
    assert not old.exists()
    make(tmp_path, MIB).make_room(5 * MIB)
    assert allocated(tmp_path) == 0


def test_times_in_the_future_are_no_later_than_now(tmp_path: Path) -> None:
    """Files that are dated ahead are in their turn evicted, before what was used after that was noticed."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=time.time() + 10 * 365 * 86400)
    evictor = make(tmp_path, 5 * MIB)
    assert not evictor.scan_and_evict()
    assert all(path.stat().st_mtime <= time.time() for path in tmp_path.rglob(CHECKSUMS))
    new = [add_content(tmp_path, f"abn{number}", MIB, used=time.time()) for number in range(2)]
    assert evictor.scan_and_evict()
    assert all(path.exists() for path in new)
    assert allocated(tmp_path) == 4 * MIB


def test_a_clock_that_is_a_little_ahead_is_let_be(tmp_path: Path) -> None:
    """Hosts differ by seconds; files of the one whose clock is ahead count as used now, and are not changed."""
    ahead = add_content(tmp_path, "ab0", MIB, used=time.time() + 20)
    before = ahead.stat().st_mtime_ns
    [file] = scan(tmp_path)
    assert file.used_ns <= time.time_ns()
    assert ahead.stat().st_mtime_ns == before


def plant_foreign(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    os.chown(path, 65534, 65534)


def plant_file(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    os.utime(path, (0, 0))


def plant_content(path: Path) -> None:
    add_file(path, DATA, MIB, used=0)
    add_file(path, CHECKSUMS, MIB, used=0)


def plant_halves(path: Path) -> None:
    plant_content(path)
    (path / CHECKSUMS).unlink()
    (path / CHECKSUMS).symlink_to("/etc/passwd")


PLANTED: dict[str, Callable[[Path], object]] = {
    "blocks-v2/aws/whole/ab/notes.txt": plant_file,
    "blocks-v2/aws/whole/ab/cd12": plant_content,  # not the folder of its name
    "blocks-v2/aws/whole/ab/ab12": plant_file,
    "blocks-v2/aws/whole/ab/ab13.0": plant_content,
    "blocks-v2/aws/whole/ab12": plant_content,
    "blocks-v2/aws/other/ab/ab12": plant_content,
    "blocks-v2/ab12": plant_content,
    "blocks-v2/aws/whole/ab/cd/cd12": plant_content,
    "blocks-v2/aws/whole/ab/ab14": os.mkfifo,
    "blocks-v2/aws/whole/ab/ab15": lambda path: path.symlink_to("/etc"),
    "blocks-v2/aws/whole/ab/ab16": plant_halves,
    "blocks-v2/aws/whole/ab/.new-16": os.mkfifo,
    "blocks-v2/aws/whole/ab/.new-17": lambda path: path.symlink_to("/etc"),
    "blocks-v2/aws/whole/cd": lambda path: path.symlink_to(path.parent / "ab"),
    "blocks-v1/aws/ab/notes.txt": plant_file,
    "blocks-v1/aws/ab/cd12.0": plant_file,  # not the folder of its name
    "blocks-v1/aws/ab/ab12": plant_file,
    "blocks-v1/aws/ab/ab12.x": plant_file,
    "blocks-v1/aws/ab12.0": plant_file,
    "blocks-v1/aws/ab/cd/cd12.0": plant_file,
    "blocks-v1/aws/ab/ab13.0": os.mkfifo,
    "blocks-v1/aws/ab/ab14.0": lambda path: path.symlink_to("/etc/passwd"),
    "blocks-v1/aws/ab/.new-15": os.mkfifo,
    "blocks-v1/aws/cd": lambda path: path.symlink_to(path.parent / "ab"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_the_cache_did_not_make_is_neither_counted_nor_deleted(tmp_path: Path, name: str) -> None:
    """Only regular files of ours with a content's name, in its place, are its own; nothing waits for a pipe."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    own = [add_content(tmp_path, "ab0", MIB, used=1), add_file(tmp_path, "blocks-v1/aws/ab/ab0.0", MIB, used=1)]
    PLANTED[name](path)
    evictor = make(tmp_path, MIB // 2)
    assert evictor.scan_and_evict()
    assert os.path.lexists(path)
    assert not any(one.exists() for one in own)
    assert evictor.usage_bytes == 0


@pytest.mark.root
@pytest.mark.parametrize(
    "name",
    [
        "blocks-v2/aws/whole/ab/ab1/data",
        "blocks-v2/aws/whole/ab/ab1/checksums",
        "blocks-v1/aws/ab/ab1.0",
        "blocks-v1/aws/ab/.new-1",
    ],
)
def test_another_users_file_is_not_deleted(tmp_path: Path, name: str) -> None:
    """Also with a name that the cache gives."""
    add_content(tmp_path, "ab1", MIB, used=1)
    own = add_content(tmp_path, "ab0", MIB, used=1)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    plant_foreign(tmp_path / name)
    assert make(tmp_path, MIB // 2).scan_and_evict()
    assert (tmp_path / name).exists()
    assert not own.exists()


@pytest.mark.parametrize("name", [FORMAT, FORMAT_1])
def test_a_link_at_the_top_is_not_followed(tmp_path: Path, name: str) -> None:
    """A folder of blocks that turns out to be a link has nothing in it."""
    real = tmp_path / "real"
    own = [add_content(real, "ab0", MIB, used=1), add_file(real, "blocks-v1/aws/ab/ab0.0", MIB, used=1)]
    (tmp_path / name).symlink_to(real / name)
    assert not make(tmp_path, MIB // 2).scan_and_evict()
    assert all(one.exists() for one in own)


# A process without a size of its own


def test_a_process_without_a_size_uses_the_cache_s(tmp_path: Path) -> None:
    """It is the one that was given last, less as well as more, also meanwhile; 100 GiB before any was given."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [FORMAT]
    assert sorted(path.name for path in (tmp_path / FORMAT).iterdir()) == [".evicting", ".size", "aws"]


@pytest.mark.parametrize("damage", ["", "-5", "0", "much", "\xff", None])
def test_a_size_that_cannot_be_read(tmp_path: Path, damage: str | None) -> None:
    """The one that is known goes on to hold: no process evicts because of it."""
    store_size(tmp_path, 2 << 40)
    evictor = make(tmp_path, None)
    if damage is None:
        (tmp_path / FORMAT / ".size").unlink()
    else:
        (tmp_path / FORMAT / ".size").write_text(damage, encoding="latin-1")
    evictor.scan_and_evict()
    assert evictor.limit_bytes == 2 << 40


def test_a_size_that_cannot_be_kept(tmp_path: Path) -> None:
    """That is no reason not to mount: the log says so."""
    (tmp_path / FORMAT).touch()
    with capture_logs() as logged:
        store_size(tmp_path, MIB)
    assert [line["event"] for line in logged] == ["the cache's size cannot be kept for others"]


def test_the_size_that_a_cache_had_in_format_1_holds_until_it_gets_another(tmp_path: Path) -> None:
    """It is taken over once; where there was none, none is made."""
    take_over_size(tmp_path)
    assert make(tmp_path, None).limit_bytes == DEFAULT_BYTES
    add_file(tmp_path, "blocks-v1/.size", 0, used=1).write_text(f"{3 * MIB}\n")
    take_over_size(tmp_path)
    assert make(tmp_path, None).limit_bytes == 3 * MIB
    store_size(tmp_path, 4 * MIB)
    take_over_size(tmp_path)
    assert make(tmp_path, None).limit_bytes == 4 * MIB


# Several evictors


def test_who_finds_another_evicting_leaves_it_to_him(tmp_path: Path) -> None:
    """Two that delete at once would delete twice as much."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    evictor = make(tmp_path, 2 * MIB)
    with open(tmp_path / FORMAT / ".evicting", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not evictor.scan_and_evict()
        assert allocated(tmp_path) == 4 * MIB
    assert evictor.scan_and_evict()
    assert allocated(tmp_path) == MIB


def test_who_evicts_and_is_stopped_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stopped, or hangs, keeps the lock: the others keep the cache within its size without it."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    evictor = make(tmp_path, 2 * MIB)
    with open(tmp_path / FORMAT / ".evicting", "w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert not evictor.scan_and_evict()
        monkeypatch.setattr(eviction, "_PATIENCE_SECONDS", 0.0)
        assert evictor.scan_and_evict()
        assert allocated(tmp_path) == MIB
        assert not evictor.scan_and_evict()  # nothing is too much: patience begins anew
        add_content(tmp_path, "ab4", 2 * MIB, used=4)
        assert not evictor.scan_and_evict()


def test_what_is_pinned_before_it_is_deleted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin that is stored between choice and deletion holds: another process has found its contents, and said so."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    monkeypatch.setattr(evicting, "_PATIENCE_SECONDS", 0.0)  # the lock is not waited for

    def pin_when_chosen(left: Sequence[CachedContent]) -> None:
        if len(left) < 4:
            pinned(tmp_path, "ab0", "ab2")

    metrics = Metrics()
    evictor = Evictor(tmp_path, limit_bytes=2 * MIB, metrics=metrics, on_scan=pin_when_chosen)
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["ab0", "ab2", "ab3"]
    assert (metrics.evicted_contents, evictor.usage_bytes) == (1, 3 * MIB)


def test_a_pin_waits_for_an_eviction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stored when what was chosen before is gone: so what it then finds in the cache stays."""
    add_content(tmp_path, "ab0", MIB, used=1)
    with open(tmp_path / FORMAT / ".evicting", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        seen: list[list[str]] = []

        def end_the_eviction(seconds: float) -> None:
            seen.append(pin_names(tmp_path))
            fcntl.flock(other, fcntl.LOCK_UN)

        monkeypatch.setattr("vbnfs.host.locks.time.sleep", end_the_eviction)
        pinned(tmp_path, "ab0")
    assert seen == [[]]
    assert pin_names(tmp_path) == ["ab0"]


class _Meddled(Place):
    """A directory in which something happens just before the evictor takes its lock."""

    __slots__ = ("before_lock",)
    before_lock: Callable[[], object]

    def __truediv__(self, name: str) -> Place:
        if name == f"{FORMAT}/.evicting":
            self.before_lock()
        return super().__truediv__(name)


def test_room_that_another_made_meanwhile_is_not_made_twice(tmp_path: Path) -> None:
    """After the lock is taken the victims are chosen again: a file that was made anew is not deleted unread."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)

    def meddle() -> None:
        make(tmp_path, 2 * MIB).scan_and_evict()
        add_content(tmp_path, "ab0", BLOCK_BYTES, used=10)

    directory = _Meddled(Anchor(tmp_path))
    directory.before_lock = meddle
    metrics = Metrics()
    assert not Evictor(directory, limit_bytes=2 * MIB, metrics=metrics).scan_and_evict()
    assert names(tmp_path) == ["ab0", "ab3"]
    assert metrics.evicted_contents == 0


def test_a_look_during_a_look_does_nothing(tmp_path: Path) -> None:
    """Housekeeping and the writer of blocks are two threads of one process."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    inner: list[bool] = []
    directory = _Meddled(Anchor(tmp_path))
    evictor = make(directory, 2 * MIB)
    directory.before_lock = lambda: inner.append(evictor.scan_and_evict())
    assert evictor.scan_and_evict()
    assert inner == [False]


def test_a_victim_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    """Another process deletes it in the middle of a scan."""
    for one in (CachedContent("blocks-v2/aws/whole/ab/ab0", MIB, 0), CachedContent("blocks-v1/aws/ab/ab0.0", MIB, 0)):
        delete(folder_at(tmp_path), one)


def test_files_that_the_cache_did_not_make_stay_in_a_victim(tmp_path: Path) -> None:
    """What it made is deleted, and no longer found."""
    folder = add_content(tmp_path, "ab0", MIB, used=1)
    (folder / "notes.txt").write_text("precious")
    assert make(tmp_path, MIB // 2).scan_and_evict()
    assert [path.read_text() for path in folder.parent.rglob("notes.txt")] == ["precious"]
    assert list(scan(tmp_path)) == []


def test_what_is_written_waits_for_the_eviction_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process evicts, room is waited for: what was written meanwhile could be too much."""
    (tmp_path / FORMAT).mkdir()
    other = os.open(tmp_path / FORMAT / ".evicting", os.O_RDWR | os.O_CREAT)
    assert lock_file(other)
    monkeypatch.setattr("vbnfs.host.locks.time.sleep", lambda _seconds: os.close(other))
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    assert make(tmp_path, 2 * MIB).scan_and_evict()
    assert names(tmp_path) == ["ab3"]


def test_where_no_lock_can_be_had_eviction_goes_on(tmp_path: Path) -> None:
    """A cache that grows without end would be worse; and no problem with the lock ends the mount."""
    (tmp_path / FORMAT).mkdir()
    (tmp_path / FORMAT / ".evicting").symlink_to("/nonexistent")
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    assert make(tmp_path, 2 * MIB).scan_and_evict()
    assert names(tmp_path) == ["ab3"]


# Keeping within the limit


@pytest.mark.parametrize(
    ("limit_bytes", "content_blocks"),
    [(MIB, 40), (5 * MIB + 1, 10), (16 * MIB, 30), (64 * MIB, 600)],
    ids=["1M", "5M", "16M", "64M-less-than-a-content"],
)
def test_usage_is_within_the_limit_at_every_moment(tmp_path: Path, limit_bytes: int, content_blocks: int) -> None:
    """Writing much more than the limit, in contents smaller or larger than it, never takes 5 % too much."""
    writer, most = Writer(tmp_path, limit_bytes), 0
    for number in range(max(2, int(2.2 * limit_bytes / BLOCK_BYTES / content_blocks))):
        wanted = content(f"{number:04x}", content_blocks * BLOCK_BYTES)
        for index in range(content_blocks):
            writer.put(wanted, index)
            most = max(most, allocated(tmp_path))
    assert most <= limit_bytes * 1.05
    assert most >= limit_bytes * 0.5
    assert writer.cache.read(wanted, ByteRange((content_blocks - 1) * BLOCK_BYTES, wanted.size_bytes)) is not None


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


# A scan does not flush it


def read_all(directory: Path, limit_bytes: int, contents: Sequence[Content]) -> int:
    """The life of a process that reads some contents of a block each, once: how many of them were there."""
    writer, there = Writer(directory, limit_bytes), 0
    for one in contents:
        if writer.cache.read(one, ByteRange(0, BLOCK_BYTES)) is None:
            writer.put(one, 0)
        else:
            there += 1
    writer.cache.note_uses()
    return there


def working_set_and_scan(blocks: int) -> tuple[list[Content], list[Content]]:
    """Contents of a block each: 40 %, and 200 %, of a cache of so many blocks."""
    return tuple(
        [content(f"{kind}{number:04x}", BLOCK_BYTES) for number in range(int(blocks * part))]
        for kind, part in (("a", 0.4), ("b", 2.0))
    )  # type: ignore[return-value]


def read_all_elsewhere(directory: Path, limit_bytes: int, blocks: int) -> None:
    """A scan by another process."""
    script = "import sys; from pathlib import Path; from tests.cache.test_eviction import *\n"
    script += "read_all(Path(sys.argv[1]), int(sys.argv[2]), working_set_and_scan(int(sys.argv[3]))[1])"
    command = [sys.executable, "-c", script, str(directory), str(limit_bytes), str(blocks)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)


def test_a_scan_does_not_flush_what_is_read_daily(tmp_path: Path) -> None:
    """A working set of 40 % of the cache, read daily; each evening another process scans 200 %, the same each time.

    From the third day on 90 % of the working set is there in the morning. No process lives longer than its reading.
    """
    blocks = 60
    limit_bytes = blocks * (BLOCK_BYTES + 4096)
    working_set, scanned = working_set_and_scan(blocks)
    mornings: list[int] = []
    for _ in range(4):
        mornings.append(read_all(tmp_path, limit_bytes, working_set))
        read_all_elsewhere(tmp_path, limit_bytes, blocks)
        end_of_a_day(tmp_path, working_set + scanned)
        assert allocated(tmp_path) <= limit_bytes * 1.05
    assert mornings[0] == 0
    assert min(mornings[2:]) >= 0.9 * len(working_set)


def test_what_only_the_kernel_reads_counts_as_used(tmp_path: Path) -> None:
    """A file whose pages the kernel has is opened again and again, and no read comes here: each opening counts."""
    wanted = content("0000", BLOCK_BYTES)
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    cache.put(wanted, 0, bytes(BLOCK_BYTES))
    end_of_a_day(tmp_path, [wanted])
    [before] = scan(tmp_path)
    cache.note_opened(wanted)
    cache.note_uses()
    [after] = scan(tmp_path, with_histories=True)
    assert after.used_ns > before.used_ns + DAY_NS // 2
    assert after.history is not None
    assert after.history.periods == 2


def test_what_is_protected_stays(tmp_path: Path) -> None:
    """Whatever else goes, and also if it alone is too much."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    pinned(tmp_path, "ab0")
    evictor = make(tmp_path, MIB)
    fetching = Holdings(folder_at(tmp_path))
    fetching.publish([Held(0, 9 * MIB, "ab2", is_fetched=True), Held(0, 9 * MIB, "ab7", is_fetched=True)])
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["ab0", "ab2"]
    assert not evictor.scan_and_evict()
    assert evictor.kept_bytes == 2 * MIB
    assert evictor.usage_bytes < 3 * MIB  # what is still to come does not count
    del fetching  # its process has ended
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["ab0"]


def test_a_reader_of_an_evicted_content_goes_on(tmp_path: Path) -> None:
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


# Room ahead of readers


def test_room_is_what_may_come_until_something_in_use_is_deleted(tmp_path: Path) -> None:
    """What was not used lately makes way, and takes no room; what is in use or protected does."""
    add_content(tmp_path, "ab0", 2 * MIB, used=1)
    add_content(tmp_path, "ab1", 3 * MIB, used=time.time())
    evictor = make(tmp_path, 10 * MIB)
    assert evictor.room_bytes == 5 * MIB  # nothing is known yet
    evictor.scan_and_evict()
    assert evictor.room_bytes == int(9.5 * MIB) - 3 * MIB
    pinned(tmp_path, "ab0")
    evictor.scan_and_evict()
    assert evictor.room_bytes == int(9.5 * MIB) - 5 * MIB


def test_room_is_used_up_by_what_is_written(tmp_path: Path) -> None:
    """Announced bytes count at once, and no longer if they were not written."""
    evictor = make(tmp_path, 1000 * MIB)
    evictor.make_room(2 * MIB)
    assert evictor.room_bytes == 498 * MIB
    evictor.not_written(MIB)
    assert evictor.room_bytes == 499 * MIB
    evictor.make_room(500 * MIB)
    assert evictor.room_bytes == 450 * MIB


def test_after_something_in_use_was_deleted_room_grows_with_what_is_written(tmp_path: Path) -> None:
    """From none: readers first leave behind what they have lost."""
    writer, wanted = Writer(tmp_path, 4 * MIB), content("ab0", 32 * MIB)
    for index in range(17):
        writer.put(wanted, index)
    assert writer.evictor.room_bytes == BLOCK_BYTES
    writer.put(wanted, 17)
    assert writer.evictor.room_bytes == 2 * BLOCK_BYTES


def test_the_reserve_bounds_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has 3 MiB less free than the reserve, what is in the cache and not in use is all the room."""
    add_content(tmp_path, "ab0", 8 * MIB, used=1)
    evictor = Evictor(tmp_path, limit_bytes=100 * MIB, reserve_bytes=10 * MIB, metrics=Metrics())
    monkeypatch.setattr(reserve, "space_of", lambda directory: DiskSpace(7 * MIB, 1 << 30, False))
    evictor.scan_and_evict()
    assert evictor.room_bytes <= 5 * MIB
