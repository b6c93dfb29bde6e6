"""What is tried of one cache folder for two hosts. Each round prints what it finds, and what of it does not hold."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.nfs.machines import SilentMachineError, make_bridge, slow_way_to
from benchmarks.nfs.place import (
    CACHE,
    EXPORT,
    LEASE_SECONDS,
    OWN_FOLDER,
    USUAL,
    Counted,
    Place,
    Read,
    mountpoint,
    running_place,
)

_ONCE: Final = 1.01  # times the unique bytes, at the most
_WITH_LOST: Final = 1.5  # ... with what was on its way to a host that died
_NOTHING: Final = 0.01
_SMALL_BYTES: Final = 12_000_000  # of a cache that holds one session, and not two
_ROOM_BYTES: Final = 8_000_000  # on a disk that is nearly full
_STOPPED_SECONDS: Final = 3.0
_DEAD_SECONDS: Final = 2.0  # as docs/shared-cache.md promises
_BUSY_SECONDS: Final = 5.0  # more, for a machine with two processors


def two_hosts(place: Place) -> None:
    """Both read everything at the same time, in the same order and against each other."""
    for backwards in (False, True):
        names = next(place.groups)
        counted, began = Counted(place.server, names), time.monotonic()
        reads = place.read_both(names, backwards=backwards)
        order = "against each other" if backwards else "in the same order"
        seconds = time.monotonic() - began
        _check_reads(place, f"two hosts, {order} ({seconds:.0f} s)", reads)
        _check_ratio(place, counted.ratio, _ONCE)
    for host in place.hosts:
        metrics = place.metrics(host)
        bad = [metrics[name] for name in ("corrupt_blocks", "cache_write_errors")]
        place.check(f"... host {host.name} found no block damaged, and stored all", holds=bad == [0, 0])


def a_slow_server(place: Place) -> None:
    """The way to the server has 10 Mbit/s: it takes a block in 0.2 s, where S3 sends hundreds in that time."""
    names = next(place.groups)
    counted, began = Counted(place.server, names), time.monotonic()
    with slow_way_to(place.nfs, megabits=10):
        reads = place.read_both(names)
    seconds = time.monotonic() - began
    _check_reads(place, f"an NFS server by 10 Mbit/s, in the same order ({seconds:.0f} s)", reads)
    _check_ratio(place, counted.ratio, _ONCE)


def the_server_stops(place: Place) -> None:
    """nfsd is stopped while both read, and started some seconds later."""
    names = next(place.groups)
    counted = Counted(place.server, names)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(place.read_both, names)
        counted.wait_for(0.3)
        place.nfs.run("rpc.nfsd", "0")
        time.sleep(_STOPPED_SECONDS)
        place.nfs.run("rpc.nfsd", "8")
        reads = reading.result()
    longest = max(read.longest_seconds for read in reads)
    place.check(
        f"the NFS server stops for 3 s: reads wait, {longest:.1f} s at the most",
        holds=longest <= _STOPPED_SECONDS + LEASE_SECONDS + _BUSY_SECONDS,
    )
    _check_reads(place, "... it goes on", reads)
    _check_ratio(place, counted.ratio, _ONCE)


def the_server_boots(place: Place) -> None:
    """The server's machine is killed while both read, and boots again."""
    names = next(place.groups)
    counted = Counted(place.server, names)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(place.read_both, names)
        counted.wait_for(0.3)
        place.nfs.kill()
        place.nfs.start()
        place.serve()
        reads = reading.result()
    longest = max(read.longest_seconds for read in reads)
    _check_reads(place, f"the NFS server is killed and boots: reads wait, {longest:.1f} s at the most", reads)
    _check_ratio(place, counted.ratio, _ONCE)


def one_cleans(place: Place) -> None:
    """One host deletes what the other reads; then a cache that is too small evicts it."""
    names = next(place.groups)
    one, two = place.hosts
    with ThreadPoolExecutor() as threads:
        counted = Counted(place.server, names)
        reading = threads.submit(place.read, two, names)
        counted.wait_for(0.5)
        answer = place.vbnfs(one, "clean", f"{mountpoint('one')}/{names[0]}")
        read = reading.result()
    place.check("'vbnfs clean' works on one host while the other reads", holds=answer.status == 0)
    _check_reads(place, "... nothing is wrong there", [read, place.read(one, names), place.read(two, names)])


def one_evicts(place: Place) -> None:
    """A cache that holds one session and a half: both hosts evict what the other reads."""
    names = next(place.groups)
    for host in place.hosts:
        place.vbnfs(host, "umount", "--all")
    place.hosts[0].run("rm", "-r", CACHE, user="one")
    place.mount_both("--cache-size", str(_SMALL_BYTES))
    reads = place.read_both(names, backwards=True)
    _check_reads(place, "both hosts evict what the other one reads", reads)
    used = int(place.nfs.run("du", "-s", "-B1", f"{EXPORT}/one/cache").split()[0])
    place.check(
        f"... it keeps within its size: {used / 1e6:.1f} MB of {_SMALL_BYTES / 1e6} MB", holds=used <= _SMALL_BYTES
    )
    for host in place.hosts:
        place.vbnfs(host, "umount", "--all")
    place.mount_both("--cache-size", "10G")


def a_host_dies(place: Place) -> None:
    """One is killed while both read; then it boots again, and reads what the other one has."""
    names = next(place.groups)
    counted = Counted(place.server, names)
    dying, living = place.hosts
    with ThreadPoolExecutor() as threads:
        lost = threads.submit(place.read, dying, names)
        counted.wait_for(0.1)  # it is the one that fetches, and the other follows
        reading = threads.submit(place.read, living, names)
        counted.wait_for(0.4)
        dying.kill()
        read = reading.result()
        lost.exception()
    place.check(
        f"a host is killed: the other waits {read.longest_seconds:.1f} s at the most",
        holds=read.longest_seconds <= _DEAD_SECONDS + LEASE_SECONDS + _BUSY_SECONDS,
    )
    _check_reads(place, "... reads on", [read])
    _check_ratio(place, counted.ratio, _WITH_LOST)
    dying.start()
    place.enter(dying)
    assert place.mount(dying).status == 0
    counted = Counted(place.server, names)
    _check_reads(place, "... it boots, and reads what the other has", [place.read(dying, names)])
    _check_ratio(place, counted.ratio, _NOTHING)


def the_disk_is_full(place: Place) -> None:
    """The server's disk has room for a third of what both read."""
    names = next(place.groups)
    for host in place.hosts:
        place.vbnfs(host, "umount", "--all")
    place.hosts[0].run("rm", "-r", CACHE, user="one")  # else room is made by evicting
    fill = f"free=$(df -B1 --output=avail /run/data | tail -1); fallocate -l $((free - {_ROOM_BYTES})) /run/data/fill"
    place.nfs.run("sh", "-c", fill)
    place.mount_both("--cache-reserve", "0")
    _check_reads(place, "the disk is full", place.read_both(names, backwards=True))
    for host in place.hosts:
        said = place.vbnfs(host, "status", mountpoint("one")).output
        line = next((line for line in said.splitlines() if "No space left" in line), "")
        place.check(f"... 'vbnfs status' on host {host.name}: {line.strip()}", holds=bool(line))
    place.nfs.run("rm", "/run/data/fill")


def two_users(place: Place) -> None:
    """Another user is refused, and root, whom the server takes for nobody; `cache_also` is read, read-only."""
    names = next(place.groups)
    one, two = place.hosts
    assert not place.read(one, names).wrong
    refused = place.mount(two, user="two")
    said = refused.output.splitlines()[:1]
    by_name = "belongs to one" in refused.output
    place.check(f"another user's cache is refused: {said}", holds=refused.status == 1 and by_name)
    root = place.mount(two, user="root", cache=OWN_FOLDER)
    said = root.output.splitlines()[:1]
    place.check(f"root is refused: {said}", holds=root.status == 1 and "root_squash" in root.output)
    place.vbnfs(one, "umount", "--all")  # else it may yet make folders that are closed to others
    one.run("chmod", "-R", "a+rX", CACHE, user="one")
    place.leave(two)
    place.enter(two, f"{USUAL},ro")
    counted = Counted(place.server, names)
    also = place.mount(two, "--cache-also", CACHE, "--trusted-users", "one", user="two", cache="/run/two/cache")
    assert also.status == 0, also.output
    _check_reads(place, "cache_also of another user, mounted read-only", [place.read(two, names, user="two")])
    _check_ratio(place, counted.ratio, _NOTHING)
    place.leave(two, user="two")
    place.enter(two)
    place.mount_both()


def other_versions(place: Place) -> None:
    """Both hosts by NFS 3 without locks between hosts, and by NFS 4.0."""
    for options, path in (("vers=3,nolock", EXPORT), ("vers=4.0", "/")):
        names = next(place.groups)
        for host in place.hosts:
            place.leave(host)
            place.enter(host, options, path=path)
        place.mount_both()
        counted = Counted(place.server, names)
        _check_reads(place, f"two hosts, {options}", place.read_both(names))
        _check_ratio(place, counted.ratio, _ONCE)


def _check_reads(place: Place, what: str, reads: Sequence[Read]) -> None:
    failed = [why for read in reads for why in read.failed]
    place.check(f"{what}: no read failed {failed or ''}".rstrip(), holds=not failed)
    place.check("... no byte is wrong", holds=not any(read.wrong for read in reads))


def _check_ratio(place: Place, ratio: float, most: float) -> None:
    place.check(f"... S3 sent {ratio:.4f} times the unique bytes; at most {most}", holds=ratio <= most)


ROUNDS: Final[Mapping[str, Callable[[Place], None]]] = {
    "two-hosts": two_hosts,
    "slow-server": a_slow_server,
    "server-stops": the_server_stops,
    "server-boots": the_server_boots,
    "clean": one_cleans,
    "evict": one_evicts,
    "host-dies": a_host_dies,
    "disk-full": the_disk_is_full,
    "two-users": two_users,
    "versions": other_versions,
}
_GROUPS: Final = {"two-hosts": 2, "versions": 2}  # of sessions that a round reads; the others read one


_MOST_PLACES: Final = 3


def run(work: Path, names: Sequence[str]) -> list[str]:
    """Try these rounds, in their order. Returns what did not hold.

    A machine may fall silent by itself (see docs/scale.md): then all are made anew, and its round begins again.
    """
    make_bridge(3)
    left, failed = [name for name in ROUNDS if name in names], list[str]()
    for number in range(1, _MOST_PLACES + 1):
        (place := work / str(number)).mkdir()
        try:
            _try_all(place, left, failed)
        except SilentMachineError as error:
            if number == _MOST_PLACES:
                raise
            print(f"    {error}; the machines are made anew, and {left[0]} begins again", flush=True)
        else:
            break
    return failed


def _try_all(work: Path, left: list[str], failed: list[str]) -> None:
    """Try rounds, each of which leaves the list when it is over. What does not hold comes to the other one."""
    with running_place(work, sum(_GROUPS.get(name, 1) for name in left)) as place:
        place.failed = failed
        place.mount_both()
        while left:
            began = time.monotonic()
            ROUNDS[left[0]](place)
            print(f"    ({left[0]}: {time.monotonic() - began:.0f} s)", flush=True)
            del left[0]
