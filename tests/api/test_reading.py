"""How an open file's bytes are had: cached ones by the caller's own thread, others in waves, each byte once."""

import gc
import io
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import h5py
import pytest

import vbnfs
from tests.api.release import LFP, SESSION, SESSION_ID, serving
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts
from tests.open_files import open_files
from tests.waiting import until
from vbnfs.access import door
from vbnfs.api import reading
from vbnfs.api.buffered_file import PIECE_BYTES
from vbnfs.api.connection import Parts
from vbnfs.api.remote_file import RemoteFile
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import content_file
from vbnfs.cache.holdings import all_held
from vbnfs.host.places import folder_at
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader

PATH = "a.bin"
SIZE = 9_000_001
DATA = Pattern(SIZE, seed=1)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A file of 35 blocks."""
    with serve({"0.1.0": {PATH: DATA}}) as server:
        yield server


@pytest.fixture
def dataset(server: FakeS3Server) -> Iterator[vbnfs.Dataset]:
    """The dataset of that server."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        yield dataset


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the event loop is asked to do and waited for."""
    calls = list[object]()
    run = door._Call.run
    monkeypatch.setattr(door._Call, "run", lambda call: (calls.append(call), run(call))[1])
    return calls


def test_cached_bytes_are_read_by_the_caller(
    dataset: vbnfs.Dataset, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event loop is asked for what is here; bytes go from the disk into the caller's memory, by its own thread."""
    file = dataset.file(PATH).open()
    file.read()
    file.seek(0)
    dataset.file(PATH).prefetch()
    asked.clear()
    threads = set[int]()

    def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
        threads.add(threading.get_ident())
        return os.preadv(descriptor, [buffer], offset)

    monkeypatch.setattr(content_file, "read_into", read_into)
    buffer = bytearray(70_000)
    for offset in range(0, SIZE, 500_000):
        assert file.read_at(offset, 4096) == DATA[offset : min(SIZE, offset + 4096)]
        file.seek(offset)
        count = file.readinto(buffer)
        assert buffer[:count] == DATA[offset : offset + count]
    assert file.read_ranges([(5, 10), (SIZE - 5, 10)]) == [DATA[5:15], DATA[SIZE - 5 : SIZE]]
    assert asked == []
    assert threads == {threading.get_ident()}


def test_small_reads_in_a_row_are_fetched_ahead(dataset: vbnfs.Dataset, asked: list[object]) -> None:
    """What is answered without the event loop still says what comes next: few waits, and every byte once."""
    file = dataset.file(PATH).open()
    metrics = dataset._connection.value.versions.dataset.metrics
    asked.clear()
    data = b"".join(iter(lambda: file.read(10_000), b""))
    assert data == DATA[:]
    assert len(asked) <= 3 * 35  # blocks; there are 900 reads
    dataset.close()  # so that all that came is kept; what a busy machine has asked for once more counts once
    assert metrics.kept_bytes == SIZE


def test_a_block_that_is_damaged(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """A process that has not used a block yet checks it: what is damaged is fetched again, and right."""
    file = dataset.file(PATH)
    file.prefetch()
    path = file.local_path
    assert path is not None
    dataset.close()
    with path.open("r+b") as opened:
        opened.seek(3 * BLOCK_BYTES + 100)
        opened.write(b"not this")
    server.forget_requests()
    with file.open() as again:
        assert again.read() == DATA[:]
    assert 0 < server.body_bytes <= 2 * BLOCK_BYTES


def test_what_is_evicted_while_it_is_open(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Reads go on after another process has deleted a file: from what is open, and then from S3."""
    file = dataset.file(PATH)
    file.prefetch()
    opened = file.open()
    assert opened.read_at(0, 10) == DATA[:10]
    for content in dataset.config.cache_dir.glob("blocks-v2/*/whole/*/*"):
        shutil.rmtree(content)
    assert opened.read_at(SIZE - 10, 10) == DATA[SIZE - 10 : SIZE]
    dataset._connection.run(forget_deleted)
    assert opened.read() == DATA[:]


def test_what_is_closed_has_no_files(server: FakeS3Server) -> None:
    """No file of the cache stays open, and nothing that waits for connections, also while no garbage is collected."""
    config = vbnfs.Dataset(endpoint_url=server.endpoint_url).config

    def open_now() -> list[str]:
        found = [one.partition(" ")[2] for one in open_files(collects=False)]
        return sorted(one for one in found if one.startswith(("anon_inode", str(config.cache_dir))))

    def use(reads: Callable[[RemoteFile], object], *, closes: bool) -> None:
        dataset = vbnfs.Dataset(endpoint_url=server.endpoint_url)
        reads(dataset.file(PATH).open())
        if closes:
            dataset.close()

    def in_a_row(file: RemoteFile) -> None:
        while file.read(500_000):  # what lies ahead is fetched, too
            pass

    gc.disable()
    try:
        use(in_a_row, closes=True)  # which begins what the process has once
        gc.collect()
        before = open_now()
        for closes in (True, False):
            use(in_a_row, closes=closes)
            use(lambda file: file.read_at(0, 10), closes=closes)
        until(lambda: open_now() == before, seconds=60)
    finally:
        gc.enable()


def test_what_no_program_uses_any_more(server: FakeS3Server) -> None:
    """A file that fsspec opened goes with the last who uses it, also while no garbage is collected."""
    fs = fsspec.filesystem("vbnfs", endpoint_url=server.endpoint_url)
    gc.disable()
    try:
        file = fs.open(f"v0.1.0/{PATH}")
        assert file.read(10) == DATA[:10]
        known = weakref.ref(file)
        del file
        assert known() is None
    finally:
        gc.enable()
    fs.close()


def test_a_cache_that_is_deleted(dataset: vbnfs.Dataset) -> None:
    """What was whole before is fetched again at once, and kept; a user who deletes the folder is no failure."""
    file = dataset.file(PATH)
    file.prefetch()
    assert file.open().read_at(0, 10) == DATA[:10]
    shutil.rmtree(dataset.config.cache_dir)
    file.prefetch()
    assert file.local_path is not None
    assert file.local_path.read_bytes() == DATA[:]


async def forget_deleted(parts: Parts) -> None:
    """What upkeep does every few seconds."""
    parts.versions.dataset.cache.forget_deleted()


def test_lines(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are those of Python's own files. Each costs a few reads, and not one for each byte."""
    file, expected = dataset.file(PATH).open(), io.BytesIO(DATA[:])
    reads, read_at = list[int](), RemoteFile.read_at
    monkeypatch.setattr(RemoteFile, "read_at", lambda file, *place: (reads.append(1), read_at(file, *place))[1])
    for size in (-1, None, 0, 1, 100, 5000, *[-1] * 300):
        assert file.readline(size) == expected.readline(size)
        assert file.tell() == expected.tell()
    file.seek(SIZE - 2000)
    expected.seek(SIZE - 2000)
    assert list(file) == list(expected)
    assert file.readline() == b""
    assert len(reads) < 1000


@pytest.mark.parametrize("way", ["Dataset.open", "fsspec"])
def test_a_line_that_fails(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A read that fails, or is interrupted, within a line takes nothing of it: the next one gets the whole line."""
    options, failures = {"endpoint_url": server.endpoint_url}, [KeyboardInterrupt(), OSError("no network")]
    fs, read_at = fsspec.filesystem("vbnfs", **options), RemoteFile.read_at
    begin = DATA[:].rindex(b"\n", 0, 24 * PIECE_BYTES) + 1
    line = DATA[begin : begin + 2000].partition(b"\n")[0] + b"\n"
    assert 24 * PIECE_BYTES - begin > 512  # so each kind of file reads twice for it
    assert begin + len(line) > 24 * PIECE_BYTES

    def failing(file: RemoteFile, offset: int, size: int) -> bytes:
        if offset > begin and failures:
            raise failures.pop()
        return read_at(file, offset, size)

    monkeypatch.setattr(RemoteFile, "read_at", failing)
    with vbnfs.Dataset(**options) as dataset:
        opens = dataset.open if way == "Dataset.open" else fs.open
        with opens(f"v0.1.0/{PATH}") as file:
            file.seek(begin)
            for error in (OSError, KeyboardInterrupt):
                with pytest.raises(error):
                    file.readline()
                assert file.tell() == begin
            assert file.readline() == line
    fs.close()


def test_very_many_ranges(dataset: vbnfs.Dataset, asked: list[object], server: FakeS3Server) -> None:
    """20,000 small ranges in any order, which overlap: one wave, in which each block is asked for once."""
    file = dataset.file(PATH).open()
    file.read_at(0, 1)
    asked.clear()
    server.forget_requests()
    ranges = [(number * 7919 * 31 % (SIZE - 500), 1 + number % 500) for number in range(20_000)]
    found, data = file.read_ranges(ranges), DATA[:]
    assert all(piece == data[offset : offset + size] for piece, (offset, size) in zip(found, ranges, strict=True))
    assert len(asked) == 1
    assert server.body_bytes <= SIZE


def test_ranges_that_are_large(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wave has more than its blocks, however large a range is: what is fetched does not fill the memory."""
    waves, bring_all = list[int](), reading._bring_all

    async def bring(parts: Parts, wave: Any) -> None:
        waves.append(sum(map(len, wave.values())))
        await bring_all(parts, wave)

    monkeypatch.setattr(reading, "_WAVE_BLOCKS", 4)
    monkeypatch.setattr(reading, "_PIECE_BYTES", 1_000_000)
    monkeypatch.setattr(reading, "_bring_all", bring)
    assert dataset.file(PATH).open().read_ranges([(5, SIZE), (1_000_000, 10)]) == [
        DATA[5:SIZE],
        DATA[1_000_000:1_000_010],
    ]
    assert waves == [4] * 8 + [3]


def test_bytes_are_not_copied() -> None:
    """What is read of a large file takes its size in memory, and not twice that."""
    tracemalloc.start()
    data = reading.filled(8 << 20, lambda buffer: buffer[:3].tobytes())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (type(data), len(data)) == (bytes, 8 << 20)
    assert peak_bytes < 12 << 20


def test_threads_that_begin_at_once(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is opened once for all of them: no reader is left over that is never closed."""
    opened, once = list[int](), reading._open

    async def counted(parts: Parts, content: Content) -> reading.Here:
        opened.append(1)
        return await once(parts, content)

    monkeypatch.setattr(reading, "_open", counted)
    file, together = dataset.file(PATH).open(), threading.Barrier(16)

    def read(number: int) -> bytes:
        together.wait(60)
        return file.read_at(number * 1000, 1000)

    with ThreadPoolExecutor(16) as threads:
        assert b"".join(threads.map(read, range(16))) == DATA[:16_000]
    assert len(opened) == 1


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A server of a small release with HDF5 files."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server


def test_a_whole_file_is_given_to_h5py_by_its_path(release: FakeS3Server, asked: list[object]) -> None:
    """It reads that without vbnfs. Until it is closed nothing evicts the file; where it has gone, it is fetched."""
    with vbnfs.Dataset(endpoint_url=release.endpoint_url) as dataset:
        top = folder_at(dataset.config.cache_dir)
        lfp = dataset.latest.file(LFP)
        lfp.prefetch()
        file = lfp.h5()
        asked.clear()
        assert file.filename == str(lfp.local_path)
        assert file["data"][:, 3].sum() == h5py.File(lfp.local_path)["data"][:, 3].sum()
        assert len(asked) == 2  # for the two paths that this test asked for
        assert any(held.is_kept for held in all_held(top))
        file.close()
        del file
        gc.collect()
        dataset._connection.run(publish)
        assert not any(held.is_kept for held in all_held(top))
        session = dataset.latest.file(SESSION)
        assert session.local_path is None
        with session.h5() as opened:
            assert opened["units/spike_times"].shape == (1000,)


@pytest.mark.parametrize("way", ["Dataset.open", "fsspec"])
def test_a_file_that_is_opened_by_h5py(release: FakeS3Server, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Its structure begins to come with the first bytes that h5py reads, also of a file that it is given open.

    What is read otherwise has no structure come.
    """
    expected, expect = list[int](), FileReader.expect_structure
    monkeypatch.setattr(FileReader, "expect_structure", lambda reader: (expected.append(1), expect(reader))[1])
    options = {"endpoint_url": release.endpoint_url, "hdf5": True}
    fs = fsspec.filesystem("vbnfs", **options)
    with vbnfs.Dataset(**options) as dataset:
        opens = dataset.open if way == "Dataset.open" else fs.open
        with opens(f"v0.5.0/{SESSION}") as file:
            file.read(100)
            assert expected == []
        with opens(f"v0.5.0/{SESSION}") as file, h5py.File(file) as h5:
            assert h5["units/spike_times"].shape == (1000,)
        assert expected == [1]
    fs.close()


async def publish(parts: Parts) -> None:
    """What upkeep does every few seconds."""
    parts.files.in_use.publish()


PROGRAM = """
import sys, threading, vbnfs
dataset = vbnfs.Dataset()
dataset.versions
for line in sys.stdin:
    file = dataset.file(line.strip()).open()
    places = [(int(sys.argv[1]) + n * 7919 * 97) % file.size for n in range(60)]
    def read(own):
        for offset in own:
            file.read_at(offset, 300_000)
    threads = [threading.Thread(target=read, args=(places[n::3],)) for n in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    file.seek(0)
    print(sum(file.read()) % 1_000_003, flush=True)
"""


@pytest.mark.slow
def test_many_processes_on_one_cache(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of several processes fetch each byte once, alone and beside a mount: 1.01 times at the most."""
    other = Pattern(SIZE, seed=2)
    with serve({"0.1.0": {PATH: DATA, "b.bin": other}}) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        mount = mounts(server.endpoint_url)
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([*command, str(n * 1_000_000)], **pipes) for n in range(2)]
        for path, data, is_mounted in ((PATH, DATA, False), ("b.bin", other, True)):
            server.forget_requests()
            for process in processes:
                process.stdin.write(f"{path}\n")
                process.stdin.flush()
            if is_mounted:
                assert (mount.path / path).read_bytes() == data[:]
            assert {process.stdout.readline() for process in processes} == {f"{sum(data[:]) % 1_000_003}\n"}
            assert server.body_bytes <= 1.01 * SIZE
        for process in processes:
            process.communicate(timeout=60)


GARBAGE = """
import gc, sys, threading, h5py, trio, vbnfs
dataset = vbnfs.Dataset()
deleted, gone = [], threading.Event()

class Noted:
    def __del__(self):
        deleted.append(threading.current_thread().name)
        gone.set()

def leave_garbage():
    file = dataset.session(int(sys.argv[1])).h5()
    cycle = {"array": file["units/spike_times"], "noted": Noted()}
    cycle["cycle"] = cycle

async def collect(parts):
    gc.collect()
    await trio.to_thread.run_sync(gc.collect)

gc.disable()
leave_garbage()
opened = dataset.session(int(sys.argv[1])).lfp("A").open()  # of which nothing is here
run, collected = dataset._connection.run, []
def run_and_collect(work, *arguments):  # as Python does at any time: here while h5py waits for bytes
    run(collect)
    collected.append(1)
    return run(work, *arguments)
dataset._connection.run = run_and_collect
with h5py.File(opened) as file:
    print(file["data"].shape, file["data"][0, 0], bool(collected))
print(gone.wait(60), deleted)
"""


def test_garbage_of_h5py(release: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """h5py's objects in cyclic garbage hang no read: a thread collects them for which no read waits."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", release.endpoint_url)
    command = [sys.executable, "-W", "ignore", "-c", GARBAGE, str(SESSION_ID)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2500, 4) 0.0 True\nTrue ['vbnfs-garbage']\n", "")
