"""Virtual machines, each a process of QEMU: started, asked to run commands, and killed."""

import json
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.nfs.image import Image

AGENT_PORT: Final = 7000  # in the machine
NFS_PORT: Final = 2049
HOST: Final = "10.0.2.2"  # this host, as QEMU's user network has it
_BOOT_SECONDS: Final = 600.0  # without KVM it takes a minute
_MEMORY_MIB: Final = 768


@dataclass(frozen=True)
class Answer:
    """What became of a command; `status` is -1 where it took too long."""

    status: int
    output: str


def free_port() -> int:
    """A port of this machine that no process listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Machine:
    """A machine, while entered. `disk` is one of its own, kept when it is killed; `forwards` are ports of it."""

    name: str
    image: Image
    program: Path
    work: Path
    disk: Path | None = None
    has_kvm: bool = False
    forwards: dict[int, int] = field(default_factory=dict)  # from ports of this host
    _process: subprocess.Popen[bytes] | None = None
    _port: int = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Boot it, and wait until it runs commands."""
        self._port = free_port()
        forwards = {self._port: AGENT_PORT, **self.forwards}
        hosts = ",".join(f"hostfwd=tcp:127.0.0.1:{ours}-:{its}" for ours, its in forwards.items())
        disks = [f"file={self.image.root},snapshot=on", f"file={self.program},readonly=on"]
        disks += [] if self.disk is None else [f"file={self.disk},cache=writeback"]
        command = ["qemu-system-x86_64", "-m", str(_MEMORY_MIB), "-smp", "1", "-nographic", "-no-reboot"]
        command += (
            ["-cpu", "host", "-accel", "kvm"] if self.has_kvm else ["-cpu", "max", "-accel", "tcg,thread=multi"]
        )
        command += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        command += ["-append", f"root=/dev/vda rw console=ttyS0 net.ifnames=0 init=/sbin/machine machine={self.name}"]
        for disk in disks:
            command += ["-drive", f"{disk},format=raw,if=virtio"]
        command += ["-netdev", f"user,id=net,{hosts}", "-device", "virtio-net-pci,netdev=net"]
        with (self.work / f"{self.name}.console").open("ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self._wait_until_it_answers()

    def kill(self) -> None:
        """As if its power went."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed since."""
        return self._process is not None

    def ask(self, *command: str, user: int = 0, seconds: float = 120.0) -> Answer:
        """Run a command in it. Raises `OSError` where it does not answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=seconds + 30) as link:
            text = json.dumps({"command": command, "user": user, "seconds": seconds})
            link.sendall(text.encode() + b"\n")
            with link.makefile("rb") as reply:
                line = reply.readline()
        if not line:
            raise ConnectionError(f"machine {self.name} does not answer")
        return Answer(**json.loads(line))

    def run(self, *command: str, user: int = 0, seconds: float = 120.0) -> str:
        """Run a command that has to succeed; its output."""
        answer = self.ask(*command, user=user, seconds=seconds)
        assert answer.status == 0, f"{self.name}: {' '.join(command)}: {answer.status}: {answer.output}"
        return answer.output

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + _BOOT_SECONDS
        while True:
            try:
                self.run("true", seconds=5.0)
            except (OSError, AssertionError):
                is_over = self._process is None or self._process.poll() is not None
                if is_over or time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                return
