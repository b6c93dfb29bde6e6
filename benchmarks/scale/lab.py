"""A lab: S3 20 ms away at 100 Mbit/s for all together, a site cache at 1 Gbit/s, and hosts with clients."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.scale import logs
from benchmarks.scale.clients import Client, mounted, run_vbnfs
from benchmarks.scale.files import Course
from benchmarks.scale.logs import Answer
from benchmarks.scale.network import Host, Network
from benchmarks.scale.servers import Nginx, make_origin, make_proxy
from benchmarks.scale.traces import Request
from benchmarks.speed.files import VERSION

S3_MBIT: Final = 100
PROXY_MBIT: Final = 1000
FIRST_BYTE_SECONDS: Final = 0.02
_SETTLED_SECONDS: Final = 0.3
_WAIT_SECONDS: Final = 120.0
_IDLE_PART: Final = 0.8


@dataclass(frozen=True, slots=True)
class Asked:
    """What the site cache was asked, by clients, and S3, by it and by others."""

    proxy: Sequence[Answer]
    s3: Sequence[Answer]

    def requests_of(self, client: str, began: float) -> list[Request]:
        """What one client, by its address, asked the site cache; times are from when it began, by the clock."""
        mine = [answer.request for answer in self.proxy if answer.client == client]
        return [replace(request, at=max(0.0, request.at - began)) for request in mine]


class Lab:
    """All of it, below `directory`, for `count` clients and `alone` more that read by themselves."""

    def __init__(self, network: Network, directory: Path, course: Course) -> None:
        self.course, self.directory = course, directory
        hosts = network.hosts
        self.origin = make_origin(
            hosts["s3"], _made(directory / "s3"), course.files, first_byte_seconds=FIRST_BYTE_SECONDS
        )
        self.proxy = make_proxy(hosts["proxy"], _made(directory / "proxy"), self.origin.url)
        self.direct: Final = ["--endpoint-url", self.origin.url, "--cache-reserve", "0"]
        self.options: Final = [*self.direct, "--site-cache", self.proxy.url]
        self._hosts = hosts
        self._seen = {"proxy": 0, "s3": 0}

    def prepare(self, *, knows_digests: bool = True, knows_index: bool = True) -> Path:
        """A cache without blocks that knows digests and the structure index of all files, as clients begin with."""
        host, known = self._hosts["s3"], self.course.files.directory / "known"  # it stays as long as the files
        if not known.exists():
            new = self.directory / "known"
            new.mkdir()
            of_cache = ["--cache-dir", str(self.directory / "whole")]
            run_vbnfs(host, "index", "build", "--all", *self.direct, *of_cache)
            run_vbnfs(host, "verify", "--fetch", VERSION, *self.direct, *of_cache)
            _side_by_side(
                partial(run_vbnfs, host, "digests", "export", str(new / "digests"), *of_cache),
                partial(run_vbnfs, host, "index", "export", str(new / "index"), *self.direct, *of_cache),
            )
            shutil.rmtree(self.directory / "whole")
            new.rename(known)
        template = self.directory / f"template-{knows_digests:d}{knows_index:d}"
        if not template.exists():
            template.mkdir(mode=0o700)
            names = [*(["digests"] if knows_digests else []), *(["index"] if knows_index else [])]
            of_cache = ["--cache-dir", str(template)]
            _side_by_side(*(partial(run_vbnfs, host, name, "import", str(known / name), *of_cache) for name in names))
        return template

    @contextmanager
    def clients(self, names: Sequence[str], template: Path, options: Sequence[str] = ()) -> Iterator[list[Client]]:
        """A client on each of these hosts."""
        chosen = {name: self._hosts[name] for name in names}
        with mounted(chosen, self.directory, template, options or self.options) as clients:
            self.since()
            yield clients

    def since(self) -> Asked:
        """What was asked since this was called last, once no more comes."""
        found = {}
        for name, nginx in (("proxy", self.proxy), ("s3", self.origin)):
            lines = _settled(nginx)
            found[name] = logs.answers(lines[self._seen[name] :])
            self._seen[name] = len(lines)
        return Asked(found["proxy"], found["s3"])

    def empty_proxy(self) -> None:
        """Start the site cache anew, without any slice."""
        self.proxy.kill()
        shutil.rmtree(self.proxy.directory / "kept")
        (self.proxy.directory / "kept").mkdir()
        self.proxy.start()

    def host(self, name: str) -> Host:
        """A host."""
        return self._hosts[name]


def _side_by_side(*functions: Callable[[], object]) -> None:
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(function) for function in functions]:
            future.result()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _settled(nginx: Nginx) -> list[str]:
    """The lines of its log, when none has come for a while: what was read ahead of a program comes after it."""
    lines = nginx.lines()
    while True:
        time.sleep(_SETTLED_SECONDS)
        newer = nginx.lines()
        if len(newer) == len(lines):
            return newer
        lines = newer


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a function of no arguments says yes. Raises `RuntimeError` after two minutes."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited for {_WAIT_SECONDS:.0f} s: {what}")
        time.sleep(0.05)


def wait_until_idle(most_seconds: float) -> None:
    """Wait until nothing takes the processors any more: daemons may end what they began."""
    deadline = time.monotonic() + most_seconds
    before = _idle_seconds()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = _idle_seconds()
        if now - before > _IDLE_PART * (os.cpu_count() or 1):
            return
        before = now


def _idle_seconds() -> float:
    """Of all processors so far, with the time in which they waited for a disk (proc_stat(5))."""
    _, _, _, idle, waiting, *_ = _processor_times()
    return idle + waiting


def worked_seconds() -> tuple[float, float]:
    """Of all processors so far, by processes; and what none is charged for, the network's work and the host's."""
    user, nice, system, _, _, *interrupts = _processor_times()
    return user + nice + system, sum(interrupts[:3])


def _processor_times() -> list[float]:
    """proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, ..."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]


@contextmanager
def running_lab(directory: Path, course: Course, names: Sequence[str]) -> Iterator[Lab]:
    """A lab whose servers run, with hosts for clients."""
    hosts = {"s3": S3_MBIT, "proxy": PROXY_MBIT, **dict.fromkeys(names, 0)}
    with ExitStack() as stack:
        lab = Lab(stack.enter_context(Network(hosts)), directory, course)
        stack.enter_context(lab.origin)
        stack.enter_context(lab.proxy)
        yield lab
