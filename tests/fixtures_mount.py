"""Real mounts for tests: `vbnfs mount` in a process of its own, as a user would run it, or a folder to mount on."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.launcher import Launcher, can_run
from tests.waiting import until  # noqa: F401 - tests with mounts import it from here
from vbnfs.host.mount_programs import detach
from vbnfs.host.mountinfo import find_mount

# What speaks to the kernel for a mount. All that a mount shows is the same with either.
ENGINES = ("native", pytest.param("pyfuse3", marks=pytest.mark.slow))
_TIMEOUT_SECONDS = 120
# Commands that import pandas, which a mount is not to have in memory.
_ON_TABLES = {"sessions", "probes", "units", "tables"}
_OF_TABLES = ("vbnfs.cli.find",)


def run_vbnfs(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line. The caller checks the exit status."""
    environment, words = {**os.environ, **(env or {})}, list(map(str, arguments))
    if can_run(environment):
        more = _OF_TABLES if words[:1] and words[0] in _ON_TABLES else ()
        return _launcher(*more).run(words, env=environment, timeout_seconds=_TIMEOUT_SECONDS)
    return subprocess.run(
        [sys.executable, "-m", "vbnfs", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def without_address(printed: str) -> str:
    """What a command says of its failure, without the line that names the section of docs/troubleshooting.md."""
    return "".join(line for line in printed.splitlines(keepends=True) if "vbnfs: see " not in line)


@cache
def _launcher(*more: str) -> Launcher:
    launcher = Launcher(*more)
    atexit.register(launcher.close)
    return launcher


@dataclass
class Mount:
    """A mount: `path` is its mount point."""

    path: Path
    options: list[str]
    is_mounted: bool = False
    warnings: str = ""

    def mount(self) -> "Mount":
        """Mount (again), with the options that it was made with."""
        with suppress(FileExistsError):  # perhaps a dead mount, which is not to be touched
            os.mkdir(self.path)  # noqa: PTH102 - Path.mkdir would stat it
        done = run_vbnfs("mount", *self.options, self.path)
        assert done.returncode == 0, done.stderr
        self.is_mounted, self.warnings = True, done.stderr
        return self

    def umount(self) -> None:
        """Unmount, and wait until the daemon has ended."""
        done = run_vbnfs("umount", self.path)
        assert done.returncode == 0, done.stderr
        self.is_mounted = False

    def status(self) -> dict[str, Any]:
        """What `vbnfs status --json` says."""
        done = run_vbnfs("status", "--json", self.path)
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def requests(self) -> dict[str, int]:
        """The counts of requests to S3 since mounting, by kind."""
        return {name: count for name, count in self.status()["metrics"].items() if name.endswith("_requests")}

    def range_requests(self) -> int:
        """How many ranges of data files were asked for since mounting."""
        return self.requests()["range_requests"]


@dataclass
class Mounts:
    """Makes mounts below a folder, and takes away those that a test leaves."""

    directory: Path
    made: list[Mount] = field(default_factory=list)

    def __call__(self, endpoint_url: str, *options: str | Path, name: str = "mnt") -> Mount:
        """Mount what `endpoint_url` serves on the folder `name`."""
        new = Mount(self.directory / name, ["--endpoint-url", endpoint_url, *map(str, options)])
        self.made.append(new)
        return new.mount()

    def end(self) -> None:
        """Take everything away."""
        for one in self.made:
            if find_mount(one.path) is not None:  # a dead one, too
                subprocess.run(["umount" if os.geteuid() == 0 else "fusermount3", *_lazily(), one.path], check=True)


def drop_pages(path: Path) -> None:
    """Have the kernel forget the pages of a file that no process has mapped, as it does when memory is short."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _lazily() -> list[str]:
    return ["--lazy"] if os.geteuid() == 0 else ["-u", "-z"]


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    """Makes mounts that share the cache directory of the test."""
    factory = Mounts(tmp_path)
    yield factory
    factory.end()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of all mounts of a test, by its name."""
    name: str = request.param
    monkeypatch.setenv("VBNFS_FUSE", name)
    return name


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on in the test's own process; whatever a test leaves there is taken away."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    while find_mount(path) is not None:
        detach(path, lazy=True)
