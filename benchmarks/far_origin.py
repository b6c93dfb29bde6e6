"""An origin that is far away: in a network namespace of its own, behind a link that all share.

The first byte of an answer takes as long as the origin waits. The link's rate is kept by tc-tbf(8), whose queue holds
what TCP sends beyond it. Only root can make one, in network and mount namespaces that this program has for itself
(`alone`), so that nothing of it is seen on the machine.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.mount_namespaces import ALONE

HOST: Final = "s3.test"  # its name, in /etc/hosts and at the name server
ADDRESS: Final = "198.18.0.2"  # of the networks that RFC 2544 has for benchmarks
_NEAR: Final = "198.18.0.1/30"
_BURST_BYTES: Final = 64 << 10
_QUEUE_BYTES: Final = 2 << 20


def alone(module: str, arguments: Sequence[str]) -> int:
    """Run a module in namespaces of its own; its exit status. `--inside` is among its arguments there."""
    words = ["unshare", "--net", *ALONE, sys.executable, "-m", module, "--inside", *arguments]
    return subprocess.run(words, check=False).returncode


def settle(directory: Path) -> None:
    """Inside of `alone`, once: loopback works, and `HOST` has its address."""
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
    _run("ip", "link", "set", "lo", "up")
    _run("mount", "--bind", str(hosts), "/etc/hosts")


@dataclass(frozen=True, slots=True)
class FarOrigin:
    """One that runs: its address, and the process."""

    url: str
    process: "subprocess.Popen[str]"

    def report(self) -> dict[str, Any]:
        """See `benchmarks.origin`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report

    def sent(self) -> tuple[int, int]:
        """Bytes of bodies, and requests for ranges, so far."""
        report = self.report()
        return int(report["sent_bytes"]), int(report["requests"].get("get_range", 0))


@contextmanager
def far_origin(
    place: Path, *, first_byte_seconds: float, megabits: float, certificates: Path | None = None
) -> Iterator[FarOrigin]:
    """Serve `place`/plain. With a folder for its certificate it speaks TLS, and has a name."""
    tls = [] if certificates is None else ["--tls", str(certificates)]
    options = ["--host", "0.0.0.0", "--first-byte", str(first_byte_seconds), *tls]
    command = ["unshare", "--net", sys.executable, "-m", "benchmarks.origin", str(place), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            _link(process.pid, megabits)
            yield FarOrigin(url.replace("0.0.0.0", HOST if tls else ADDRESS), process)
        finally:
            process.kill()
            subprocess.run(["ip", "link", "delete", "near"], stderr=subprocess.DEVNULL, check=False)


def _link(pid: int, megabits: float) -> None:
    _run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(pid))
    _run("ip", "address", "add", _NEAR, "dev", "near")
    _run("ip", "link", "set", "near", "up")
    there = ("nsenter", f"--net=/proc/{pid}/ns/net")
    _run(*there, "ip", "address", "add", f"{ADDRESS}/30", "dev", "far")
    _run(*there, "ip", "link", "set", "lo", "up")
    _run(*there, "ip", "link", "set", "far", "up")
    shape = ["rate", f"{megabits}mbit", "burst", str(_BURST_BYTES), "limit", str(_QUEUE_BYTES)]
    _run(*there, "tc", "qdisc", "add", "dev", "far", "root", "tbf", *shape)


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
