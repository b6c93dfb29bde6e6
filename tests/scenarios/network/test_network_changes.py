"""A network that changes under a mount: connections that fall silent, a server that hangs and is well again."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.relay import Relay
from tests.fakes.s3_server import Behaviour, FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts

FILES = {f"sessions/{number}.nwb": Pattern(600_000 + number) for number in range(60)}
NAMES = list(FILES)
SILENT_SECONDS = 5.0  # promised, with the default timeouts, after all open connections have fallen silent
WELL_SECONDS = 1.0  # promised, with any timeout, after a server that hung is well again
_BUSY_SECONDS = 2.0  # of a machine that does other things, too; what goes wrong takes 15 s, or --io-timeout


def serving() -> FakeS3Server:
    dataset = FakeDataset()
    dataset.publish("0.1.0", FILES)
    return FakeS3Server(dataset.store)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    with serving() as server:
        yield server


def reading(mount: Mount, names: list[str]) -> list[float]:
    """Read files at the same time. Returns how many seconds each took."""

    def read(name: str) -> float:
        began = time.monotonic()
        assert (mount.path / name).read_bytes() == FILES[name][:]
        return time.monotonic() - began

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(read, names))


@pytest.mark.parametrize("options", [(), ("--max-connections", "1")], ids=["24 connections", "one connection"])
def test_all_open_connections_fall_silent(mounts: Mounts, server: FakeS3Server, options: tuple[str, ...]) -> None:
    """Neither side learns of it, and new connections work: the first read takes seconds, the next ones none."""
    with Relay(server.endpoint_url) as relay:
        mount = mounts(relay.endpoint_url, *options)
        reading(mount, NAMES[:20])
        assert relay.silence() > 0
        assert max(reading(mount, NAMES[20:21])) < SILENT_SECONDS + _BUSY_SECONDS
        assert max(reading(mount, NAMES[21:24])) < SILENT_SECONDS / 2
        assert not mount.status()["is_offline"]


def test_all_open_connections_fall_silent_while_files_are_read(mounts: Mounts, server: FakeS3Server) -> None:
    """Twenty files are on their way when it happens: all of them go on within seconds."""
    gate, waiting = threading.Event(), threading.Semaphore(0)

    def hold(request: object, honest: object) -> None:
        waiting.release()
        gate.wait(30)

    with Relay(server.endpoint_url) as relay, ThreadPoolExecutor(1) as pool:
        mount = mounts(relay.endpoint_url)
        reading(mount, NAMES[:20])
        server.behaviours.append(for_kind("get_range", hold))
        readers = pool.submit(reading, mount, NAMES[20:40])
        for _ in range(20):
            assert waiting.acquire(timeout=30)
        relay.silence()
        server.behaviours.clear()
        gate.set()
        assert max(readers.result()) < SILENT_SECONDS + _BUSY_SECONDS


def hangs(gate: threading.Event) -> Behaviour:
    """All requests wait, and are never answered."""
    return held(gate)


def hangs_for_files(gate: threading.Event) -> Behaviour:
    """Files are not given, and all else is answered."""
    return for_kind("get_range", held(gate))


class Hang(NamedTuple):
    """What a server does not answer for so many seconds, and the --io-timeout of the mount."""

    behaviour: Callable[[threading.Event], Behaviour]
    seconds: float
    io_timeout: str


class After(NamedTuple):
    """When readers failed and had read a file, in seconds after the server was well again."""

    failed: list[float]
    read: list[float]


HANGS = [
    Hang(behaviour, seconds, timeout)
    for timeout, seconds in (("30", 12), ("1.5", 5), ("5", 7), ("30", 5))
    for behaviour in (hangs, hangs_for_files)
]


def after(hang: Hang, folder: Path, mounts: Mounts) -> After:
    """Have four readers read on while a server of their own hangs, and then until they have read all."""
    with serving() as server:
        options = ("--io-timeout", hang.io_timeout, "--cache-dir", folder.with_suffix(".cache"))
        mount, gate = mounts(server.endpoint_url, *options, name=folder.name), threading.Event()
        with suppress(TimeoutError):  # of a machine that does much else: connections are open all the same
            reading(mount, NAMES[:8])
        server.behaviours.append(hang.behaviour(gate))
        failed: list[float] = []
        read: list[float] = []
        stopped = threading.Event()

        def read_on(names: list[str]) -> None:
            for name in names:
                while not stopped.is_set():
                    try:
                        assert (mount.path / name).read_bytes() == FILES[name][:]
                    except OSError:
                        failed.append(time.monotonic())
                        stopped.wait(0.05)
                    else:
                        read.append(time.monotonic())
                        break

        with ThreadPoolExecutor(4) as pool:
            try:
                readers = [pool.submit(read_on, NAMES[8 + number : 24 : 4]) for number in range(4)]
                threading.Event().wait(hang.seconds)
                server.behaviours.clear()
                well = time.monotonic()
                for reader in readers:
                    reader.result(timeout=60)
            finally:
                stopped.set()
                gate.set()
        mount.umount()
    return After(*([moment - well for moment in moments] for moments in (failed, read)))


def test_a_server_that_hung_is_well_again(mounts: Mounts, tmp_path: Path) -> None:
    """What was asked while it hung is never answered. From a second after its end on every read goes well.

    Four servers hang at the same time, each with a mount of its own: nearly all of that is waiting.
    """
    folders = [tmp_path / f"{number}" for number in range(len(HANGS))]
    with ThreadPoolExecutor(4) as pool:
        for hang, found in zip(HANGS, pool.map(partial(after, mounts=mounts), HANGS, folders), strict=True):
            assert max(found.failed, default=0.0) < WELL_SECONDS + _BUSY_SECONDS / 2, hang
            assert min(found.read) < WELL_SECONDS + _BUSY_SECONDS, hang
            assert len(found.read) == 16, hang


def test_no_byte_at_all(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A read of which no byte comes fails after --silence-timeout, though --io-timeout allows more."""
    mount, gate = mounts(server.endpoint_url, "--silence-timeout", "4", "--io-timeout", "60"), threading.Event()
    server.behaviours.append(hangs_for_files(gate))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        (mount.path / NAMES[0]).read_bytes()
    assert 3.9 < time.monotonic() - began < 4 + 4 * _BUSY_SECONDS
    assert "--silence-timeout" in mount.status()["last_error"]
    gate.set()
