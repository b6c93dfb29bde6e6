"""How fast `vbnfs prefetch` is beside a cold copy, and what readers of a mount have while it fetches for a command.

    python -m benchmarks.beforehand DIR [lan|near|home]

Four files of 200 MB of noise in DIR, which has to have room for 2 GB, from nginx on loopback (`speed/origin.py`).
Each measurement is on an empty cache, in turn: all files copied from a mount; `vbnfs prefetch` of all, with the rate
that it notes; reads of 4 KiB, each of another block, alone and while the mount fetches the three other files.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.speed.files import BUCKET, PROJECT, Files, stored
from benchmarks.speed.origin import PLAIN, Origin

_NAMES: Final = tuple(f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb" for n in range(4))
_FILE_BYTES: Final = 200 << 20
_BLOCK_BYTES: Final = 256 << 10
_ALONE_SECONDS: Final = 10.0
_ROUNDS: Final = 2


def make_files(directory: Path) -> Files:
    """The files, and a manifest of them with their hashes."""
    entries, objects = {}, []
    for number, name in enumerate(_NAMES):
        path, key = directory / name, f"{PROJECT}/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(number).randbytes(_FILE_BYTES))
        one = stored(key, path)
        objects.append(one)
        entries[str(number)] = {
            "url": f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{key}",
            "version_id": one.version_id,
            "file_hash": hashlib.blake2b(path.read_bytes()).hexdigest(),
        }
    manifest = directory / f"{PROJECT}_project_manifest_v0.5.0.json"
    head = {"project_name": PROJECT, "manifest_version": "0.5.0", "data_pipeline": [], "metadata_files": {}}
    manifest.write_text(json.dumps({**head, "metadata_file_id_column_name": "file_id", "data_files": entries}))
    return Files(directory, (*objects, stored(f"{PROJECT}/manifests/{manifest.name}", manifest)))


class Bench:
    """Runs vbnfs on an empty cache below `directory`."""

    def __init__(self, directory: Path, url: str) -> None:
        self.cache, self.mountpoint = directory / "cache", directory / "mnt"
        self._env = {
            **os.environ,
            "VBNFS_ENDPOINT_URL": url,
            "VBNFS_CACHE_DIR": str(self.cache),
            "VBNFS_CACHE_RESERVE": "0",
            "VBNFS_LOG_FILE": str(directory / "vbnfs.log"),
        }

    def start(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        """Begin a command."""
        command = [sys.executable, "-m", "vbnfs", *map(str, words)]
        return subprocess.Popen(command, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *words: str | Path) -> None:
        """A command, to its end."""
        if status := self.start(*words).wait():
            raise RuntimeError(f"vbnfs {' '.join(map(str, words))}: status {status}")

    def empty(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self.cache, ignore_errors=True)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """A mount on an empty cache."""
        self.empty()
        self.run("mount", self.mountpoint)
        try:
            yield self.mountpoint
        finally:
            self.run("umount", self.mountpoint)

    def measured_rate(self) -> float:
        """What the last fetch noted, in MB a second."""
        [path] = self.cache.glob("blocks-v2/*/.measured-rate")
        return int(path.read_text()) / 1e6


def copy_rate(bench: Bench) -> float:
    """MB a second, of all files one after the other, from a mount."""
    with bench.mounted() as top:
        began = time.monotonic()
        for name in _NAMES:
            with (top / name).open("rb") as file:
                while file.read(1 << 20):
                    pass
        return len(_NAMES) * _FILE_BYTES / (time.monotonic() - began) / 1e6


def prefetch_rate(bench: Bench) -> tuple[float, float]:
    """MB a second: of the fetch, and of the command as a whole, with hashing."""
    bench.empty()
    began = time.monotonic()
    bench.run("prefetch", "behavior_ecephys_sessions")
    return bench.measured_rate(), len(_NAMES) * _FILE_BYTES / (time.monotonic() - began) / 1e6


def read_times(path: Path, goes_on: Callable[[], bool]) -> list[float]:
    """Seconds that reads of 4 KiB take, each of a block that is not cached, sorted."""
    chance, found = random.Random(1), list[float]()
    starts = list(range(0, path.stat().st_size - _BLOCK_BYTES, _BLOCK_BYTES))
    chance.shuffle(starts)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for start in starts:
        if not goes_on():
            break
        began = time.monotonic()
        os.pread(descriptor, 4096, start)
        found.append(time.monotonic() - began)
    os.close(descriptor)
    return sorted(found)


def reads(bench: Bench, *, is_beside: bool) -> list[float]:
    """Times of reads in a mount, alone or while it fetches the other files for a command."""
    with bench.mounted() as top:
        end = time.monotonic() + _ALONE_SECONDS
        if not is_beside:
            return read_times(top / _NAMES[-1], lambda: time.monotonic() < end)
        fetching = bench.start("prefetch", *_NAMES[:-1])
        while not list(bench.cache.glob("blocks-v2/*/.measured-rate")):  # until it has begun
            time.sleep(0.05)
        found = read_times(top / _NAMES[-1], lambda: fetching.poll() is None)
        fetching.wait()
        return found


def shown(times: Sequence[float]) -> str:
    """In milliseconds."""
    p50, p99 = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
    return f"{len(times)} reads, p50 {p50:.0f} ms, p99 {p99:.0f} ms"


def main(directory: Path, profile: str) -> None:
    """Measure, and write a line for each measurement."""
    (directory / "origin").mkdir()
    with Origin(directory / "origin", make_files(directory / "files")) as origin:
        bench = Bench(directory, origin.listeners[profile, PLAIN].url)
        for _ in range(_ROUNDS):
            fetched, whole = prefetch_rate(bench)
            print(
                f"copy {copy_rate(bench):.0f} MB/s; prefetch {fetched:.0f} MB/s, {whole:.0f} with hashing", flush=True
            )
            print(f"alone   {shown(reads(bench, is_beside=False))}", flush=True)
            print(f"beside  {shown(reads(bench, is_beside=True))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "home")
