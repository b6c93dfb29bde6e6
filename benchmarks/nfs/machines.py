"""Machines, each a kernel of its own: started, asked to run commands, and killed.

The kernel is user-mode Linux, which is a process of this host: it needs no virtualization, and boots in two seconds.
Its memory, pages, locks, NFS client and NFS server are its own; its root folder is this host's, read-only (hostfs).
All of them are at one bridge, in the network namespace of this process, which has to be one of its own.
"""

import itertools
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vbnfs.host.keepalive import keepalive_options

HOST: Final = ip_interface("10.78.0.1/24")  # this process, as machines have it
KERNEL: Final = "linux.uml"
_REPOSITORY: Final = Path(__file__).parents[2]
_KEPT: Final = (sys.base_prefix, str(_REPOSITORY), sys.prefix)
_TEMPORARY: Final = "/tmp"
_AGENT_PORT: Final = 7000
_BOOT_SECONDS: Final = 120.0
_SILENT_SECONDS: Final = 30.0
_MEMORY: Final = "256M"
# A process id namespace for each: what a kernel has started ends with it.
_WITHIN: Final = ("unshare", "--pid", "--fork", "--kill-child")


class SilentMachineError(Exception):
    """A machine that was not killed does not answer."""


@dataclass(frozen=True)
class Answer:
    """What became of a command; `status` is -1 where it took too long."""

    status: int
    output: str


def make_bridge(count: int) -> None:
    """Have so many ports for machines, in a network namespace that is empty. Needs root."""
    lines = ["link set lo up", "link add br0 type bridge", f"addr add {HOST} dev br0", "link set br0 up"]
    for number in range(1, count + 1):
        lines += [f"tuntap add {_port(number)} mode tap", f"link set {_port(number)} master br0 up"]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


@contextmanager
def slow_way_to(machine: "Machine", megabits: int) -> Iterator[None]:
    """While entered, what goes to a machine passes a link of so many Mbit/s (tc-tbf(8))."""
    device = ("dev", _port(machine.number), "root")
    shape = ("tbf", "rate", f"{megabits}mbit", "burst", "256kb", "latency", "500ms")
    subprocess.run(["tc", "qdisc", "add", *device, *shape], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", *device], check=True)


@dataclass
class Machine:
    """The machine at a port of the bridge, while entered. `disk` is a file, which is kept when it is killed."""

    name: str
    number: int
    work: Path
    disk: Path | None = None
    _process: subprocess.Popen[bytes] | None = None
    _links: set[socket.socket] = field(default_factory=set)  # to its agent, now

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """In the bridge's network."""
        return str(HOST.ip + self.number)

    def start(self) -> None:
        """Boot it, and wait until it runs commands. Raises `RuntimeError` with the end of its console."""
        console = self.work / f"{self.name}.console"
        with socket.create_server((str(HOST.ip), 0)) as ready, console.open("ab") as output:
            command = [*_WITHIN, *self._command(ready.getsockname()[1])]
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            ended = os.pidfd_open(process.pid)
            try:
                is_ready = ready in select.select([ready, ended], [], [], _BOOT_SECONDS)[0]
                if is_ready:
                    ready.accept()[0].close()
            finally:
                os.close(ended)
        if not is_ready:
            raise RuntimeError(f"machine {self.name} does not boot: {console.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """As if its power went."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            for link in list(self._links):  # it says nothing any more, not even that they are broken
                with suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed since."""
        return self._process is not None

    def ask(self, *command: str, user: str = "root", seconds: float = 120.0) -> Answer:
        """Run a command in it.

        Raises `ConnectionError` where it was killed meanwhile, `SilentMachineError` where its kernel says nothing.
        """
        text = json.dumps({"command": command, "user": user, "seconds": seconds})
        try:
            line = self._answer_to(text.encode(), seconds + 10)
            if not line:
                raise ConnectionError(f"machine {self.name} does not answer")
        except OSError as error:
            if self.is_running:
                raise SilentMachineError(f"machine {self.name} does not answer any more: {error}") from error
            raise
        return Answer(**json.loads(line))

    def _answer_to(self, text: bytes, seconds: float) -> bytes:
        """What its agent answers. Raises `OSError`, soon where its kernel does not even say that it is there."""
        with socket.create_connection((self.address, _AGENT_PORT), timeout=_SILENT_SECONDS) as link:
            for option in keepalive_options(_SILENT_SECONDS):
                link.setsockopt(*option)
            link.settimeout(seconds)
            self._links.add(link)
            try:
                link.sendall(text + b"\n")
                with link.makefile("rb") as reply:
                    return reply.readline()
            finally:
                self._links.discard(link)

    def run(self, *command: str, user: str = "root", seconds: float = 120.0) -> str:
        """Run a command that has to succeed; its output."""
        answer = self.ask(*command, user=user, seconds=seconds)
        assert answer.status == 0, f"{self.name}: {' '.join(command)}: {answer.status}: {answer.output}"
        return answer.output

    def _command(self, ready: int) -> list[str]:
        """A kernel's command line: words that it does not know are variables of its first process."""
        words = {
            "mem": _MEMORY,
            "uml_dir": f"{self.work}/",
            "rootfstype": "hostfs",
            "rootflags": "/",
            "init": Path(__file__).with_name("machine.sh"),
            "con": "null",
            "con0": "null,fd:1",
            "ssl": "null",
            "panic": "-1",
            "MACHINE": self.name,
            "ADDRESS": f"{self.address}/{HOST.network.prefixlen}",
            "READY": f"{HOST.ip}:{ready}",
            "PYTHON": sys.executable,
            "AGENT": Path(__file__).with_name("agent.py"),
            "KEPT": ":".join(_KEPT),
            "HIDDEN": ":".join(_hidden()),
        }
        device = f"vec0:transport=tap,ifname={_port(self.number)},depth=128,gro=1"
        disk = [] if self.disk is None else [f"ubd0={self.disk}"]
        return [
            KERNEL,
            "ro",
            "quiet",
            "noreboot",
            device,
            *disk,
            *(f"{name}={value}" for name, value in words.items()),
        ]


def _port(number: int) -> str:
    return f"port{number}"


def _hidden() -> set[str]:
    """Folders that keep other users from what is kept, the outermost of each; and the one for temporary files."""
    found = {_TEMPORARY}
    for kept in map(Path, _KEPT):
        if not kept.is_relative_to(_TEMPORARY):
            closed = (str(one) for one in reversed(kept.parents) if not one.stat().st_mode & stat.S_IXOTH)
            found.update(itertools.islice(closed, 1))
    return found
