"""What processes hold open of a cache: counted while it is deleted, kept while the kernel reads it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.cache.test_eviction import add_content, names
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import DATA, FORMAT
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.holdings import Held, Holdings, all_held, held_though_deleted
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

MIB = 1 << 20


def content(name: str, size_bytes: int) -> Content:
    return Content(name, size_bytes, ObjectVersion(name, None))


def test_what_is_published_is_read_as_it_was(tmp_path: Path) -> None:
    """By each process with a file of its own; the last that was published holds."""
    first, second = Holdings(folder_at(tmp_path)), Holdings(folder_at(tmp_path))
    one, other = Held(7, 4096, "aa11"), Held(8, 1 << 40, "bb22", is_read_by_kernel=True)
    first.publish([one, other, one])
    first.publish([one])
    second.publish([other])
    assert sorted(all_held(folder_at(tmp_path)), key=lambda held: held.inode) == [one, other]
    del second
    assert all_held(folder_at(tmp_path)) == [one]


def test_nothing_is_made_for_nothing(tmp_path: Path) -> None:
    """A process that has opened no content leaves no file."""
    Holdings(folder_at(tmp_path)).publish([])
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_held_is_not_counted(tmp_path: Path) -> None:
    """However it ended; its file is deleted."""
    script = "import os, sys; from pathlib import Path; from vbnfs.cache.holdings import Held, Holdings\n"
    script += "from vbnfs.host.places import folder_at\n"
    script += "Holdings(folder_at(Path(sys.argv[1]))).publish([Held(7, 4096, 'aa11')]) or os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == 9
    [left] = (tmp_path / FORMAT / ".held").iterdir()
    assert left.read_text() == "7 4096 aa11 \n"
    assert all_held(folder_at(tmp_path)) == []
    assert not left.exists()


def test_a_torn_file_says_what_it_says(tmp_path: Path) -> None:
    """No line of it stops an evictor."""
    living = Holdings(folder_at(tmp_path))
    living.publish([Held(7, 4096, "aa11")])
    [path] = (tmp_path / FORMAT / ".held").iterdir()
    path.write_bytes(b"\xff\n7 x aa\n-1 5 aa\n\n9\n9 8\n\xc2\xb2 5 aa\n8 5 bb22 kernel\n9 4")
    assert all_held(folder_at(tmp_path)) == [Held(8, 5, "bb22", is_read_by_kernel=True)]


def test_a_deleted_content_counts_once(tmp_path: Path) -> None:
    """However many processes have it open."""
    held = [Held(7, 100, "aa11"), Held(7, 100, "aa11"), Held(8, 5, "bb22")]
    assert held_though_deleted(held, {8}) == 100
    assert held_though_deleted(held, {7, 8}) == 0


def test_room_that_a_deleted_content_takes_is_not_given_to_others(tmp_path: Path) -> None:
    """One process has it open, another one evicts: what is on the disk keeps within the limit, all counted."""
    reader, gone = BlockCache(tmp_path, scope="aws", metrics=Metrics()), content("aa11", 4 * MIB)
    for index in range(16):
        reader.put(gone, index, bytes([index]) * BLOCK_BYTES)
    reader.note_uses()
    other = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    other.drop(gone)
    for number in range(3):
        add_content(tmp_path, f"bb{number}", MIB, used=1000 + number)
    evictor = Evictor(tmp_path, limit_bytes=6 * MIB, metrics=Metrics())
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["bb2"]
    assert 5 * MIB <= evictor.usage_bytes <= 5 * MIB + 16384  # checksums, and histories
    reader.forget_deleted()
    assert not evictor.scan_and_evict()
    assert MIB <= evictor.usage_bytes <= MIB + 12288


def test_what_the_kernel_reads_stays(tmp_path: Path) -> None:
    """Deleting it would free nothing; it may be evicted when the kernel has let it go."""
    holder = Holdings(folder_at(tmp_path))
    for number in range(3):
        add_content(tmp_path, f"aa{number}", MIB, used=1000 + number)
    [data] = tmp_path.rglob(f"aa0/{DATA}")
    holder.publish([Held(data.stat().st_ino, MIB, "aa0", is_read_by_kernel=True)])
    evictor = Evictor(tmp_path, limit_bytes=int(1.5 * MIB), metrics=Metrics())
    assert evictor.scan_and_evict()
    assert names(tmp_path) == ["aa0"]
    holder.publish([])
    assert os.listdir(tmp_path / FORMAT / ".held")
    assert Evictor(tmp_path, limit_bytes=MIB // 2, metrics=Metrics()).scan_and_evict()
    assert names(tmp_path) == []


def test_what_does_not_change_is_not_written_again(tmp_path: Path) -> None:
    """A disk may sleep while nothing is opened, deleted or written."""
    holdings = Holdings(folder_at(tmp_path))
    holdings.publish([Held(7, 4096, "aa11")])
    [path] = (tmp_path / FORMAT / ".held").iterdir()
    os.utime(path, (1000, 1000))
    holdings.publish([Held(7, 4096, "aa11")])
    assert path.stat().st_mtime == 1000
    holdings.publish([Held(7, 8192, "aa11")])
    assert path.stat().st_mtime > 1000


def test_a_process_that_looks_for_dead_ones_deletes_no_new_file(tmp_path: Path) -> None:
    """However often others look, what has just begun to hold something is seen from then on."""
    directory, has_ended = folder_at(tmp_path), threading.Event()

    def look() -> None:
        while not has_ended.is_set():
            all_held(directory)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(100):
            holdings = Holdings(directory)
            holdings.publish([Held(7, 4096, "aa11")])
            assert holdings.descriptor is not None
            assert os.fstat(holdings.descriptor).st_nlink == 1
            del holdings
    finally:
        has_ended.set()
        looking.join()
