"""A whole cached file that the kernel reads by itself, beside the same bytes on the local disk.

python -m benchmarks.passthrough [OPTIONS]

    --mib N     the file's size, 512 by default
    --turns N   how often each is measured, in turns, 9 by default; the figures are medians, and that of the ratios
    --daemon    the mount with --passthrough no, for comparison
    --first     the first sequential reading after mounting anew instead, beside --passthrough no

Needs root. Everything is below a temporary folder of /var/tmp, on one disk. A program of its own reads: with warm
pages, and with pages that were dropped before, of the cache's file and the local one.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.place import Place, origin
from tests.fakes.cache_files import content_folders
from vbnfs.cache.content_folder import DATA

READS: Final = """
import mmap, os, random, sys, time
work, path = sys.argv[1:]
file = os.open(path, os.O_RDONLY)
size = os.fstat(file).st_size
buffer = bytearray(1 << 20)
order = random.Random(1)
offsets = [order.randrange(size >> 12) << 12 for _ in range(200_000)]
begun = time.perf_counter()
if work == "sequential":
    count = 0
    while got := os.readv(file, [buffer]):
        count += got
elif work == "random 4 KiB":
    small = [memoryview(buffer)[:4096]]
    for offset in offsets:
        os.preadv(file, small, offset)
    count = len(offsets)
elif work == "16 processes":
    children = []
    while len(children) < 16 and (child := os.fork()):
        children.append(child)
    if len(children) < 16:
        offset = size // 16 * len(children)
        while got := os.preadv(file, [buffer], offset):
            offset += got
        offset = 0
        while offset < size // 16 * len(children):
            offset += os.preadv(file, [buffer], offset)
        os._exit(0)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    count = 16 * size
else:
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
        view = memoryview(mapped)
        count = sum(len(bytes(view[start : start + (1 << 20)])) for start in range(0, size, 1 << 20))
        view.release()
print(count / (time.perf_counter() - begun))
"""
WORKS: Final = ("sequential", "random 4 KiB", "mmap", "16 processes")
_CHECK_SECONDS: Final = 120.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--daemon", action="store_true")
    parser.add_argument("--first", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vbnfs-passthrough-", dir="/var/tmp") as name:
        place = Place(Path(name), ["--passthrough", "no"] if wanted.daemon else [])
        place.make_files(count=1, file_bytes=wanted.mib << 20, seed=1)
        with origin(place) as (place.endpoint_url, _):
            try:
                place.mount()
                if wanted.first:
                    measure_first(place, turns=wanted.turns)
                else:
                    measure(place, turns=wanted.turns, is_passed=not wanted.daemon)
            finally:
                place.clear()


def measure(place: Place, *, turns: int, is_passed: bool) -> None:
    """The table: how fast the mount and the local file are, and what part of the local speed the mount has."""
    (plain,) = place.plain.rglob("*.nwb")
    mounted, local = place.mountpoint(0) / plain.relative_to(place.plain), place.path / "local"
    shutil.copyfile(plain, local)  # what the server has mapped would stay in memory
    begun = time.monotonic()
    read("sequential", mounted)
    while is_passed and os.getxattr(mounted, "user.vbnfs.read_by") != b"kernel":
        if time.monotonic() - begun > _CHECK_SECONDS:
            raise RuntimeError("it is not passed through: " + os.getxattr(mounted, "user.vbnfs.read_by").decode())
        time.sleep(0.2)
    before = place.status()["metrics"]["read_requests"]
    for is_warm in (True, False):
        for work in WORKS:
            found: dict[Path, list[float]] = {mounted: [], local: []}
            for path in [mounted, local] * (turns + 1):
                if not is_warm:
                    drop(place, local, mounted)
                found[path].append(read(work, path))
            show(f"{work:<13} {'warm' if is_warm else 'dropped':<8}", found[mounted][1:], found[local][1:])
    print("reads that reached the daemon:", place.status()["metrics"]["read_requests"] - before)


def measure_first(place: Place, *, turns: int) -> None:
    """How fast the first program reads a whole file after mounting anew, while it is being checked, and without."""
    (plain,) = place.plain.rglob("*.nwb")
    mounted = place.mountpoint(0) / plain.relative_to(place.plain)
    read("sequential", mounted)
    found: dict[str, list[float]] = {"yes": [], "no": []}
    for is_passed in ["yes", "no"] * (turns + 1):
        place.umount()
        place.options = ["--passthrough", is_passed]
        place.mount()
        found[is_passed].append(read("sequential", mounted))
    show("first reading", found["yes"][1:], found["no"][1:])


def show(what: str, ours: list[float], theirs: list[float]) -> None:
    """A line of the table."""
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    mount, other = statistics.median(ours), statistics.median(theirs)
    print(f"{what} {mount:>18,.0f} {other:>18,.0f} {ratio:>6.2f}", flush=True)


def read(work: str, path: Path) -> float:
    """Bytes a second, or reads a second where they are small."""
    done = subprocess.run([sys.executable, "-S", "-c", READS, work, path], capture_output=True, text=True, check=True)
    return float(done.stdout)


def drop(place: Place, local: Path, mounted: Path) -> None:
    """Have no page of either file in memory, under any of its names."""
    for path in (local, mounted, *(folder / DATA for folder in content_folders(place.cache))):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
