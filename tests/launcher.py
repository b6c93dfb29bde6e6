"""`vbnfs` run many times: each run is a process of its own, forked from one that has imported all commands.

Imports are most of what a short command costs. The launcher is one process for a session of pytest: it imports what
the commands import, and waits. For each run it forks, and the child takes over arguments, environment, folder, umask
and the three standard files. From its first line on a command does the same as after `python -m vbnfs`. Tests of how
a process starts (standard files, locale, signals, limits) start Python themselves.
"""

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from vbnfs.startup import without_rich

_REPOSITORY: Final = Path(__file__).parents[1]
_MAX_MESSAGE_BYTES: Final = 128 << 10
_IMPORTED: Final = (
    *("vbnfs.cli.main", "vbnfs.cli.mounting", "vbnfs.cli.releases", "vbnfs.cli.upkeep", "vbnfs.cli.installing"),
    "vbnfs.cli.finding",
    *("vbnfs.access.running_mounts", "vbnfs.daemon.background"),
)
# What Python reads before its first line: a run that changes one of these starts Python anew.
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")


class Launcher:
    """Starts runs of `vbnfs`, from any thread, with `more` modules imported than all commands need."""

    def __init__(self, *more: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.launcher", str(theirs.fileno()), *more],
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # as those of runs: Python remembers that it cannot seek there
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], timeout_seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `vbnfs` to its end, with no standard input. Raises `subprocess.TimeoutExpired` after killing it."""
        umask = os.umask(0o077)
        os.umask(umask)
        question = {"arguments": arguments, "env": dict(env), "folder": os.getcwd(), "umask": umask}  # noqa: PTH109
        (out, its_out), (err, its_err), (reply, its_reply) = os.pipe(), os.pipe(), os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(question).encode()], [its_out, its_err, its_reply])
        for descriptor in (its_out, its_err, its_reply):
            os.close(descriptor)
        output = _read_all((out, err, reply), seconds=timeout_seconds)
        pid, _, status = output[reply].partition(b" ")
        if not status:
            os.kill(int(pid), signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout_seconds)
        text = [output[descriptor].decode().replace("\r\n", "\n") for descriptor in (out, err)]
        return subprocess.CompletedProcess(list(arguments), int(status), *text)

    def close(self) -> None:
        """End the launcher, but nothing that it has started."""
        self._socket.close()
        output = self._process.communicate(timeout=60)
        assert output == (b"", b""), output


def can_run(env: Mapping[str, str]) -> bool:
    """Whether a run with this environment differs in nothing that Python reads before its first line."""
    different = {name for name in env.keys() | os.environ.keys() if env.get(name) != os.environ.get(name)}
    return not any(name.startswith(_READ_AT_START) for name in different)


def _read_all(descriptors: Sequence[int], *, seconds: float) -> dict[int, bytes]:
    """What comes from pipes until all of them have ended, or until the time is over. Closes them."""
    output = dict.fromkeys(descriptors, b"")
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 1 << 16)
                output[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
    for descriptor in descriptors:
        os.close(descriptor)
    return output


# The launcher's own process


class _Run(NamedTuple):
    """What a child is to become."""

    arguments: list[str]
    env: dict[str, str]
    folder: str
    umask: int

    def become(self, out: int, err: int) -> None:
        """Take over what a process inherits."""
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.environ.clear()
        os.environ.update(self.env)
        os.chdir(self.folder)
        os.umask(self.umask)
        sys.argv[1:] = self.arguments


def _wait_for_a_run(asked: socket.socket) -> bool:
    """Start runs until the asker has gone: False. In the process of a run: True, when it has become that."""
    selector = selectors.DefaultSelector()
    selector.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not asked:
                _report(key, selector)
                continue
            message, descriptors, _, _ = socket.recv_fds(asked, _MAX_MESSAGE_BYTES, 3)
            if not message:
                return False
            out, err, reply = descriptors
            pid = os.fork()
            if pid == 0:
                _Run(**json.loads(message)).become(out, err)
                _close_all(asked, selector, descriptors)
                return True
            os.close(out)
            os.close(err)
            os.write(reply, b"%d " % pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, reply))


def _report(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    """A run has ended: write its status."""
    pid, reply = key.data
    _, status = os.waitpid(pid, 0)
    os.write(reply, b"%d" % os.waitstatus_to_exitcode(status))
    os.close(reply)
    selector.unregister(key.fd)
    os.close(key.fd)


def _close_all(asked: socket.socket, selector: selectors.BaseSelector, descriptors: Sequence[int]) -> None:
    for key in selector.get_map().values():
        if key.fileobj is not asked:
            os.close(key.data[1])
            os.close(key.fd)
    selector.close()
    asked.close()
    for descriptor in descriptors:
        os.close(descriptor)


def _serve() -> None:
    with without_rich():
        modules = [import_module(name) for name in (*_IMPORTED, *sys.argv[2:])]
    gc.freeze()
    if _wait_for_a_run(socket.socket(fileno=int(sys.argv[1]))):
        modules[0].main()


if __name__ == "__main__":
    _serve()
