"""Real clients: each a mount on a host of its own, with a cache of its own, and a program that reads."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.network import Host
from benchmarks.speed.machine import family, memory_bytes, processor_seconds
from vbnfs.access.mount_status import ask_status
from vbnfs.host.mount_programs import detach
from vbnfs.host.mountinfo import find_mount

Pairs = Sequence[Sequence[str]]
_END_SECONDS: Final = 60.0
_READER: Final = Path(__file__).with_name("reader.py")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program read: how long it took, in all and for each kind of work, and a digest of all bytes."""

    seconds: float
    digest: str
    steps: Mapping[str, float]
    error: str | None = None


class Reader:
    """A program that waits for courses. It is started before the clock is."""

    def __init__(self) -> None:
        command = [sys.executable, str(_READER)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_until_ready(self) -> None:
        """It has imported what it needs."""
        self._line()

    def begin(self, top: Path, pairs: Pairs) -> None:
        """Have it read these files below a folder."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([[str(top / name) for name in pair] for pair in pairs]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Answer:
        """What it read, when it has."""
        found = json.loads(self._line())
        if "error" in found:
            return Answer(0.0, "", {}, found["error"])
        return Answer(found["seconds"], found["digest"], found["steps"])

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a reading program has ended")
        return line

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Client:
    """A mount on `host`, below `directory`, with the cache that is there, or an empty one."""

    def __init__(self, host: Host, directory: Path, options: Sequence[str]) -> None:
        self.host = host
        self.top = directory / "mnt"
        self.log = directory / "log"
        self.reader = Reader()
        self._options = [*options, "--cache-dir", str(directory / "cache"), "--log-file", str(self.log)]
        self._pid = 0

    def mount(self) -> None:
        """Mount, and have the program ready. The daemon is in the namespace of the host."""
        self.top.mkdir(parents=True)
        run_vbnfs(self.host, "mount", *self._options, str(self.top))
        self._pid = int(self.status()["pid"])
        self.reader.wait_until_ready()

    def status(self) -> dict[str, Any]:
        """What `vbnfs status --json` says."""
        entry = find_mount(self.top)
        if entry is None:
            raise RuntimeError(f"{self.top} is not mounted any more")
        return ask_status(entry, seconds=60)

    @property
    def asks_proxy(self) -> bool:
        """Whether it would ask the site cache now."""
        return all(each["is_asked"] for each in self.status()["site_cache"])

    @property
    def processes(self) -> list[int]:
        """The daemon, its helpers and the program."""
        return [*family(self._pid), self.reader.process.pid]

    def processor_seconds(self) -> float:
        """What all of them took so far."""
        return processor_seconds(self.processes)

    def memory_bytes(self) -> int:
        """What the daemon and its helpers have for themselves."""
        return memory_bytes(family(self._pid), "RssAnon")

    def read(self, pairs: Pairs) -> Answer:
        """Have it read, and wait for that."""
        self.reader.begin(self.top, pairs)
        return self.reader.answer()

    def end(self) -> None:
        """Take the mount away. Its daemon is killed: what it would still store is deleted next."""
        self.reader.end()
        if self._pid:
            _kill(self._pid)
        if find_mount(self.top) is not None:
            detach(self.top, lazy=True)


def run_vbnfs(host: Host, *words: str) -> str:
    """Run a command of vbnfs on a host; what it prints. Raises `RuntimeError` with what it says of a failure."""
    command = [*host.within, sys.executable, "-m", "vbnfs", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"vbnfs {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _kill(pid: int) -> None:
    """Kill a process that is no child of ours, and wait until it has ended (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], _END_SECONDS)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


@contextmanager
def mounted(
    hosts: Mapping[str, Host], directory: Path, template: Path, options: Sequence[str]
) -> Iterator[list[Client]]:
    """A client on each host, each with a copy of the cache `template`: as many mount at a time as there are CPUs."""
    clients: list[Client] = []
    with ExitStack() as stack, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, host in hosts.items():
            place = directory / name
            shutil.copytree(template, place / "cache", copy_function=shutil.copy)
            client = Client(host, place, options)
            stack.callback(shutil.rmtree, place)  # another one may be on this host next
            stack.callback(client.end)
            clients.append(client)
        list(pool.map(Client.mount, clients))
        yield clients
