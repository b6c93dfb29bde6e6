"""Hosts of a network of their own: namespaces at one bridge, with shaped links. Needs root, and names nothing.

A namespace is held by a process, and found by its number: nothing of it is left when that ends. Links are shaped by
tbf (tc-tbf(8)) at both ends, for each direction.
"""

import ipaddress
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_NETWORK: Final = ipaddress.ip_network("10.77.0.0/16")
_BURST: Final = "256kb"  # TCP hands on 64 KiB at a time
_QUEUE: Final = "100ms"  # what waits for longer is dropped
_HOLDS: Final = ("unshare", "--net", "sh", "-c", "echo; exec cat")  # until its standard input is closed


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with an address. `within` is put before a command that is to run there; it sees the same files."""

    address: str
    within: Sequence[str]

    def run(self, *command: str, text: str | None = None) -> None:
        """Run a command there. Raises `RuntimeError` with what it says."""
        done = subprocess.run([*self.within, *command], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """A context manager: a bridge, and `hosts` by their names, each with the rate of its link in Mbit/s; 0: none."""

    def __init__(self, hosts: dict[str, int]) -> None:
        self.hosts: dict[str, Host] = {}
        self._rates = hosts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            bridge = _hold(stack)
            _ip(bridge, ["link set lo up", "link add br0 type bridge", "link set br0 up"])
            for number, (name, rate) in enumerate(self._rates.items(), start=1):
                self.hosts[name] = self._add(stack, bridge, number, rate)
            self._stack = stack.pop_all()
        return self

    def _add(self, stack: ExitStack, bridge: int, number: int, rate: int) -> Host:
        pid, address, port = _hold(stack), str(_NETWORK[number]), f"p{number}"
        _ip(bridge, [f"link add {port} type veth peer name eth0 netns {pid}", f"link set {port} master br0 up"])
        _ip(pid, ["link set lo up", f"addr add {address}/{_NETWORK.prefixlen} dev eth0", "link set eth0 up"])
        if rate:
            _shape(bridge, port, rate)
            _shape(pid, "eth0", rate)
        return Host(address, _within(pid))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _hold(stack: ExitStack) -> int:
    """A new namespace, as the process that holds it."""
    process = stack.enter_context(subprocess.Popen(_HOLDS, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdin.close)
    if not process.stdout.readline():
        raise RuntimeError("no network namespace can be made; this needs root")
    return process.pid


def _within(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


def _ip(pid: int, lines: Sequence[str]) -> None:
    Host("", _within(pid)).run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _shape(pid: int, device: str, rate: int) -> None:
    words = ["root", "tbf", "rate", f"{rate}mbit", "burst", _BURST, "latency", _QUEUE]
    Host("", _within(pid)).run("tc", "qdisc", "add", "dev", device, *words)
