"""What is tried: two hosts on one cache folder, which a third one serves by NFS. Each round says what it found."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.nfs.image import make_disk, make_image, make_program
from benchmarks.nfs.machines import HOST, NFS_PORT, Answer, Machine, free_port
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern

SESSIONS: Final = tuple(f"ecephys_sessions/ecephys_session_{number}.nwb" for number in range(1, 4))
SIZE_BYTES: Final = 8_000_001
ONE, TWO = 1000, 1001  # users
CACHE: Final = "/shared/one/cache"
_DISK_BYTES: Final = 400 << 20
_LEASE_SECONDS: Final = 10
_READ_SECONDS: Final = 900.0
_SERVE: Final = f"""
set -e
mkdir -p /data; mount /dev/vdc /data
mkdir -p /data/nfs /data/export; mount --bind /data/nfs /var/lib/nfs
mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/nfsdcld /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
modprobe nfsd; mount -t nfsd nfsd /proc/fs/nfsd || true
[ -e /data/export/one ] || {{ mkdir -m 755 /data/export/one; chown {ONE}:{ONE} /data/export/one; }}
nfsdcld
echo {_LEASE_SECONDS} >/proc/fs/nfsd/nfsv4leasetime; echo {_LEASE_SECONDS} >/proc/fs/nfsd/nfsv4gracetime
echo '/data/export *(rw,sync,no_subtree_check,insecure,fsid=7)' >/etc/exports
exportfs -ra; rpc.mountd -N 3; rpc.nfsd -N 3 -V 4.2 8
"""


@dataclass
class Place:
    """The machines, and the server of a dataset on this host."""

    nfs: Machine
    hosts: Sequence[Machine]
    server: FakeS3Server
    truth: dict[str, str]
    nfs_port: int
    found: list[str] = field(default_factory=list)  # lines for people
    failed: list[str] = field(default_factory=list)

    def check(self, what: str, *, holds: bool) -> None:
        """Note a fact."""
        line = f"{'ok ' if holds else 'NOT'} {what}"
        print(line, flush=True)
        (self.found if holds else self.failed).append(line)

    def mount(self, host: Machine, *options: str, user: int = ONE, cache: str = CACHE) -> Answer:
        """`vbnfs mount ~/vbn` as a user of a host; an earlier mount goes first."""
        home = f"/home/{'one' if user == ONE else 'two'}" if user else "/root"
        host.ask("sh", "-c", f"umount -l {home}/vbn; mkdir -p {home}/vbn; chown {user} {home}/vbn")
        url = f"http://{HOST}:{self.server.port}"
        command = ["python3", "-m", "vbnfs", "mount", f"{home}/vbn", "--cache-dir", cache, "--endpoint-url", url]
        return host.ask(*command, "--io-timeout", "600", *options, user=user, seconds=300.0)

    def read(self, host: Machine, names: Sequence[str], *, user: int = ONE) -> list[str]:
        """The files that a user of a host cannot read, or reads wrong."""
        home = "/home/one" if user == ONE else "/home/two"
        command = ["b2sum", *(f"{home}/vbn/{name}" for name in names)]
        answer = host.ask(*command, user=user, seconds=_READ_SECONDS)
        sums = dict(reversed(line.split("  ", 1)) for line in answer.output.splitlines() if "  " in line)
        return [name for name in names if sums.get(f"{home}/vbn/{name}") != self.truth[name]]


@contextmanager
def running_place(work: Path, *, has_kvm: bool) -> Iterator[Place]:
    """Three machines: an NFS server, and two hosts that have mounted its folder."""
    image, program = make_image(), make_program(work)
    data, nfs_port = work / "data.img", free_port()
    make_disk(data, _DISK_BYTES)
    patterns = {name: Pattern(SIZE_BYTES, seed=number) for number, name in enumerate(SESSIONS)}
    truth = {name: hashlib.blake2b(pattern[:SIZE_BYTES]).hexdigest() for name, pattern in patterns.items()}
    nfs = Machine("server", image, program, work, disk=data, forwards={nfs_port: NFS_PORT}, has_kvm=has_kvm)
    hosts = [Machine(name, image, program, work, has_kvm=has_kvm) for name in ("one", "two")]
    with ExitStack() as stack:
        server = stack.enter_context(serve({"0.1.0": patterns}))
        with ThreadPoolExecutor() as threads:
            list(threads.map(stack.enter_context, (nfs, *hosts)))
        nfs.run("sh", "-c", _SERVE)
        for host in hosts:
            enter(host, nfs_port)
        yield Place(nfs, hosts, server, truth, nfs_port)


def enter(host: Machine, nfs_port: int) -> None:
    """Have a host mount the folder."""
    options = f"vers=4.2,port={nfs_port},hard,timeo=50"
    host.run("sh", "-c", f"mkdir -p /shared; mount -t nfs4 -o {options} {HOST}:/data/export /shared", seconds=120.0)


@dataclass(frozen=True)
class Counted:
    """What the dataset's server sent meanwhile."""

    place: Place
    before: int

    @property
    def ratio(self) -> float:
        """Bytes sent, to the bytes of all sessions."""
        return (self.place.server.body_bytes - self.before) / (len(SESSIONS) * SIZE_BYTES)


def counting(place: Place) -> Counted:
    """Count from now on."""
    return Counted(place, place.server.body_bytes)


def begin(place: Place, threads: ThreadPoolExecutor, *, backwards: bool) -> list[Future[list[str]]]:
    """Have both hosts read all sessions; the other one begins at the end if `backwards`."""
    orders = SESSIONS, SESSIONS[::-1] if backwards else SESSIONS
    return [threads.submit(place.read, host, names) for host, names in zip(place.hosts, orders, strict=True)]


def forget(place: Place) -> None:
    """Empty the cache."""
    for host in place.hosts:
        host.ask("sh", "-c", "umount /home/one/vbn; sleep 1")
    place.nfs.run("sh", "-c", "rm -rf /data/export/one/cache; sync")


def mount_both(place: Place, *options: str) -> None:
    """Mount on both hosts, as the same user."""
    for host in place.hosts:
        answer = place.mount(host, *options)
        assert answer.status == 0, answer.output


def two_hosts(place: Place) -> None:
    """Both read everything at the same time, in the same order and against each other."""
    for backwards in (False, True):
        forget(place)
        mount_both(place)
        counted, began = counting(place), time.monotonic()
        with ThreadPoolExecutor() as threads:
            wrong = [name for read in begin(place, threads, backwards=backwards) for name in read.result()]
        order = "against each other" if backwards else "in the same order"
        seconds = time.monotonic() - began
        place.check(f"two hosts, {order}: no file is wrong ({seconds:.0f} s)", holds=not wrong)
        place.check(f"... {counted.ratio:.4f} times the unique bytes", holds=counted.ratio <= 1.01)
    for host in place.hosts:
        status = json.loads(host.run("python3", "-m", "vbnfs", "status", "--json", "/home/one/vbn", user=ONE))
        bad = [status["metrics"][name] for name in ("corrupt_blocks", "cache_write_errors")]
        place.check(f"... host {host.name} found no block damaged, and stored all", holds=bad == [0, 0])


def a_host_dies(place: Place) -> None:
    """One is killed in the middle."""
    forget(place)
    mount_both(place)
    counted = counting(place)
    with ThreadPoolExecutor() as threads:
        dying, living = begin(place, threads, backwards=False)
        _wait(lambda: counted.ratio > 0.3)
        place.hosts[0].kill()
        killed = time.monotonic()
        wrong = living.result()
        dying.exception()
    seconds = time.monotonic() - killed
    place.check(f"a host is killed: the other reads on ({seconds:.0f} s for the rest)", holds=not wrong)
    place.check(
        f"... {counted.ratio:.4f} times the unique bytes, with what was under way", holds=counted.ratio <= 1.3
    )


def the_server_restarts(place: Place) -> None:
    """The NFS server's machine is killed in the middle, and boots again; then a host that was killed comes back."""
    forget(place)
    host = place.hosts[1]
    answer = place.mount(host)
    assert answer.status == 0, answer.output
    counted = counting(place)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(place.read, host, SESSIONS)
        _wait(lambda: counted.ratio > 0.3)
        place.nfs.kill()
        place.nfs.start()
        place.nfs.run("sh", "-c", _SERVE)
        wrong = reading.result()
    place.check("the NFS server is killed and boots again: the read goes on, and nothing is wrong", holds=not wrong)
    if not place.hosts[0].is_running:
        place.hosts[0].start()
        enter(place.hosts[0], place.nfs_port)
    assert place.mount(place.hosts[0]).status == 0
    counted = counting(place)
    wrong = place.read(place.hosts[0], SESSIONS)
    place.check("... the host that was killed comes back, and reads what the other has", holds=not wrong)
    place.check(f"... {counted.ratio:.4f} times the bytes are fetched again", holds=counted.ratio <= 0.05)


def the_disk_is_full(place: Place) -> None:
    """The server's disk has room for less than half of it."""
    forget(place)
    room = len(SESSIONS) * SIZE_BYTES // 3
    place.nfs.run(
        "sh", "-c", f"free=$(df -B1 --output=avail /data | tail -1); fallocate -l $((free - {room})) /data/fill"
    )
    mount_both(place, "--cache-reserve", "0")
    with ThreadPoolExecutor() as threads:
        wrong = [name for read in begin(place, threads, backwards=True) for name in read.result()]
    place.check("the disk is full: no read fails, and nothing is wrong", holds=not wrong)
    said = place.hosts[0].ask("python3", "-m", "vbnfs", "status", "/home/one/vbn", user=ONE).output
    place.check("... 'vbnfs status' says so", holds="No space left" in said or "free" in said)
    place.nfs.run("rm", "/data/fill")


def two_users(place: Place) -> None:
    """Another user is refused, and root, whom the server takes for nobody; `cache_also` is read, read-only."""
    forget(place)
    one, two = place.hosts
    assert place.mount(one).status == 0
    assert not place.read(one, SESSIONS[:4])
    refused = place.mount(two, user=TWO)
    place.check(f"another user's cache is refused: {refused.output.splitlines()[:1]}", holds=refused.status == 1)
    root = place.mount(two, user=0)
    place.check("root is refused, with what to do", holds=root.status == 1 and "root_squash" in root.output)
    one.run("chmod", "-R", "a+rX", CACHE, user=ONE)
    two.run("mount", "-o", "remount,ro", "/shared")
    also = place.mount(two, "--cache-also", CACHE, "--trusted-users", "one", user=TWO, cache="/home/two/cache")
    assert also.status == 0, also.output
    before = place.server.body_bytes
    wrong = place.read(two, SESSIONS[:4], user=TWO)
    sent = (place.server.body_bytes - before) / (4 * SIZE_BYTES)
    place.check("cache_also, by another user from a read-only NFS mount: nothing is wrong", holds=not wrong)
    place.check(f"... {sent:.4f} times its bytes are fetched", holds=sent <= 0.01)
    two.ask("umount", "/home/two/vbn")
    two.run("mount", "-o", "remount,rw", "/shared")


def _wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.2)


_ROUNDS: Final[Mapping[str, Callable[[Place], None]]] = {
    "two-hosts": two_hosts,
    "a-host-dies": a_host_dies,
    "the-server-restarts": the_server_restarts,
    "the-disk-is-full": the_disk_is_full,
    "two-users": two_users,
}


def run(work: Path, names: Sequence[str], *, has_kvm: bool) -> list[str]:
    """Try these rounds, in their order. Returns what did not hold."""
    with running_place(work, has_kvm=has_kvm) as place:
        for name in (name for name in _ROUNDS if name in names):
            _ROUNDS[name](place)
        return place.failed
