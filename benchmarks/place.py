"""A place to try a mount in: plain files, a server of them in a process of its own, mounts, and processes.

PLACE/plain/...     the files as they are
PLACE/unread/...    those of them that no reader reads
PLACE/cache         the mounts' cache
PLACE/mnt0, ...     mount points
PLACE/log           the daemons' log
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.reader import Outcome

SESSIONS: Final = "ecephys_sessions"
_MIB: Final = 1 << 20
_END_SECONDS: Final = 30.0
_READER_SECONDS: Final = 60.0  # a read takes less than --io-timeout, or it is a stall


@dataclass
class Place:
    """A folder with plain files, what serves them, and what mounts them."""

    path: Path
    options: list[str] = field(default_factory=list)
    endpoint_url: str = ""

    @property
    def plain(self) -> Path:
        """The files as they are."""
        return self.path / "plain"

    @property
    def cache(self) -> Path:
        """The cache that all mounts share."""
        return self.path / "cache"

    def mountpoint(self, number: int) -> Path:
        """Where mount `number` is."""
        return self.path / f"mnt{number}"

    @property
    def unread(self) -> Path:
        """Files that are served, too, and that the readers do not read."""
        return self.path / "unread"

    def set_apart(self, count: int) -> None:
        """Move the last files from `plain` to `unread`, once they are served."""
        self.unread.mkdir()
        files = sorted((self.plain / SESSIONS).iterdir(), key=lambda path: int(path.stem.rpartition("_")[2]))
        for path in files[-count:]:
            path.rename(self.unread / path.name)

    def make_files(self, *, count: int, file_bytes: int, seed: int, first: int = 0) -> None:
        """Fill `plain` with noise: files with numbers from `first` on."""
        folder = self.plain / SESSIONS
        folder.mkdir(parents=True, exist_ok=True)
        chance = random.Random(seed)
        for number in range(first, first + count):
            length = file_bytes + chance.randrange(-file_bytes // 4, file_bytes // 4)
            with (folder / f"ecephys_session_{number}.nwb").open("wb") as file:
                for start in range(0, length, _MIB):
                    file.write(chance.randbytes(min(_MIB, length - start)))

    def mount(self, number: int = 0) -> float:
        """Mount; the seconds until the files can be listed."""
        with suppress(FileExistsError):  # perhaps a dead mount, which is not to be touched
            os.mkdir(self.mountpoint(number))  # noqa: PTH102
        begun = time.monotonic()
        settings = ["--endpoint-url", self.endpoint_url, "--cache-dir", self.cache, "--log-file", self.path / "log"]
        self._vbnfs("mount", *settings, *self.options, self.mountpoint(number))
        return time.monotonic() - begun

    def umount(self, number: int = 0) -> None:
        """Unmount, also while programs use it; returns when the daemon has ended."""
        daemon = os.pidfd_open(self.status(number)["pid"])
        try:
            self._vbnfs("umount", "--lazy", self.mountpoint(number))
            with suppress(ProcessLookupError):  # no program used the mount: it has ended by itself
                signal.pidfd_send_signal(daemon, signal.SIGTERM)
            wait_for_end(daemon)
        finally:
            os.close(daemon)

    def status(self, number: int = 0) -> dict[str, Any]:
        """What `vbnfs status --json` says."""
        status: dict[str, Any] = json.loads(self._vbnfs("status", "--json", self.mountpoint(number)))
        return status

    def reasons(self) -> Counter[str]:
        """Why reads failed, from the daemons' log; one line for many equal ones."""
        found: Counter[str] = Counter()
        with suppress(FileNotFoundError), (self.path / "log").open() as file:
            for line in file:
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") == "request failed":
                    found[event["reason"]] += 1
        return found

    def clear(self) -> None:
        """Take all mounts away, dead ones as well. Daemons have ended, and write no more, when this returns."""
        for path in self.path.glob("mnt*"):
            with suppress(RuntimeError, ProcessLookupError):  # dead, or not mounted
                self.umount(int(path.name.removeprefix("mnt")))
            command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            while subprocess.run([*command, path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                pass

    def _vbnfs(self, *arguments: str | Path) -> str:
        command = [sys.executable, "-m", "vbnfs", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout


@contextmanager
def reading(place: Place, readers: Mapping[int, int], *, seed: int, outcome: Outcome) -> Iterator[None]:
    """Programs that read while entered: so many (values) on each mount (keys). At the end `outcome` is theirs."""
    processes = []
    for mount, count in readers.items():
        for number in range(count):
            arguments = [place.mountpoint(mount), place.plain, str(seed * 1000 + mount * 100 + number)]
            command = [sys.executable, "-m", "benchmarks.reader", *map(str, arguments)]
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        yield
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()  # all at once: the last one must not read on while the first is waited for
                process.stdin = None
        for process in processes:
            output, _ = process.communicate(timeout=_READER_SECONDS)
            outcome.add(json.loads(output))
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def origin(place: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`benchmarks.origin` in a process of its own: its URL, and the process."""
    command = [sys.executable, "-m", "benchmarks.origin", str(place.path), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def wait_for_end(process: int) -> None:
    """Until a process (a pidfd) has ended."""
    if not select.select([process], [], [], _END_SECONDS)[0]:
        raise RuntimeError("a daemon does not end")
