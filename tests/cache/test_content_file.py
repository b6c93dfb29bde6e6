"""The two files of a content: their layout, and that nothing that happens to them becomes a wrong byte or a crash."""

import errno
import itertools
import mmap
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.disks import memory_disk
from tests.open_files import open_files
from vbnfs.blocks import BLOCK_BYTES, DIGEST_BYTES
from vbnfs.cache import content_blocks, content_file
from vbnfs.cache.block_checks import BlockChecks, DamagedBlockError, WrongDigestError
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import CHECKSUMS, FORMAT, HEADER_BYTES, Shape
from vbnfs.cache.content_folder import DATA as DATA_FILE
from vbnfs.cache.digests import DigestSet
from vbnfs.host import mapping, own_folders
from vbnfs.host.places import Anchor, Place, file_at
from vbnfs.objects import ByteRange

IDENTITY = "ab12"
DATA = random.Random(1).randbytes(2 * BLOCK_BYTES + 1000)
WHOLE = ByteRange(0, len(DATA))
RECORD_BYTES = 16


def block(index: int, data: bytes = DATA) -> ByteRange:
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(len(data))


def reopen(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> ContentFile | None:
    return ContentFile.open(file_at(path), identity=identity, data_bytes=len(data))


def opened(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> ContentFile:
    cached = reopen(path, data=data, identity=identity)
    assert cached is not None
    return cached


def filled(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> ContentFile:
    """A content with all blocks of `data`, written by another object than the one returned."""
    cached = ContentFile.create(file_at(path), identity=identity, data_bytes=len(data))
    for index in range(-(-len(data) // BLOCK_BYTES)):
        part = block(index, data)
        cached.write(index, data[part.start : part.stop])
    return opened(path, data=data, identity=identity)


def read_or_miss(cached: ContentFile, byte_range: ByteRange) -> bytes | None:
    try:
        view = cached.read(byte_range)
    except DamagedBlockError:
        return None
    return None if view is None else bytes(view)


def change(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def descriptors() -> int:
    return len(open_files())


def reads_without_waiting(descriptor: int, offset: int) -> bool:
    """Whether the kernel gives a byte at once, or cannot say."""
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def file_size_limit(count_bytes: int) -> Iterator[None]:
    """A disk that takes nothing beyond an offset: EFBIG, for the signal is ignored by Python."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def without_privileges() -> Iterator[None]:
    """File permissions hold for root, too."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(uid)


# Layout


def test_the_figures_of_the_format() -> None:
    """They do not change without the format's version: blocks of 256 KiB, a header of 64 bytes, 16 bytes a block."""
    assert (FORMAT, BLOCK_BYTES, HEADER_BYTES, RECORD_BYTES) == ("blocks-v2", 256 << 10, 64, 16)
    assert [Shape(size).checksums_bytes for size in (1, BLOCK_BYTES, BLOCK_BYTES + 1)] == [80, 80, 96]


def test_a_block_stands_at_its_natural_place_and_its_record_beside_it(tmp_path: Path) -> None:
    """Block n is at n x 256 KiB of `data`; its record, XXH3-128 with its own seed, at 64 + 16 n of `checksums`."""
    path = tmp_path / "ab12"
    file = ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA))
    file.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    data, checksums = (path / DATA_FILE).read_bytes(), (path / CHECKSUMS).read_bytes()
    seed = (xxhash.xxh3_64_intdigest(IDENTITY.encode()) + 1) % (1 << 64)
    assert (len(data), len(checksums)) == (len(DATA), HEADER_BYTES + 3 * RECORD_BYTES)
    assert checksums[80:96] == xxhash.xxh3_128_digest(DATA[BLOCK_BYTES : 2 * BLOCK_BYTES], seed=seed)
    assert data[BLOCK_BYTES : 2 * BLOCK_BYTES] == DATA[BLOCK_BYTES : 2 * BLOCK_BYTES]
    assert not any(data[:BLOCK_BYTES] + data[2 * BLOCK_BYTES :] + checksums[:80] + checksums[96:])


def test_the_bytes_of_a_complete_content_are_the_files(tmp_path: Path) -> None:
    """`data` is the object, byte for byte, and nothing else."""
    assert (filled(tmp_path / "ab12").path / DATA_FILE).read_bytes() == DATA


def test_a_new_content_has_its_full_length_and_takes_no_room(tmp_path: Path) -> None:
    """A content of 5 GiB is a hole until blocks come; no temporary folder stays behind, and others see nothing."""
    file = ContentFile.create(file_at(tmp_path / "ab" / "ab12"), identity=IDENTITY, data_bytes=5 << 30)
    statuses = [(file.path / name).stat() for name in (DATA_FILE, CHECKSUMS)]
    assert [status.st_size for status in statuses] == [5 << 30, HEADER_BYTES + 20_480 * RECORD_BYTES]
    assert sum(status.st_blocks * 512 for status in statuses) < BLOCK_BYTES
    assert list(file.path.parent.iterdir()) == [file.path]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (file.path, *file.path.iterdir()))


def test_a_recorded_block_is_not_written_again(tmp_path: Path) -> None:
    """Not even its time changes: a complete file stays as it was when it was hashed. What is missing is written."""
    file = filled(tmp_path / "ab12", data=DATA[:BLOCK_BYTES] + bytes(1000))
    before = (file.path / DATA_FILE).stat()
    file.write(0, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES], b"other")
    assert (file.path / DATA_FILE).stat() == before
    partial = ContentFile.create(file_at(tmp_path / "ab13"), identity=IDENTITY, data_bytes=3 * BLOCK_BYTES)
    first, *others = (bytes([number]) * BLOCK_BYTES for number in range(3))
    partial.write(1, others[0])
    partial.write(0, first, first, others[1])
    assert partial.read(ByteRange(0, 3 * BLOCK_BYTES)) == first + others[0] + others[1]


@pytest.mark.parametrize("size", [1, 4095, 70_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_the_last_block_may_be_shorter(tmp_path: Path, size: int) -> None:
    """What was written is read, whatever the length of the content."""
    data = random.Random(size).randbytes(size)
    cached = filled(tmp_path / "ab12", data=data)
    assert cached.read(ByteRange(0, size)) == data
    assert list(cached.recorded()) == list(range(-(-size // BLOCK_BYTES)))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_range_reads_as_in_the_plain_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A range begins and ends anywhere, within blocks and pages."""
    start = data.draw(st.integers(0, len(DATA) - 1))
    stop = data.draw(st.integers(start + 1, min(len(DATA), start + 300_000)))
    path = tmp_path_factory.getbasetemp() / "ranges"
    cached = reopen(path) or filled(path)
    assert cached.read(ByteRange(start, stop)) == DATA[start:stop]


def test_a_missing_block_is_a_miss(tmp_path: Path) -> None:
    """A range with one block that was never written is no bytes at all."""
    cached = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA))
    cached.write(0, DATA[:BLOCK_BYTES])
    assert cached.holds(0)
    assert not cached.holds(1)
    assert list(cached.recorded()) == [0]
    assert cached.read(ByteRange(BLOCK_BYTES - 1, BLOCK_BYTES + 1)) is None
    assert cached.read(block(0)) == DATA[:BLOCK_BYTES]


def test_a_block_counts_only_when_all_of_its_data_is_written(tmp_path: Path) -> None:
    """Data goes before its record: a disk that fills up in the middle of a block leaves no record of it."""
    cached = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA))
    with file_size_limit(BLOCK_BYTES // 2), pytest.raises(OSError, match="large"):
        cached.write(0, DATA[:BLOCK_BYTES])
    assert not cached.holds(0)
    cached.write(0, DATA[:BLOCK_BYTES])
    assert cached.read(block(0)) == DATA[:BLOCK_BYTES]


@pytest.mark.root
def test_a_disk_that_fills_up_between_records_fails_the_write(tmp_path: Path) -> None:
    """Where it takes the records of some blocks of a run, and no more, the caller hears that it did not take all."""
    last = 4096 // RECORD_BYTES - HEADER_BYTES // RECORD_BYTES - 1  # its record ends the first page of them
    with memory_disk(tmp_path, "size=4M"):
        size = (last + 2) * BLOCK_BYTES
        cached = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=size)
        cached.write(0, bytes(BLOCK_BYTES))
        with (tmp_path / "other").open("wb") as other:
            status = os.statvfs(tmp_path)
            os.posix_fallocate(other.fileno(), 0, status.f_bavail * status.f_frsize - 2 * BLOCK_BYTES)
        with pytest.raises(OSError, match="No space left"):
            cached.write(last, bytes(2 * BLOCK_BYTES))
        assert (cached.holds(last), cached.holds(last + 1)) == (True, False)


@given(
    there=st.sets(st.integers(0, 2)),
    first=st.integers(0, 2),
    count=st.integers(1, 3),
    places=st.lists(st.integers(1, len(DATA) - 1), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_blocks_cut_anywhere_are_written_as_whole_ones(
    tmp_path_factory: pytest.TempPathFactory, there: set[int], first: int, count: int, places: list[int]
) -> None:
    """The same two files, byte for byte, whatever parts the bytes come in, and whatever is there already."""
    folder = tmp_path_factory.getbasetemp() / "cut-anywhere"
    shutil.rmtree(folder, ignore_errors=True)
    cut, whole = (
        ContentFile.create(file_at(folder / name / IDENTITY), identity=IDENTITY, data_bytes=len(DATA))
        for name in ("cut", "whole")
    )
    for file in (cut, whole):
        for index in there:
            file.write(index, DATA[block(index).start : block(index).stop])
    blocks = [block(index) for index in range(first, min(first + count, 3))]
    start, stop = blocks[0].start, blocks[-1].stop
    edges = sorted({start, stop, *(place for place in places if start < place < stop)})
    cut.write(first, *(DATA[begin:end] for begin, end in itertools.pairwise(edges)))
    whole.write(first, *(DATA[one.start : one.stop] for one in blocks))
    for name in (DATA_FILE, CHECKSUMS):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert all(cut.holds(index) for index in range(first, first + len(blocks)))


# The first check


@pytest.fixture
def never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is read to be checked."""

    def fail(*_: object, **__: object) -> bytes:
        raise AssertionError("a block was copied")

    monkeypatch.setattr(ContentFile, "_checked", fail)


@pytest.mark.usefixtures("never_copied")
def test_the_first_check_is_of_the_mapping_that_is_the_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that were never checked are, and none of their bytes is copied; the next read checks nothing."""
    path = filled(tmp_path / "ab12").path
    for part in (WHOLE, block(1), ByteRange(5, 5 + (128 << 10)), ByteRange(BLOCK_BYTES + 7, len(DATA))):
        view = opened(path).read(part)
        assert view == DATA[part.start : part.stop]
        assert isinstance(view.obj, mmap.mmap)
    cached, checked = opened(path), list[int]()
    check = BlockChecks.check

    def counted(checks: BlockChecks, index: int, data: bytes | memoryview, record: bytes) -> None:
        checked.append(index)
        check(checks, index, data, record)

    monkeypatch.setattr(BlockChecks, "check", counted)
    assert cached.read(block(1)) == DATA[BLOCK_BYTES : 2 * BLOCK_BYTES]
    assert [cached.read(WHOLE), cached.read(WHOLE)] == [DATA, DATA]
    assert checked == [1, 0, 2]


@pytest.mark.parametrize("damaged", range(3))
def test_damage_is_found_in_the_mapping(tmp_path: Path, damaged: int) -> None:
    """A range with one damaged block: it is refused, that block loses its record, and the others serve."""
    path = filled(tmp_path / "ab12").path
    change(path / DATA_FILE, damaged * BLOCK_BYTES + 500, bytes([DATA[damaged * BLOCK_BYTES + 500] ^ 1]))
    cached = opened(path)
    with pytest.raises(DamagedBlockError, match=f"block {damaged} does not match"):
        cached.read(WHOLE)
    assert cached.read(WHOLE) is None
    assert [cached.holds(index) for index in range(3)] == [index != damaged for index in range(3)]
    cached.write(damaged, DATA[block(damaged).start : block(damaged).stop])
    assert cached.read(WHOLE) == DATA


def test_a_block_without_a_record_is_found_in_the_mapping(tmp_path: Path) -> None:
    """Zeros of a hole are no block, among blocks that are there: the range is a miss, and nothing is damaged."""
    cached = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA))
    for index in (0, 2):
        cached.write(index, DATA[block(index).start : block(index).stop])
    assert cached.read(WHOLE) is None
    assert (cached.holds(0), cached.holds(2)) == (True, True)
    cached.write(1, DATA[block(1).start : block(1).stop])
    assert cached.read(WHOLE) == DATA


def test_a_file_that_was_cut_short_before_its_first_check(tmp_path: Path) -> None:
    """No signal: what is gone is damaged, and what is left is checked and served."""
    path = filled(tmp_path / "ab12").path
    cached = opened(path)
    os.truncate(path / DATA_FILE, BLOCK_BYTES + 1000)
    assert read_or_miss(cached, WHOLE) is None
    assert cached.read(block(0)) == DATA[:BLOCK_BYTES]


def test_without_mappings_the_first_check_is_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system another host may cut the file short at any moment: nothing of it is mapped."""

    def fail(*_: object) -> memoryview:
        raise AssertionError("mapped")

    monkeypatch.setattr(content_file, "map_populated", fail)
    path = filled(tmp_path / "ab12").path
    cached = ContentFile.open(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False)
    assert cached is not None
    assert cached.read(WHOLE) == DATA
    change(path / DATA_FILE, 7, bytes([DATA[7] ^ 1]))
    cached = ContentFile.open(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False)
    assert cached is not None
    with pytest.raises(DamagedBlockError):
        cached.read(WHOLE)


# Damage


@given(index=st.integers(0, 2), bit=st.integers(0), in_record=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_is_a_damaged_block_once_and_then_a_miss(
    tmp_path_factory: pytest.TempPathFactory, index: int, bit: int, in_record: bool
) -> None:
    """A bit in a block or in its record: the block is refused, loses its record, and the adjacent blocks serve."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    shutil.rmtree(path, ignore_errors=True)
    filled(path)
    start = HEADER_BYTES + index * RECORD_BYTES if in_record else index * BLOCK_BYTES
    length = RECORD_BYTES if in_record else len(block(index))
    at, flipped = start + bit // 8 % length, path / (CHECKSUMS if in_record else DATA_FILE)
    change(flipped, at, bytes([flipped.read_bytes()[at] ^ (1 << bit % 8)]))
    cached = opened(path)
    with pytest.raises(DamagedBlockError):
        cached.read(block(index))
    assert cached.read(block(index)) is None
    assert not cached.holds(index)
    for other in {0, 1, 2} - {index}:
        assert cached.read(block(other)) == DATA[block(other).start : block(other).stop]


@given(name=st.sampled_from([DATA_FILE, CHECKSUMS]), share=st.floats(0, 0.999))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_short_is_no_content(tmp_path_factory: pytest.TempPathFactory, name: str, share: float) -> None:
    """To nothing, into the header, into a record, into a block, by one byte: it is a miss as a whole."""
    path = tmp_path_factory.getbasetemp() / "cut"
    shutil.rmtree(path, ignore_errors=True)
    filled(path)
    os.truncate(path / name, int((path / name).stat().st_size * share))
    assert reopen(path) is None


@given(name=st.sampled_from([DATA_FILE, CHECKSUMS]), share=st.floats(0, 0.999), verified=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_file_cut_short_under_an_open_content_gives_right_bytes_or_none(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float, verified: bool
) -> None:
    """Whether its blocks were verified before or not: no wrong byte, and no SIGBUS."""
    path = tmp_path_factory.getbasetemp() / "cut-open"
    shutil.rmtree(path, ignore_errors=True)
    file = filled(path)
    if verified:
        assert file.read(WHOLE) == DATA
    length = int((path / name).stat().st_size * share)
    os.truncate(path / name, length)
    for part in (WHOLE, block(0), block(1), block(2), ByteRange(100, 200), ByteRange(len(DATA) - 1, len(DATA))):
        data = read_or_miss(file, part)
        assert data in {None, DATA[part.start : part.stop]}
        if name == DATA_FILE and part.stop > length:
            assert data is None
    assert name == CHECKSUMS or not file.is_intact  # a record that is cleared makes that file as long as it was


def test_a_view_of_a_file_cut_short_is_an_error_for_the_kernel_and_no_signal(tmp_path: Path) -> None:
    """A reply that is on its way when the file is truncated fails with EFAULT: the process lives."""
    cached = filled(tmp_path / "ab12")
    view = cached.read(block(0))
    assert view is not None
    os.truncate(cached.path / DATA_FILE, 0)
    with open(tmp_path / "reply", "wb", buffering=0) as reply, pytest.raises(OSError) as error:  # noqa: PT011
        reply.write(view)
    assert error.value.errno == errno.EFAULT


def test_a_content_cut_short_is_replaced_and_not_made_longer(tmp_path: Path) -> None:
    """A process that has the short file open must not see holes where there were verified bytes."""
    old = filled(tmp_path / "ab12")
    assert old.read(block(0)) == DATA[:BLOCK_BYTES]
    os.truncate(old.path / DATA_FILE, 0)
    new = ContentFile.create(file_at(old.path), identity=IDENTITY, data_bytes=len(DATA))
    new.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert new.is_intact
    assert not old.is_intact
    assert old.read(block(0)) is None
    assert new.read(block(0)) is None


def test_a_content_under_another_name_does_not_match(tmp_path: Path) -> None:
    """Every block of another content is refused."""
    filled(tmp_path / "ab12")
    other = opened(tmp_path / "ab12", identity="ab13")
    for index in range(3):
        with pytest.raises(DamagedBlockError):
            other.read(block(index))


def test_a_block_in_the_place_of_another_does_not_match(tmp_path: Path) -> None:
    """Data and record together, moved within a content, are refused."""
    data = DATA[: 2 * BLOCK_BYTES]
    path = filled(tmp_path / "ab12", data=data).path
    checksums = (path / CHECKSUMS).read_bytes()
    change(path / CHECKSUMS, HEADER_BYTES, checksums[HEADER_BYTES + RECORD_BYTES :])
    change(path / DATA_FILE, 0, data[BLOCK_BYTES:])
    with pytest.raises(DamagedBlockError):
        opened(path, data=data).read(ByteRange(0, BLOCK_BYTES))


@pytest.mark.parametrize("name", [DATA_FILE, CHECKSUMS])
def test_a_file_of_another_content_beside_ours_does_not_match(tmp_path: Path, name: str) -> None:
    """One of the two files, exchanged for that of a content of the same length: every block is refused."""
    path = filled(tmp_path / "ab12").path
    other = filled(tmp_path / "ab13", data=DATA[::-1], identity="ab13").path
    shutil.copy(other / name, path / name)
    for index in range(3):
        with pytest.raises(DamagedBlockError):
            opened(path).read(block(index))


@pytest.mark.parametrize("name", [DATA_FILE, CHECKSUMS])
def test_one_of_the_two_files_alone_is_a_miss_until_both_are_new(tmp_path: Path, name: str) -> None:
    """What is left of a content is not taken for a part of the next one."""
    path = filled(tmp_path / "ab12").path
    (path / name).unlink()
    assert reopen(path) is None
    file = ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA))
    assert list(file.recorded()) == []
    assert sorted(os.listdir(tmp_path)) == ["ab12"]


def test_a_folder_that_the_cache_has_not_made_is_set_aside(tmp_path: Path) -> None:
    """One in the place of a file of a content is not deleted, and does not keep the content from being made."""
    path = tmp_path / "ab12"
    (path / CHECKSUMS).mkdir(parents=True)
    file = ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA))
    assert list(file.recorded()) == []
    [aside] = tmp_path.glob(".old-*")
    assert [one.name for one in aside.iterdir()] == [CHECKSUMS]


@pytest.mark.parametrize("seed", range(3))
def test_foreign_files_are_a_miss(tmp_path: Path, seed: int) -> None:
    """Noise of the right length: nothing in it matches."""
    path = tmp_path / "ab12"
    path.mkdir()
    noise = random.Random(seed)
    (path / DATA_FILE).write_bytes(noise.randbytes(len(DATA)))
    (path / CHECKSUMS).write_bytes(noise.randbytes(Shape(len(DATA)).checksums_bytes))
    assert [read_or_miss(opened(path), block(index)) for index in range(3)] == [None, None, None]


@pytest.mark.parametrize("length", [BLOCK_BYTES, 2 * BLOCK_BYTES, len(DATA) - 1, len(DATA) + 1])
def test_a_content_of_another_size_is_a_miss(tmp_path: Path, length: int) -> None:
    """A content that is taken to have another size than its files were made for has nothing there, until it is new.

    Of one whose size is a multiple of a block's each block would match, and the file would end too early.
    """
    path, other = tmp_path / "ab12", bytes(length)
    filled(path)
    assert reopen(path, data=other) is None
    file = ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=length)
    assert list(file.recorded()) == []
    assert (path / DATA_FILE).stat().st_size == length
    assert reopen(path) is None


def test_zeros_and_empty_files_are_a_miss(tmp_path: Path) -> None:
    """Files of zeros hold nothing, and empty ones are no content."""
    path = tmp_path / "ab12"
    path.mkdir()
    for name, length in ((DATA_FILE, len(DATA)), (CHECKSUMS, Shape(len(DATA)).checksums_bytes)):
        (path / name).touch()
        assert reopen(path) is None
        os.truncate(path / name, length)
    file = opened(path)
    assert file.read(block(0)) is None
    assert list(file.recorded()) == []


@pytest.mark.parametrize(("start", "length"), [(0, BLOCK_BYTES), (4096, 4096), (BLOCK_BYTES - 1, 1)])
def test_a_page_that_a_power_cut_lost_is_a_damaged_block(tmp_path: Path, start: int, length: int) -> None:
    """Zeros where data should be, with a record: the file system wrote the record and lost the data."""
    path = filled(tmp_path / "ab12").path
    change(path / DATA_FILE, start, bytes(length))
    with pytest.raises(DamagedBlockError):
        opened(path).read(ByteRange(0, 1))


def test_a_damaged_block_can_be_written_again(tmp_path: Path) -> None:
    """The same object serves it, once it was fetched anew."""
    file = filled(tmp_path / "ab12")
    change(file.path / DATA_FILE, 5, b"xxxxx")
    assert read_or_miss(file, block(0)) is None
    file.write(0, DATA[:BLOCK_BYTES])
    assert file.read(WHOLE) == DATA


@pytest.mark.parametrize("may_write", [True, False], ids=["its record is erased", "its record stays"])
def test_threads_that_find_the_same_bad_block_report_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_write: bool
) -> None:
    """Both have read it, and checked it, before either says so: one raises, for the other it is not here."""
    made = ContentFile.create(file_at(tmp_path / "object"), identity=IDENTITY, data_bytes=len(DATA))
    made.write(0, DATA[:BLOCK_BYTES])
    content = ContentFile.open(
        file_at(tmp_path / "object"), identity=IDENTITY, data_bytes=len(DATA), may_write=may_write
    )
    assert content is not None
    both, check = threading.Barrier(2, timeout=20), BlockChecks.check

    def check_together(checks: BlockChecks, index: int, data: bytes, record: bytes) -> None:
        try:
            check(checks, index, data, record)
        finally:
            both.wait()

    def find(file: ContentFile) -> str:
        try:
            file.check_against(DigestSet("ab", len(DATA), bytes(3 * DIGEST_BYTES)))
            return "not here" if file.read_checked(block(0), may_write=may_write) is None else "good"
        except WrongDigestError:
            return "wrong"

    monkeypatch.setattr(BlockChecks, "check", check_together)
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(find, [content, content])) == ["not here", "wrong"]
    assert not content.holds(0)


def test_a_block_that_the_disk_cannot_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is not asked for again and again: the block loses its record, and is written anew."""
    file, pread = filled(tmp_path / "ab12"), os.pread

    def fail(descriptor: int, length: int, offset: int) -> bytes:
        if length == BLOCK_BYTES:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, length, offset)

    def fail_to_map(descriptor: int, offset: int, length: int) -> memoryview:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        patch.setattr(content_file, "map_populated", fail_to_map)
        with pytest.raises(DamagedBlockError, match="cannot be read"):
            file.read(block(1))
    assert not file.holds(1)
    file.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert file.read(WHOLE) == DATA


def test_bytes_are_counted_where_records_are(tmp_path: Path) -> None:
    """Of a content of 8 TiB, two blocks far apart: what is counted is what is here."""
    size = 8 << 40
    file = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=size)
    assert list(file.recorded()) == []
    for index in (0, 30_000_000):
        file.write(index, DATA[:BLOCK_BYTES])
    assert list(file.recorded()) == [0, 30_000_000]


# Files


def test_no_folder_is_no_content(tmp_path: Path) -> None:
    """`open` makes nothing, not even a folder."""
    assert reopen(tmp_path / "ab" / "ab12") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", DATA_FILE, CHECKSUMS])
def test_a_symbolic_link_is_refused_and_replaced(tmp_path: Path, name: str) -> None:
    """Neither read nor written through: what it leads to stays as it is."""
    target, path = filled(tmp_path / "target").path, tmp_path / "ab12"
    before = [(target / one).read_bytes() for one in (DATA_FILE, CHECKSUMS)]
    if name:
        filled(path)
        (path / name).unlink()
        (path / name).symlink_to(target / name)
    else:
        path.symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        reopen(path)
    assert [(target / one).read_bytes() for one in (DATA_FILE, CHECKSUMS)] == before


class _CreatedMeanwhile(Place):
    """A place at which another process creates the cached after this one has found none."""

    __slots__ = ("other",)

    @property
    def parent(self) -> Place:
        if not hasattr(self, "other"):
            self.other = ContentFile.create(file_at(self.path), identity=IDENTITY, data_bytes=len(DATA))
            self.other.write(0, DATA[:BLOCK_BYTES])
        return super().parent


def test_who_comes_second_takes_the_file_of_who_was_first(tmp_path: Path) -> None:
    """Between looking and creating, another process made the file: its blocks are not lost."""
    path = _CreatedMeanwhile(Anchor(tmp_path), ("ab12",))
    cached = ContentFile.create(path, identity=IDENTITY, data_bytes=len(DATA))
    assert cached.read(block(0)) == DATA[:BLOCK_BYTES]
    assert path.other.is_intact
    assert os.listdir(tmp_path) == ["ab12"]


_CREATE_AND_WRITE = """
import sys
from pathlib import Path
from vbnfs.host.places import file_at
from vbnfs.blocks import BLOCK_BYTES, DIGEST_BYTES
from vbnfs.cache.content_file import ContentFile
folder, me = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    cached = ContentFile.create(file_at(folder / str(number)), identity=str(number), data_bytes=2 * BLOCK_BYTES)
    cached.write(me, bytes([me]) * BLOCK_BYTES)
"""


def test_two_processes_that_create_the_same_contents_fill_the_same_files(tmp_path: Path) -> None:
    """Each writes one of two blocks of a hundred contents: all blocks are there in the end."""
    command = [sys.executable, "-c", _CREATE_AND_WRITE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(me)], **pipes) for me in range(2)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    for number in range(100):
        cached = opened(tmp_path / str(number), data=bytes(2 * BLOCK_BYTES), identity=str(number))
        assert list(cached.recorded()) == [0, 1]
    assert len(list(tmp_path.iterdir())) == 100


def test_an_evicted_content_goes_on_reading(tmp_path: Path) -> None:
    """A process that has it open reads on; only adding to it is useless."""
    cached = filled(tmp_path / "ab12")
    assert cached.is_intact
    shutil.rmtree(cached.path)
    assert not cached.is_intact
    assert cached.read(WHOLE) == DATA


def test_a_content_that_may_only_be_read_serves(tmp_path: Path) -> None:
    """Also a damaged block in it is a miss; writing is an error."""
    tmp_path.chmod(0o755)
    path = tmp_path / "ab12"
    filled(path)
    change(path / DATA_FILE, BLOCK_BYTES, b"damage")
    for one, mode in ((path, 0o555), (path / DATA_FILE, 0o444), (path / CHECKSUMS, 0o444)):
        one.chmod(mode)
    place = file_at(path)
    with without_privileges():
        cached = opened(place)
        assert cached.read(block(0)) == DATA[:BLOCK_BYTES]
        for _ in range(2):
            with pytest.raises(DamagedBlockError):
                cached.read(block(1))
        with pytest.raises(OSError, match="Read-only file system"):
            cached.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A content of another user that no other user can read."""
    tmp_path.chmod(0o755)
    path = tmp_path / "ab12"
    filled(path)
    path.chmod(0)
    place = file_at(path)
    with without_privileges(), pytest.raises(PermissionError):
        reopen(place)


# Views and descriptors


def test_read_bytes_are_a_mapping_of_the_file(tmp_path: Path) -> None:
    """No copy in Python: what the kernel asks for in a read-ahead is a view of an mmap."""
    cached = filled(tmp_path / "ab12")
    for part in (WHOLE, block(1), ByteRange(5, 5 + (128 << 10))):
        view = cached.read(part)
        assert view is not None
        assert isinstance(view.obj, mmap.mmap)
        assert view.readonly


def test_nothing_is_mapped_where_others_may_delete(tmp_path: Path) -> None:
    """Without `may_map`, as on a network file system, large ranges are read, too: no page that goes is a SIGBUS."""
    path = tmp_path / "ab12"
    filled(path)
    for cached in (
        ContentFile.open(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False),
        ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False),
    ):
        assert cached is not None
        view = cached.read(WHOLE)
        assert view == DATA
        assert isinstance(view.obj, bytes)


def test_views_outlive_content_and_file(tmp_path: Path) -> None:
    """The mapping lives as long as the view."""
    cached = filled(tmp_path / "ab12")
    views = [cached.read(block(index)) for index in range(3)]
    shutil.rmtree(cached.path)
    del cached
    assert b"".join(view for view in views if view is not None) == DATA


def test_the_last_user_closes_the_descriptor(tmp_path: Path) -> None:
    """Neither reading, nor a miss, nor a damaged block leaves a descriptor behind."""
    place = file_at(tmp_path / "ab12")
    before = descriptors()
    cached = filled(place)
    views = [cached.read(WHOLE), cached.read(block(0))]
    assert descriptors() > before
    del views
    assert descriptors() == before + 2
    os.truncate(cached.path / DATA_FILE, 100)
    assert read_or_miss(cached, WHOLE) is None
    assert reopen(cached.path) is None
    del cached
    assert descriptors() == before


def test_an_old_kernel_is_served_with_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.14 the advice is EINVAL: bytes are read instead of mapped, also from a file cut short."""
    monkeypatch.setattr(mapping, "_POPULATE_READ", 9999)
    cached = filled(tmp_path / "ab12")
    view = cached.read(WHOLE)
    assert view == DATA
    assert view is not None
    assert isinstance(view.obj, bytes)
    os.truncate(cached.path / DATA_FILE, 10)
    assert cached.read(WHOLE) is None
    assert cached.read(ByteRange(0, 10)) == DATA[:10]


def test_without_a_free_descriptor_bytes_are_copied(tmp_path: Path) -> None:
    """A mapping takes a descriptor for its life; where there is none, reading needs none."""
    cached = filled(tmp_path / "ab12")
    assert cached.read(WHOLE) == DATA
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        view = cached.read(WHOLE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert view == DATA


def test_a_disk_that_fails_is_a_miss_for_verified_blocks(tmp_path: Path) -> None:
    """An error of the disk is not the reader's."""
    cached = filled(tmp_path / "ab12")
    assert cached.read(WHOLE) == DATA
    broken = os.open(tmp_path, os.O_RDONLY)  # a folder: neither mmap nor pread give bytes
    os.dup2(broken, cached._data)
    os.close(broken)
    assert cached.read(WHOLE) is None
    assert cached.read(ByteRange(0, 10)) is None


def test_few_blocks_are_checked_at_once(tmp_path: Path) -> None:
    """In memory, the blocks of a read of 1 MiB are at hand before their first check; of more, only checked ones."""
    path, blocks = tmp_path / "ab12", 8
    cached = ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=blocks * BLOCK_BYTES)
    for index in range(blocks):
        cached.write(index, bytes(BLOCK_BYTES))
    assert cached.is_in_page_cache(ByteRange(1, (1 << 20) + 1))
    assert not cached.is_in_page_cache(ByteRange(0, blocks * BLOCK_BYTES))
    cached.read(ByteRange(0, 3 * BLOCK_BYTES))
    assert cached.is_in_page_cache(ByteRange(0, blocks * BLOCK_BYTES))


def test_what_is_not_in_memory_is_not_in_the_page_cache(tmp_path: Path) -> None:
    """Pages that the kernel dropped would have to come from the disk: it is asked, and it is believed."""
    cached = filled(tmp_path / "ab12")
    assert cached.read(WHOLE) == DATA
    with open(cached.path / DATA_FILE, "rb") as file:
        os.fsync(file.fileno())
        replies = []
        for ask in (
            lambda: cached.is_in_page_cache(ByteRange(0, 1)),
            lambda: reads_without_waiting(file.fileno(), 0),
        ):
            # Each asks of dropped pages: the question alone can make the kernel read ahead.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            replies.append(ask())
    assert replies[0] is replies[1]
    assert cached.read(WHOLE) == DATA


def test_where_the_kernel_cannot_tell_bytes_are_taken_as_in_the_page_cache() -> None:
    """A file system without RWF_NOWAIT must not make every read a thread."""
    read_end, write_end = os.pipe()
    try:
        assert mapping.read_in_memory(read_end, 1, 0) is not None
    finally:
        os.close(read_end)
        os.close(write_end)


def test_reading_marks_a_content_as_used_now_and_then(tmp_path: Path) -> None:
    """Eviction goes by st_mtime: it is refreshed after a read, though not each, and by no read itself."""
    cached = filled(tmp_path / "ab12")
    os.utime(cached.path / CHECKSUMS, (0, 0))
    cached.note_use()
    cached.read(block(0))
    assert (cached.path / CHECKSUMS).stat().st_mtime == 0
    cached.note_use()
    assert (cached.path / CHECKSUMS).stat().st_mtime > 1e9
    os.utime(cached.path / CHECKSUMS, (0, 0))
    cached.read(block(0))
    cached.note_use()
    assert (cached.path / CHECKSUMS).stat().st_mtime == 0


def test_threads_read_and_write_one_content(tmp_path: Path) -> None:
    """While some write blocks, others see each as missing or right."""
    data = random.Random(7).randbytes(16 * BLOCK_BYTES)
    cached = ContentFile.create(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(data))

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(60):
            part = block(order.randrange(16), data)
            wanted = data[part.start : part.stop]
            if order.random() < 0.5:
                cached.write(part.start // BLOCK_BYTES, wanted)
            else:
                assert read_or_miss(cached, part) in {None, wanted}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for index in range(16):
        cached.write(index, data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    assert cached.read(ByteRange(0, len(data))) == data


class TestOtherHosts:
    """A content on a file system that other hosts have, too."""

    @pytest.fixture(autouse=True)
    def as_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Which file system it is says mountinfo."""
        monkeypatch.setattr(own_folders, "is_shared", lambda path: True)

    def test_bytes_are_at_the_server_before_their_record(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bytes are pushed when they are written, and each record with its write: O_DSYNC."""
        pushed: list[tuple[int, int, bool]] = []
        cached = ContentFile.create(
            file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA), may_map=False
        )

        def push(descriptor: int, offset: int, length: int) -> None:
            pushed.append((offset, length, cached.holds(0)))

        monkeypatch.setattr(content_blocks, "push_data", push)
        cached.write(0, DATA[:BLOCK_BYTES])
        assert pushed == [(0, BLOCK_BYTES, False)]
        assert cached.holds(0)
        assert list(cached.recorded()) == [0]
        flags = Path(f"/proc/self/fdinfo/{cached.writable.files.checksums}").read_text()  # type: ignore[union-attr]
        assert int(flags.split("flags:")[1].split()[0], 8) & os.O_DSYNC

    @pytest.mark.parametrize("times", [1, 2])
    def test_what_memory_shows_is_read_again_before_it_counts_as_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        """The pages of a block may be of before another host wrote it, and so may be those that are on their way.

        One that is wrong at the server is damaged.
        """
        cached = ContentFile.create(
            file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA), may_map=False
        )
        cached.write(0, DATA[:BLOCK_BYTES])
        read_at, are_stale = content_file.read_at, [True] * times

        def read(descriptor: int, size: int, offset: int) -> bytes:
            return bytes(size) if are_stale and size == BLOCK_BYTES else read_at(descriptor, size, offset)

        def forget(descriptor: int, offset: int = 0, length: int = 0) -> None:
            if (offset, length) == (0, BLOCK_BYTES):
                are_stale.pop()

        monkeypatch.setattr(content_file, "read_at", read)
        monkeypatch.setattr(content_file, "forget_pages", forget)
        assert cached.read(ByteRange(0, 4)) == DATA[:4]
        assert not are_stale
        monkeypatch.setattr(content_file, "forget_pages", lambda *_: None)
        again = ContentFile.open(file_at(tmp_path / "ab12"), identity=IDENTITY, data_bytes=len(DATA), may_map=False)
        assert again is not None
        are_stale.append(True)
        with pytest.raises(DamagedBlockError):
            again.read(ByteRange(0, 4))
        assert again.read(ByteRange(0, 4)) is None
