"""What is tried with: three machines, of which one exports a folder by NFS to the others, and S3 on this host."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.nfs.machines import HOST, Answer, Machine
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server

SHARED: Final = "/run/shared"
CACHE: Final = f"{SHARED}/one/cache"  # in a folder of the user one; those above it are root's
OWN_FOLDER: Final = f"{SHARED}/of-one"  # of the same user
EXPORT: Final = "/run/data/export"  # at the server
USUAL: Final = "vers=4.2"
LEASE_SECONDS: Final = 10  # the least that nfsd takes; what it lent to a dead host is free after that
_FOLDER: Final = "ecephys_sessions"
_A_GROUP: Final = 3  # sessions
_SIZE_BYTES: Final = 8_000_001
_DISK_BYTES: Final = 600 << 20
_READ_SECONDS: Final = 300.0
_BEGIN_SECONDS: Final = 60.0
_READER: Final = Path(__file__).with_name("reader.py")
_EXPORTS: Final = f"exportfs -o rw,sync,no_subtree_check,insecure,fsid=0 '*:{EXPORT}'"
# The server's state is on its disk, as on any server: so that it knows its clients again (nfsdcltrack(8)).
_SERVE: Final = f"""
set -e
mount /dev/ubda /run/data
mkdir -p /run/data/state {EXPORT}/one {EXPORT}/of-one
chown one {EXPORT}/one {EXPORT}/of-one
mount --bind /run/data/state /var/lib/nfs
mkdir -p /var/lib/nfs/nfsdcltrack
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd
echo 1048576 >/proc/fs/nfsd/max_block_size
echo {LEASE_SECONDS} >/proc/fs/nfsd/nfsv4leasetime
echo {LEASE_SECONDS} >/proc/fs/nfsd/nfsv4gracetime
rpcbind -w
{_EXPORTS}
rpc.mountd
rpc.nfsd 8
"""


@dataclass(frozen=True)
class Read:
    """What a reader on a host found. `wrong`: files whose bytes are not those released, or cannot be read."""

    wrong: Sequence[str]
    failed: Sequence[str]  # why
    longest_seconds: float  # of one read


@dataclass
class Place:
    """The machines and the server, and what was found."""

    nfs: Machine
    hosts: tuple[Machine, Machine]
    server: FakeS3Server
    groups: Iterator[Sequence[str]]  # sessions that nothing has read yet
    truth: Mapping[str, str]  # by a session's path: the hash of its bytes
    failed: list[str] = field(default_factory=list)

    def check(self, what: str, *, holds: bool) -> None:
        """Print whether something holds, and keep what does not."""
        print(f"{'ok ' if holds else 'NOT'} {what}", flush=True)
        if not holds:
            self.failed.append(what)

    def vbnfs(self, host: Machine, *words: str, user: str = "one") -> Answer:
        """Run vbnfs as a user of a host."""
        return host.ask(sys.executable, "-m", "vbnfs", *words, user=user, seconds=_READ_SECONDS)

    def mount(self, host: Machine, *options: str, user: str = "one", cache: str = CACHE) -> Answer:
        """`vbnfs mount` as a user of a host."""
        where = mountpoint(user)
        host.run("mkdir", "-p", where, user=user)
        url = self.server.endpoint_url
        return self.vbnfs(host, "mount", where, "--cache-dir", cache, "--endpoint-url", url, *options, user=user)

    def mount_both(self, *options: str) -> None:
        """Mount on both hosts, as the same user."""
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda host: self.mount(host, *options), self.hosts))
        for answer in answers:
            assert answer.status == 0, answer.output

    def read(self, host: Machine, names: Sequence[str], *, user: str = "one") -> Read:
        """Have a user of a host read sessions, one after the other."""
        paths = [f"{mountpoint(user)}/{name}" for name in names]
        output = host.run(sys.executable, str(_READER), *paths, user=user, seconds=_READ_SECONDS)
        found = json.loads(output.splitlines()[-1])
        wrong = [path for path, name in zip(paths, names, strict=True) if found["sums"].get(path) != self.truth[name]]
        return Read(wrong, list(found["failed"].values()), found["longest_seconds"])

    def read_both(self, names: Sequence[str], *, backwards: bool = False) -> list[Read]:
        """Have both hosts read sessions at the same time; the other one begins with the last if `backwards`."""
        orders = names, names[::-1] if backwards else names
        with ThreadPoolExecutor() as threads:
            return list(threads.map(self.read, self.hosts, orders))

    def metrics(self, host: Machine) -> Mapping[str, int]:
        """What the mount on a host has counted."""
        found: dict[str, Any] = json.loads(self.vbnfs(host, "status", "--json", mountpoint("one")).output)
        metrics: Mapping[str, int] = found["metrics"]
        return metrics

    def serve(self) -> None:
        """Have the server's machine export its folder."""
        self.nfs.run("sh", "-c", _SERVE)

    def enter(self, host: Machine, options: str = USUAL, *, path: str = "/") -> None:
        """Have a host mount the folder by NFS."""
        where = f"{self.nfs.address}:{path}"
        host.run("mount", "-t", "nfs", "-o", f"{options},hard,timeo=50", where, SHARED)

    def leave(self, host: Machine, *, user: str = "one") -> None:
        """Have a host unmount vbnfs, wait for its end, and unmount the folder."""
        answer = self.vbnfs(host, "umount", "--all", user=user)
        assert answer.status == 0, answer.output
        host.run("umount", SHARED)


class Counted:
    """What S3 sends from now on."""

    def __init__(self, server: FakeS3Server, names: Sequence[str]) -> None:
        self._server = server
        self._before = server.body_bytes
        self._unique_bytes = len(names) * _SIZE_BYTES

    @property
    def ratio(self) -> float:
        """Bytes sent, to those of the sessions."""
        return (self._server.body_bytes - self._before) / self._unique_bytes

    def wait_for(self, ratio: float) -> None:
        """Wait until so much was sent. Raises `TimeoutError`."""
        self._server.wait_until(lambda _server: self.ratio >= ratio, seconds=_BEGIN_SECONDS)


def mountpoint(user: str) -> str:
    """Where a user mounts vbnfs."""
    return f"{'/tmp/root' if user == 'root' else f'/run/{user}'}/vbn"


@contextmanager
def running_place(work: Path, group_count: int) -> Iterator[Place]:
    """The machines: both hosts have mounted the server's folder. Sessions are in `group_count` groups."""
    disk = work / "server.disk"
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", disk], check=True)
    names = [f"{_FOLDER}/ecephys_session_{number}.nwb" for number in range(group_count * _A_GROUP)]
    files = {name: random.Random(name).randbytes(_SIZE_BYTES) for name in names}
    nfs = Machine("server", 1, work, disk=disk)
    hosts = Machine("one", 2, work), Machine("two", 3, work)
    with ExitStack() as stack:
        server = stack.enter_context(serve({"0.1.0": files}, host=str(HOST.ip)))
        with ThreadPoolExecutor() as threads:
            list(threads.map(stack.enter_context, (nfs, *hosts)))
        truth = {name: hashlib.blake2b(data).hexdigest() for name, data in files.items()}
        groups = (names[at : at + _A_GROUP] for at in range(0, len(names), _A_GROUP))
        place = Place(nfs, hosts, server, groups, truth)
        place.serve()
        for host in hosts:
            place.enter(host)
        yield place
