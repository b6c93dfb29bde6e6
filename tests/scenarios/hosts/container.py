"""A mount namespace with a volume, made as runtimes of containers make one for `-v HOST:INSIDE:PROPAGATION`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SETUP = r"""
set -eu
[ "$3" = rshared ] || mount --make-rslave /
# Other tests' mounts are not held here: their daemons would not end.
findmnt --raw --noheadings --types fuse.vbnfs --output TARGET | grep --invert-match --fixed-strings "$1" |
    xargs --no-run-if-empty --delimiter '\n' umount --lazy --no-canonicalize 2>/dev/null || :
mount --rbind "$1" "$2"
mount "--make-$3" "$2"
echo ready
exec cat
"""
_TIMEOUT_SECONDS = 60


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """A folder whose mounts are passed on to other namespaces, as all are below a systemd's /."""
    folder.mkdir()
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-private", folder], check=True)
    subprocess.run(["mount", "--make-shared", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Container:
    """The namespace, while entered. `propagation` as docker and podman have it: rprivate, rslave or rshared."""

    def __init__(self, host: Path, inside: Path, propagation: str) -> None:
        self._arguments = [str(host), str(inside), propagation]
        inside.mkdir()

    def __enter__(self) -> Self:
        command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _SETUP, "sh", *self._arguments]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holder.communicate()

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._holder.pid

    def command(self, *command: str | Path) -> list[str]:
        """A program as it is started in it."""
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--", *map(str, command)]

    def run(self, *command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end."""
        done = self.command(*command)
        return subprocess.run(done, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS, **more)
