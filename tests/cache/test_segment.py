"""One segment file: its layout, and that nothing which happens to it ever becomes a wrong byte or a crash."""

import errno
import mmap
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.segment import SEGMENT_BLOCKS, SEGMENT_BYTES, TABLE_BYTES, DamagedBlockError, Segment
from vbnfs.host import mapping
from vbnfs.host.places import Anchor, Place, file_at
from vbnfs.objects import ByteRange

IDENTITY = "ab12.0"
DATA = random.Random(1).randbytes(2 * BLOCK_BYTES + 1000)
WHOLE = ByteRange(0, len(DATA))
RECORD_BYTES = 16


def block(index: int, data: bytes = DATA) -> ByteRange:
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(len(data))


def reopen(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> Segment | None:
    return Segment.open(file_at(path), identity=identity, data_bytes=len(data))


def opened(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> Segment:
    segment = reopen(path, data=data, identity=identity)
    assert segment is not None
    return segment


def filled(path: Path | Place, *, data: bytes = DATA, identity: str = IDENTITY) -> Segment:
    """A segment with all blocks of `data`, written by another object than the one returned."""
    segment = Segment.create(file_at(path), identity=identity, data_bytes=len(data))
    for index in range(-(-len(data) // BLOCK_BYTES)):
        part = block(index, data)
        segment.write(index, data[part.start : part.stop])
    return opened(path, data=data, identity=identity)


def read_or_miss(segment: Segment, byte_range: ByteRange) -> bytes | None:
    try:
        view = segment.read(byte_range)
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
    return len(os.listdir("/proc/self/fd"))


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


def test_a_segment_is_1024_blocks_of_256_kib_behind_a_table_of_16_kib() -> None:
    """Four files hold a GiB; the format's figures do not change without its version."""
    assert (BLOCK_BYTES, SEGMENT_BLOCKS, TABLE_BYTES, SEGMENT_BYTES) == (256 << 10, 1024, 16 << 10, 256 << 20)


def test_a_block_stands_at_its_natural_place_and_its_record_in_the_table(tmp_path: Path) -> None:
    """Block n is at 16 KiB + n x 256 KiB; its record of 16 bytes, XXH3-128 with a seed of its own, at 16 n."""
    path = tmp_path / "segment"
    segment = Segment.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA))
    segment.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    file = path.read_bytes()
    seed = (xxhash.xxh3_64_intdigest(IDENTITY.encode()) + 1) % (1 << 64)
    assert len(file) == TABLE_BYTES + len(DATA)
    assert file[16:32] == xxhash.xxh3_128_digest(DATA[BLOCK_BYTES : 2 * BLOCK_BYTES], seed=seed)
    assert file[TABLE_BYTES + BLOCK_BYTES : TABLE_BYTES + 2 * BLOCK_BYTES] == DATA[BLOCK_BYTES : 2 * BLOCK_BYTES]
    rest = file[:16] + file[32 : TABLE_BYTES + BLOCK_BYTES] + file[TABLE_BYTES + 2 * BLOCK_BYTES :]
    assert not any(rest)


def test_a_new_segment_has_its_full_length_and_takes_no_room(tmp_path: Path) -> None:
    """A segment of 256 MiB is a hole until blocks come; no temporary file stays behind."""
    segment = Segment.create(file_at(tmp_path / "ab" / "segment"), identity=IDENTITY, data_bytes=SEGMENT_BYTES)
    status = segment.path.stat()
    assert status.st_size == TABLE_BYTES + SEGMENT_BYTES
    assert status.st_blocks * 512 < BLOCK_BYTES
    assert list(segment.path.parent.iterdir()) == [segment.path]
    assert status.st_mode & 0o077 == 0


@pytest.mark.parametrize("size", [1, 4095, 70_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_the_last_block_may_be_shorter(tmp_path: Path, size: int) -> None:
    """What was written is read, whatever the length of the content."""
    data = random.Random(size).randbytes(size)
    segment = filled(tmp_path / "segment", data=data)
    assert segment.read(ByteRange(0, size)) == data
    assert segment.held_bytes() == size


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_range_reads_as_in_the_plain_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A range begins and ends anywhere, within blocks and pages."""
    start = data.draw(st.integers(0, len(DATA) - 1))
    stop = data.draw(st.integers(start + 1, min(len(DATA), start + 300_000)))
    path = tmp_path_factory.getbasetemp() / "ranges"
    segment = reopen(path) or filled(path)
    assert segment.read(ByteRange(start, stop)) == DATA[start:stop]


def test_a_missing_block_is_a_miss(tmp_path: Path) -> None:
    """A range with one block that was never written is no bytes at all."""
    segment = Segment.create(file_at(tmp_path / "segment"), identity=IDENTITY, data_bytes=len(DATA))
    segment.write(0, DATA[:BLOCK_BYTES])
    assert segment.holds(0)
    assert not segment.holds(1)
    assert segment.held_bytes() == BLOCK_BYTES
    assert segment.read(ByteRange(BLOCK_BYTES - 1, BLOCK_BYTES + 1)) is None
    assert segment.read(block(0)) == DATA[:BLOCK_BYTES]


def test_a_block_counts_only_when_all_of_its_data_is_written(tmp_path: Path) -> None:
    """Data goes before its record: a disk that fills up in the middle of a block leaves no record of it."""
    segment = Segment.create(file_at(tmp_path / "segment"), identity=IDENTITY, data_bytes=len(DATA))
    with file_size_limit(TABLE_BYTES + BLOCK_BYTES // 2), pytest.raises(OSError, match="large"):
        segment.write(0, DATA[:BLOCK_BYTES])
    assert not segment.holds(0)
    segment.write(0, DATA[:BLOCK_BYTES])
    assert segment.read(block(0)) == DATA[:BLOCK_BYTES]


# Damage


@given(index=st.integers(0, 2), bit=st.integers(0), in_record=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_is_a_damaged_block_once_and_then_a_miss(
    tmp_path_factory: pytest.TempPathFactory, index: int, bit: int, in_record: bool
) -> None:
    """A bit in a block or in its record: the block is refused, loses its record, and the adjacent blocks serve."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.unlink(missing_ok=True)
    filled(path)
    start = index * RECORD_BYTES if in_record else TABLE_BYTES + index * BLOCK_BYTES
    length = RECORD_BYTES if in_record else len(block(index))
    at = start + bit // 8 % length
    change(path, at, bytes([path.read_bytes()[at] ^ (1 << bit % 8)]))
    segment = opened(path)
    with pytest.raises(DamagedBlockError):
        segment.read(block(index))
    assert segment.read(block(index)) is None
    assert not segment.holds(index)
    for other in {0, 1, 2} - {index}:
        assert segment.read(block(other)) == DATA[block(other).start : block(other).stop]


@given(length=st.integers(0, TABLE_BYTES + len(DATA) - 1))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_short_is_no_segment(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    """To nothing, into the table, into a block, by one byte: it is a miss as a whole."""
    path = tmp_path_factory.getbasetemp() / "cut"
    path.unlink(missing_ok=True)
    filled(path)
    os.truncate(path, length)
    assert reopen(path) is None


@given(length=st.integers(0, TABLE_BYTES + len(DATA) - 1), verified=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_file_cut_short_under_an_open_segment_gives_right_bytes_or_none(
    tmp_path_factory: pytest.TempPathFactory, length: int, verified: bool
) -> None:
    """Whether its blocks were verified before or not: no wrong byte, and no SIGBUS."""
    path = tmp_path_factory.getbasetemp() / "cut-open"
    path.unlink(missing_ok=True)
    segment = filled(path)
    if verified:
        assert segment.read(WHOLE) == DATA
    os.truncate(path, length)
    for part in (WHOLE, block(0), block(1), block(2), ByteRange(100, 200), ByteRange(len(DATA) - 1, len(DATA))):
        data = read_or_miss(segment, part)
        assert data in {None, DATA[part.start : part.stop]}
        if TABLE_BYTES + part.stop > length:
            assert data is None
    assert not segment.is_whole


def test_a_view_of_a_file_cut_short_is_an_error_for_the_kernel_and_no_signal(tmp_path: Path) -> None:
    """A reply that is on its way when the file is truncated fails with EFAULT: the process lives."""
    segment = filled(tmp_path / "segment")
    view = segment.read(block(0))
    assert view is not None
    os.truncate(segment.path, 0)
    with open(tmp_path / "reply", "wb", buffering=0) as reply, pytest.raises(OSError) as error:  # noqa: PT011
        reply.write(view)
    assert error.value.errno == errno.EFAULT


def test_a_segment_cut_short_is_replaced_and_not_made_longer(tmp_path: Path) -> None:
    """A process that has the short file open must not see holes where there were verified bytes."""
    old = filled(tmp_path / "segment")
    assert old.read(block(0)) == DATA[:BLOCK_BYTES]
    os.truncate(old.path, TABLE_BYTES)
    new = Segment.create(file_at(old.path), identity=IDENTITY, data_bytes=len(DATA))
    new.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert new.is_whole
    assert not old.is_whole
    assert old.read(block(0)) is None
    assert new.read(block(0)) is None


@pytest.mark.parametrize("identity", ["ab13.0", "ab12.1"])
def test_a_segment_under_another_name_does_not_match(tmp_path: Path, identity: str) -> None:
    """Another content's segment, or another number of the same content: every block is refused."""
    filled(tmp_path / "segment")
    other = opened(tmp_path / "segment", identity=identity)
    for index in range(3):
        with pytest.raises(DamagedBlockError):
            other.read(block(index))


def test_a_block_in_the_place_of_another_does_not_match(tmp_path: Path) -> None:
    """Data and record together, moved within a segment, are refused."""
    data = DATA[: 2 * BLOCK_BYTES]
    segment = filled(tmp_path / "segment", data=data)
    file = segment.path.read_bytes()
    change(segment.path, 0, file[16:32])
    change(segment.path, TABLE_BYTES, file[TABLE_BYTES + BLOCK_BYTES :])
    with pytest.raises(DamagedBlockError):
        opened(segment.path, data=data).read(ByteRange(0, BLOCK_BYTES))


@pytest.mark.parametrize("seed", range(3))
def test_a_foreign_file_is_a_miss(tmp_path: Path, seed: int) -> None:
    """Noise of the right length: nothing in it matches."""
    path = tmp_path / "segment"
    path.write_bytes(random.Random(seed).randbytes(TABLE_BYTES + len(DATA)))
    segment = opened(path)
    assert [read_or_miss(segment, block(index)) for index in range(3)] == [None, None, None]


@pytest.mark.parametrize("length", [BLOCK_BYTES, 2 * BLOCK_BYTES, len(DATA) - 1, len(DATA) + 1])
def test_a_segment_of_another_size_is_a_miss(tmp_path: Path, length: int) -> None:
    """A content that is taken to have another size than its segment was made for has nothing there, until it is new.

    Of one whose size is a multiple of a block's each block would match, and the file would end too early.
    """
    path, other = tmp_path / "segment", bytes(length)
    filled(path)
    assert reopen(path, data=other) is None
    segment = Segment.create(file_at(path), identity=IDENTITY, data_bytes=length)
    assert segment.held_bytes() == 0
    assert path.stat().st_size == TABLE_BYTES + length
    assert reopen(path) is None


def test_zeros_and_empty_files_are_a_miss(tmp_path: Path) -> None:
    """A file of zeros holds nothing, and an empty one is no segment."""
    path = tmp_path / "segment"
    path.write_bytes(b"")
    assert reopen(path) is None
    os.truncate(path, TABLE_BYTES + len(DATA))
    segment = opened(path)
    assert segment.read(block(0)) is None
    assert segment.held_bytes() == 0


@pytest.mark.parametrize(("start", "length"), [(0, BLOCK_BYTES), (4096, 4096), (BLOCK_BYTES - 1, 1)])
def test_a_page_that_a_power_cut_lost_is_a_damaged_block(tmp_path: Path, start: int, length: int) -> None:
    """Zeros where data should be, with a record: the file system wrote the record and lost the data."""
    segment = filled(tmp_path / "segment")
    change(segment.path, TABLE_BYTES + start, bytes(length))
    with pytest.raises(DamagedBlockError):
        opened(segment.path).read(ByteRange(0, 1))


def test_a_damaged_block_can_be_written_again(tmp_path: Path) -> None:
    """The same object serves it, once it was fetched anew."""
    segment = filled(tmp_path / "segment")
    change(segment.path, TABLE_BYTES + 5, b"xxxxx")
    assert read_or_miss(segment, block(0)) is None
    segment.write(0, DATA[:BLOCK_BYTES])
    assert segment.read(WHOLE) == DATA


# Files


def test_no_file_is_no_segment(tmp_path: Path) -> None:
    """`open` makes nothing, not even a folder."""
    assert reopen(tmp_path / "ab" / "segment") is None
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """Neither read nor written through: what it leads to stays as it is."""
    target = filled(tmp_path / "target").path
    before = target.read_bytes()
    link = tmp_path / "segment"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        reopen(link)
    with pytest.raises(OSError, match="symbolic links"):
        Segment.create(file_at(link), identity=IDENTITY, data_bytes=len(DATA))
    assert target.read_bytes() == before


def test_a_folder_in_the_place_of_a_segment_is_an_error(tmp_path: Path) -> None:
    """It is not deleted."""
    path = tmp_path / "segment"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        Segment.create(file_at(path), identity=IDENTITY, data_bytes=1)
    assert path.is_dir()


class _CreatedMeanwhile(Place):
    """A place at which another process creates the segment after this one has found none."""

    __slots__ = ("other",)

    @property
    def parent(self) -> Place:
        if not hasattr(self, "other"):
            self.other = Segment.create(file_at(self.path), identity=IDENTITY, data_bytes=len(DATA))
            self.other.write(0, DATA[:BLOCK_BYTES])
        return super().parent


def test_who_comes_second_takes_the_file_of_who_was_first(tmp_path: Path) -> None:
    """Between looking and creating, another process made the file: its blocks are not lost."""
    path = _CreatedMeanwhile(Anchor(tmp_path), ("segment",))
    segment = Segment.create(path, identity=IDENTITY, data_bytes=len(DATA))
    assert segment.read(block(0)) == DATA[:BLOCK_BYTES]
    assert path.other.is_whole
    assert os.listdir(tmp_path) == ["segment"]


_CREATE_AND_WRITE = """
import sys
from pathlib import Path
from vbnfs.host.places import file_at
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.segment import Segment
folder, me = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    segment = Segment.create(file_at(folder / str(number)), identity=str(number), data_bytes=2 * BLOCK_BYTES)
    segment.write(me, bytes([me]) * BLOCK_BYTES)
"""


def test_two_processes_that_create_the_same_segments_fill_the_same_files(tmp_path: Path) -> None:
    """Each writes one of two blocks of a hundred segments: all blocks are there in the end."""
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
        segment = opened(tmp_path / str(number), data=bytes(2 * BLOCK_BYTES), identity=str(number))
        assert segment.held_bytes() == 2 * BLOCK_BYTES
    assert len(list(tmp_path.iterdir())) == 100


def test_an_evicted_segment_goes_on_reading(tmp_path: Path) -> None:
    """A process that has it open reads on; only adding to it is useless."""
    segment = filled(tmp_path / "segment")
    assert segment.is_whole
    segment.path.unlink()
    assert not segment.is_whole
    assert segment.read(WHOLE) == DATA


def test_a_segment_that_may_only_be_read_serves(tmp_path: Path) -> None:
    """Also a damaged block in it is a miss; writing is an error."""
    tmp_path.chmod(0o755)
    path = tmp_path / "segment"
    filled(path)
    change(path, TABLE_BYTES + BLOCK_BYTES, b"damage")
    path.chmod(0o444)
    place = file_at(path)
    with without_privileges():
        segment = opened(place)
        assert segment.read(block(0)) == DATA[:BLOCK_BYTES]
        for _ in range(2):
            with pytest.raises(DamagedBlockError):
                segment.read(block(1))
        with pytest.raises(OSError, match="Read-only file system"):
            segment.write(1, DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A segment of another user that no other user can read."""
    tmp_path.chmod(0o755)
    path = tmp_path / "segment"
    filled(path)
    path.chmod(0)
    place = file_at(path)
    with without_privileges(), pytest.raises(PermissionError):
        reopen(place)


# Views and descriptors


def test_read_bytes_are_a_mapping_of_the_file(tmp_path: Path) -> None:
    """No copy in Python: what the kernel asks for in a read-ahead is a view of an mmap."""
    segment = filled(tmp_path / "segment")
    for part in (WHOLE, block(1), ByteRange(5, 5 + (128 << 10))):
        view = segment.read(part)
        assert view is not None
        assert isinstance(view.obj, mmap.mmap)
        assert view.readonly


def test_nothing_is_mapped_where_others_may_delete(tmp_path: Path) -> None:
    """Without `may_map`, as on a network file system, large ranges are read, too: no page that goes is a SIGBUS."""
    path = tmp_path / "segment"
    filled(path)
    for segment in (
        Segment.open(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False),
        Segment.create(file_at(path), identity=IDENTITY, data_bytes=len(DATA), may_map=False),
    ):
        assert segment is not None
        view = segment.read(WHOLE)
        assert view == DATA
        assert isinstance(view.obj, bytes)


def test_views_outlive_segment_and_file(tmp_path: Path) -> None:
    """The mapping lives as long as the view."""
    segment = filled(tmp_path / "segment")
    views = [segment.read(block(index)) for index in range(3)]
    segment.path.unlink()
    del segment
    assert b"".join(view for view in views if view is not None) == DATA


def test_the_last_user_closes_the_descriptor(tmp_path: Path) -> None:
    """Neither reading, nor a miss, nor a damaged block leaves a descriptor behind."""
    place = file_at(tmp_path / "segment")
    before = descriptors()
    segment = filled(place)
    views = [segment.read(WHOLE), segment.read(block(0))]
    assert descriptors() > before
    del views
    assert descriptors() == before + 1
    os.truncate(segment.path, 100)
    assert read_or_miss(segment, WHOLE) is None
    assert reopen(segment.path) is None
    del segment
    assert descriptors() == before


def test_an_old_kernel_is_served_with_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.14 the advice is EINVAL: bytes are read instead of mapped, also from a file cut short."""
    monkeypatch.setattr(mapping, "_POPULATE_READ", 9999)
    segment = filled(tmp_path / "segment")
    view = segment.read(WHOLE)
    assert view == DATA
    assert view is not None
    assert isinstance(view.obj, bytes)
    os.truncate(segment.path, TABLE_BYTES + 10)
    assert segment.read(WHOLE) is None
    assert segment.read(ByteRange(0, 10)) == DATA[:10]


def test_without_a_free_descriptor_bytes_are_copied(tmp_path: Path) -> None:
    """A mapping takes a descriptor for its life; where there is none, reading needs none."""
    segment = filled(tmp_path / "segment")
    assert segment.read(WHOLE) == DATA
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        view = segment.read(WHOLE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert view == DATA


def test_a_disk_that_fails_is_a_miss_for_verified_blocks(tmp_path: Path) -> None:
    """An error of the disk is not the reader's."""
    segment = filled(tmp_path / "segment")
    assert segment.read(WHOLE) == DATA
    broken = os.open(tmp_path, os.O_RDONLY)  # a folder: neither mmap nor pread give bytes
    os.dup2(broken, segment._descriptor)
    os.close(broken)
    assert segment.read(WHOLE) is None
    assert segment.read(ByteRange(0, 10)) is None


def test_few_blocks_are_checked_at_once(tmp_path: Path) -> None:
    """In memory, the blocks of a read of 1 MiB are at hand before their first check; of more, only checked ones."""
    path, blocks = tmp_path / "segment", 8
    segment = Segment.create(file_at(path), identity=IDENTITY, data_bytes=blocks * BLOCK_BYTES)
    for index in range(blocks):
        segment.write(index, bytes(BLOCK_BYTES))
    assert segment.is_in_page_cache(ByteRange(1, (1 << 20) + 1))
    assert not segment.is_in_page_cache(ByteRange(0, blocks * BLOCK_BYTES))
    segment.read(ByteRange(0, 3 * BLOCK_BYTES))
    assert segment.is_in_page_cache(ByteRange(0, blocks * BLOCK_BYTES))


def test_what_is_not_in_memory_is_not_in_the_page_cache(tmp_path: Path) -> None:
    """Pages that the kernel dropped would have to come from the disk: it is asked, and it is believed."""
    segment = filled(tmp_path / "segment")
    assert segment.read(WHOLE) == DATA
    with open(segment.path, "rb") as file:
        os.fsync(file.fileno())
        replies = []
        for ask in (
            lambda: segment.is_in_page_cache(ByteRange(0, 1)),
            lambda: reads_without_waiting(file.fileno(), TABLE_BYTES),
        ):
            # Each asks of dropped pages: the question alone can make the kernel read ahead.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            replies.append(ask())
    assert replies[0] is replies[1]
    assert segment.read(WHOLE) == DATA


def test_where_the_kernel_cannot_tell_bytes_are_taken_as_in_the_page_cache() -> None:
    """A file system without RWF_NOWAIT must not make every read a thread."""
    read_end, write_end = os.pipe()
    try:
        assert mapping.read_in_memory(read_end, 1, 0) is not None
    finally:
        os.close(read_end)
        os.close(write_end)


def test_reading_marks_a_segment_as_used_now_and_then(tmp_path: Path) -> None:
    """Eviction goes by st_mtime: it is refreshed after a read, though not each, and by no read itself."""
    segment = filled(tmp_path / "segment")
    os.utime(segment.path, (0, 0))
    segment.note_use()
    segment.read(block(0))
    assert segment.path.stat().st_mtime == 0
    segment.note_use()
    assert segment.path.stat().st_mtime > 1e9
    os.utime(segment.path, (0, 0))
    segment.read(block(0))
    segment.note_use()
    assert segment.path.stat().st_mtime == 0


def test_threads_read_and_write_one_segment(tmp_path: Path) -> None:
    """While some write blocks, others see each as missing or right."""
    data = random.Random(7).randbytes(16 * BLOCK_BYTES)
    segment = Segment.create(file_at(tmp_path / "segment"), identity=IDENTITY, data_bytes=len(data))

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(60):
            part = block(order.randrange(16), data)
            wanted = data[part.start : part.stop]
            if order.random() < 0.5:
                segment.write(part.start // BLOCK_BYTES, wanted)
            else:
                assert read_or_miss(segment, part) in {None, wanted}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for index in range(16):
        segment.write(index, data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    assert segment.read(ByteRange(0, len(data))) == data
