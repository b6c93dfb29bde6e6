"""What a system can be asked to do, whatever it is.

A system is made for one site (an origin's listener and the files behind it) and a folder for its cache. `start` and
`stop` may be called again and again; `forget` empties its cache while it is stopped.
"""

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.speed import machine
from benchmarks.speed.files import BUCKET, PROJECT, Files
from benchmarks.speed.origin import TLS, Listener
from benchmarks.speed.systems.programs import cat, output_of

ROOT: Final = Path(__file__).parents[3]
BENCH_BIN: Final = ROOT / ".venv-bench" / "bin"
BENCH_PYTHON: Final = BENCH_BIN / "python"
READERS_PYTHON: Final = ROOT / ".venv-readers" / "bin" / "python"
ALLENSDK_PYTHON: Final = ROOT / ".venv-allensdk" / "bin" / "python"
_MOUNT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where the files are: `ca` is trusted over TLS; `connections` is what every system may use at the most."""

    files: Files
    listener: Listener
    ca: Path
    connections: int

    def url(self, name: str) -> str:
        """The address of a file, by its path in the project."""
        return f"{self.listener.url}/{BUCKET}/{PROJECT}/{name}"

    @property
    def is_tls(self) -> bool:
        """Whether the listener speaks TLS."""
        return self.listener.transport == TLS

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment with the certificate to trust, under all names that programs have for it."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
        return {**os.environ, **{name: str(self.ca) for name in names if self.is_tls}}


class System(ABC):
    """A way to get at the files. `is_mount`: files are read by their paths; `has_cache`: a second run finds them."""

    is_mount: ClassVar[bool] = False
    has_cache: ClassVar[bool] = False
    python: ClassVar[Path] = BENCH_PYTHON  # what runs reader.py

    def __init__(self, name: str, site: Site, directory: Path) -> None:
        self.name = name
        self.site = site
        self.directory = directory

    def start(self) -> None:
        """Be ready to read."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:  # noqa: B027 - most have nothing to end
        """End what was started; a cache stays."""

    def settle(self) -> None:  # noqa: B027 - most have written it by then
        """Return when what was read is kept, so that a restart finds it."""

    def forget(self) -> None:
        """Empty the cache."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self) -> Sequence[int]:
        """The processes that work for it."""
        return ()

    def processor_seconds(self) -> float:
        """User and system time so far of all that works for it; 0 where it is not known."""
        return 0.0

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program that reads is started with."""
        return self.site.environment

    @abstractmethod
    def location(self, name: str) -> str:
        """What reader.py and analyses.py are given to open a file."""

    @abstractmethod
    def read_whole(self, name: str) -> float:
        """Read a file from one end to the other; the seconds that it took."""

    @abstractmethod
    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """Read the first bytes of files at once, each with a program of its own; how long each took, in seconds."""

    def digest(self, name: str) -> str | None:
        """BLAKE2b (RFC 7693, 64 bytes, hexadecimal) of a file as it comes; None for a limit that has no files."""
        return output_of(["b2sum", self.location(name)]).split()[0]

    def cache_files(self) -> Iterable[Path]:
        """The files of the cache."""
        return (path for path in self.directory.rglob("*") if path.is_file() and not path.is_symlink())


class FuseSystem(System):
    """A mount that a program makes which stays in the foreground."""

    is_mount = True
    has_cache = True
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def mountpoint(self) -> Path:
        """Where it is mounted: beside its folder."""
        return self.directory.with_name(self.directory.name + "-mnt")

    @abstractmethod
    def command(self) -> list[str]:
        """The program that mounts on `mountpoint`, and keeps its cache in `directory`."""

    def top(self) -> Path:
        """The project's folder in the mount."""
        return self.mountpoint

    def start(self) -> None:
        """Mount; returns when it is mounted."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} is mounted already")
        super().start()
        self.mountpoint.mkdir(exist_ok=True)
        with (self.directory.with_name(self.directory.name + ".log")).open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=self.site.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its processes are known by it: machine.family
            )
        wait_for(self._is_mounted, f"{self.name} did not mount; see {log.name}")

    def stop(self) -> None:
        """Unmount, and wait until the program has ended."""
        if self._process is None:
            return
        if is_mounted(self.mountpoint):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mountpoint)], check=True)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def pids(self) -> Sequence[int]:
        """The program, its helpers, and theirs."""
        return () if self._process is None else machine.family(self._process.pid)

    def processor_seconds(self) -> float:
        """Of the daemon and of all its helpers, those that have ended among them."""
        return machine.processor_seconds(self.pids())

    def location(self, name: str) -> str:
        """A path."""
        return str(self.top() / name)

    def read_whole(self, name: str) -> float:
        """`cat`."""
        return cat([self.location(name)])[0]

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """`head -c`."""
        return cat([self.location(name) for name in names], bytes_each=bytes_each)

    def _is_mounted(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with status {self._process.returncode}; see {self.directory}.log")
        return is_mounted(self.mountpoint)


def wait_for(condition: Callable[[], bool], message: str) -> None:
    """Ask again and again until it is true."""
    deadline = time.monotonic() + _MOUNT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(message)
        time.sleep(0.002)


def is_mounted(path: Path) -> bool:
    """Whether something is mounted on `path`; the mount is not touched (proc_pid_mountinfo(5))."""
    mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    return any(line.split(" ")[4] == str(path) for line in mounts)
