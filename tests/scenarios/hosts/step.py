"""A control group, in which a batch system keeps what a job's step starts, and by which it ends and suspends that.

It is what proctrack/cgroup of Slurm does: whatever a process becomes (a daemon, another session), it stays in it.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import until


@contextmanager
def hierarchy(folder: Path) -> Iterator[Path]:
    """Control groups, version 2, mounted on a folder: they are there beside those of version 1, too: cgroups(7)."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class Step:
    """A step's group, while entered. At its end nothing of it runs any more."""

    def __init__(self, hierarchy: Path, name: str) -> None:
        self._folder = hierarchy / f"vbnfs-{os.getpid()}-{name}"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.suspend(False)
        self.end()
        self._folder.rmdir()

    def command(self, *command: str | Path) -> list[str]:
        """A program as it is started in the step."""
        join = 'echo $$ >"$0" && exec "$@"'
        return ["sh", "-c", join, str(self._folder / "cgroup.procs"), *map(str, command)]

    def run(self, *command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of the step to its end."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, check=False, timeout=120, **more
        )

    def processes(self) -> Sequence[int]:
        """Those that run in it; what has ended and was not waited for is not among them."""
        return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of them, as slurmstepd does."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def suspend(self, is_suspended: bool) -> None:
        """Stop all of them, or have them go on: `scontrol suspend`."""
        (self._folder / "cgroup.freeze").write_text("1" if is_suspended else "0")
        wanted = f"frozen {int(is_suspended)}"
        until(lambda: wanted in (self._folder / "cgroup.events").read_text())

    def end(self) -> None:
        """Kill whatever is left, until nothing is: a process that cannot be killed is a failure."""

        def is_empty() -> bool:
            self.signal(signal.SIGKILL)
            return "populated 0" in (self._folder / "cgroup.events").read_text()

        until(is_empty)
