"""The process that receives ranges: how it is kept, and what comes when it dies. What it receives is in other tests.

All tests of the client and of the seam that know no thread are about it, too: see `receiving`.
"""

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

import pytest
import trio
from structlog.testing import capture_logs

import vbnfs.s3.receivers
from tests.fakes.client import MemoryClient
from tests.fakes.disks import freezable_disk, freeze, thaw
from tests.fakes.s3_server import FakeS3Server, held, times
from tests.fakes.store import MemoryStore
from tests.fixtures_receiving import PROGRAM, process_of, until_ready
from tests.s3.asking import BIG, BIG_SIZE, WANTED, Received, fetch, wait_until
from tests.waiting import until
from vbnfs import __version__
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import NoDescriptorError, ReceiverLostError, TransportError
from vbnfs.host.message_link import Letter, Link, Sender
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, OpenStore, Piece, RangeRequest, Sink, Stored, StorePlan
from vbnfs.objects import Received as Came
from vbnfs.s3 import receiver_keeper
from vbnfs.s3.addresses import bucket_base
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client
from vbnfs.s3.ranges import Done, get_of
from vbnfs.s3.receiver_child import _Receiver
from vbnfs.s3.receiver_codec import CODEC
from vbnfs.s3.receiver_keeper import MOST_DEATHS
from vbnfs.s3.receiver_messages import Begin, End, Ended, Ping, Setup, Taken
from vbnfs.s3.receiver_messages import Came as Heard
from vbnfs.s3.receivers import ReceiverTransport
from vbnfs.s3.routes import route_to

AGAIN = "the receiving process has ended; it is started again"
GIVEN_UP = "the receiving process has ended 3 times in a row; the daemon receives by itself"


@asynccontextmanager
async def client_of(server: FakeS3Server, program: Sequence[str] = PROGRAM) -> AsyncIterator[S3Client]:
    """A client that has a process receive, which is not waited for."""
    async with S3Client(
        bucket="data-bucket",
        region="us-west-2",
        endpoint_url=server.endpoint_url,
        ca_bundle=None,
        max_connections=4,
        metrics=Metrics(),
        receiver=program,
    ) as client:
        yield client


@asynccontextmanager
async def ready(server: FakeS3Server) -> AsyncIterator[tuple[S3Client, int]]:
    """A client whose process is ready, and that process."""
    async with client_of(server) as client:
        await until_ready(client._ranges)
        yield client, process_of(client._ranges)


def is_ready(client: S3Client) -> bool:
    assert isinstance(client._ranges, ReceiverTransport)
    return client._ranges._keeper.is_ready


async def big(client: S3Client) -> int:
    """Fetch a large object; how many bytes came."""
    count = 0

    async def receive(came: Came) -> None:
        nonlocal count
        count += len(came)

    await client.get_range(RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE), receive)
    return count


def is_gone(pid: int) -> bool:
    """Whether a process has ended, and this one knows it."""
    return not Path(f"/proc/{pid}").exists()


async def lost(client: S3Client) -> None:
    """Ask for a range, which fails because the process has ended."""
    with pytest.raises(ReceiverLostError, match="the receiving process has ended"):
        await fetch(client, Received())


async def wanted(client: S3Client) -> None:
    """Ask for a range, which comes right."""
    received = Received()
    await fetch(client, received)
    assert received.data == WANTED


async def test_a_process_that_is_killed(server: FakeS3Server) -> None:
    """What is under way fails at once, and says why; the daemon receives by itself, until there is another one."""
    gate = threading.Event()
    async with ready(server) as (client, first):
        server.behaviours.append(times(1, held(gate)))
        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lost, client)
                await wait_until(server, lambda server: len(server.requests) == 1)
                os.kill(first, signal.SIGKILL)
            gate.set()
            await wanted(client)
            await until_ready(client._ranges)
        assert [(line["event"], line["reason"]) for line in logs] == [(AGAIN, "killed by SIGKILL")]
        assert process_of(client._ranges) != first
        await wanted(client)


async def test_a_process_that_dies_again_and_again(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the third death in a row the daemon receives by itself, for good, with one warning."""
    monkeypatch.setattr(receiver_keeper, "_FIRST_WAIT_SECONDS", 0.01)
    with capture_logs() as logs:
        async with ready(server) as (client, _):
            for _ in range(MOST_DEATHS):
                await until_ready(client._ranges)
                os.kill(process_of(client._ranges), signal.SIGKILL)
                await trio.to_thread.run_sync(until, lambda: not is_ready(client))
            thread = client._ranges._keeper._thread  # type: ignore[attr-defined]
            await trio.to_thread.run_sync(thread.join)
            await wanted(client)
    assert [(line["log_level"], line["event"]) for line in logs] == [*[("info", AGAIN)] * 2, ("warning", GIVEN_UP)]


async def test_a_long_life_begins_a_new_row(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deaths that are far from one another are no reason to give up."""
    monkeypatch.setattr(receiver_keeper, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(receiver_keeper, "_FIRST_WAIT_SECONDS", 0.01)
    async with ready(server) as (client, _):
        for _ in range(MOST_DEATHS + 1):
            os.kill(process_of(client._ranges), signal.SIGKILL)
            await trio.to_thread.run_sync(until, lambda: not is_ready(client))
            await until_ready(client._ranges)


@pytest.mark.parametrize("program", [("/nowhere/python",), (sys.executable, "-c", "raise SystemExit(3)")])
async def test_a_program_that_does_not_start(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, program: tuple[str, ...]
) -> None:
    """Where there is no such program, or it ends at once, the daemon receives by itself."""
    monkeypatch.setattr(receiver_keeper, "_FIRST_WAIT_SECONDS", 0.01)
    with capture_logs() as logs:
        async with client_of(server, program) as client:
            await trio.to_thread.run_sync(client._ranges._keeper._thread.join)  # type: ignore[attr-defined]
            await wanted(client)
    assert logs[-1]["event"] == GIVEN_UP
    assert logs[-1]["reason"].startswith("exit status ")


async def test_a_process_of_another_version(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was replaced by another version since the daemon began is not used."""
    monkeypatch.setattr(vbnfs.s3.receivers, "__version__", "0.0.0")
    monkeypatch.setattr(receiver_keeper, "_FIRST_WAIT_SECONDS", 0.01)
    with capture_logs() as logs:
        async with client_of(server) as client:
            await trio.to_thread.run_sync(client._ranges._keeper._thread.join)  # type: ignore[attr-defined]
            await wanted(client)
    assert (logs[0]["event"], logs[0]["version"]) == ("the vbnfs that is installed now is another one", __version__)
    assert (logs[-1]["event"], logs[-1]["reason"]) == (GIVEN_UP, "exit status 0")


async def test_a_process_that_does_not_answer(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is killed: what is under way fails then, and comes by the next one."""
    monkeypatch.setattr(receiver_keeper, "_SILENCE_SECONDS", 0.01)
    async with ready(server) as (client, first):
        monkeypatch.setattr(receiver_keeper, "_ANSWER_SECONDS", 0.05)
        os.kill(first, signal.SIGSTOP)
        with trio.fail_after(60):
            await lost(client)
        await wanted(client)


@pytest.mark.root
async def test_a_process_that_is_killed_while_it_waits_for_a_disk(
    server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot end before the disk answers, and its socket stays open: it is given up all the same.

    Once the disk answers, it is no zombie.
    """
    monkeypatch.setattr(receiver_keeper, "_SILENCE_SECONDS", 0.01)
    monkeypatch.setattr(receiver_keeper, "_END_SECONDS", 0.05)
    monkeypatch.setattr(receiver_keeper, "_KILL_SECONDS", 0.05)
    with freezable_disk(tmp_path / "disk", 16 << 20) as disk, FileSink(disk) as sink, trio.fail_after(30):
        async with ready(server) as (client, first):
            process = client._ranges._keeper._life._process  # type: ignore[attr-defined]
            freeze(disk)
            request = RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE, sink=sink)
            await client.get_range(request, Received())
            os.kill(first, signal.SIGKILL)
            with suppress(ReceiverLostError):
                await client.get_range(RangeRequest(BIG, ByteRange(0, 9), BIG_SIZE), Received())
            await wanted(client)
            await until_ready(client._ranges)
            assert process_of(client._ranges) != first
            await wanted(client)
            assert not is_gone(first)
            thaw(disk)
            await trio.to_thread.run_sync(until, lambda: process.returncode is not None)


async def test_one_that_waits_for_a_reply_answers(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes it is asked whether it is alive, and is left alone because it answers."""
    monkeypatch.setattr(receiver_keeper, "_SILENCE_SECONDS", 0.01)
    gate = threading.Event()
    async with ready(server) as (client, first):
        server.behaviours.append(times(1, held(gate)))
        asked: list[object] = []
        life = client._ranges._keeper._life  # type: ignore[attr-defined]
        put = life.sender.put
        monkeypatch.setattr(life.sender, "put", lambda *what, **more: (asked.append(what[0]), put(*what, **more)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wanted, client)
            await trio.to_thread.run_sync(until, lambda: asked.count(Ping()) > 2)
            gate.set()
        assert process_of(client._ranges) == first


async def test_the_end_of_the_client_ends_it(server: FakeS3Server) -> None:
    """When the client is closed, in the middle of a large object, too, the process is gone; so is one that starts."""
    async with ready(server) as (client, pid):
        with trio.CancelScope() as scope:

            async def receive(_: Came) -> None:
                scope.cancel()

            await client.get_range(RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE), receive)
    assert is_gone(pid)
    async with client_of(server) as client:
        await trio.to_thread.run_sync(until, lambda: client._ranges._keeper._life is not None)  # type: ignore[attr-defined]
        pid = process_of(client._ranges)
    assert is_gone(pid)
    assert not [thread for thread in threading.enumerate() if thread.name in {"receiver", "sender", "curl"}]


async def test_it_has_no_descriptor_of_the_daemons(server: FakeS3Server) -> None:
    """It has a socket to the daemon, its own wakers, and nothing that was open before it began."""
    file = os.open("/proc/self/status", os.O_RDONLY)
    os.set_inheritable(file, True)
    try:
        async with ready(server) as (client, pid):
            assert await big(client) == BIG_SIZE
            links = open_files(pid)
    finally:
        os.close(file)
    kinds = {link.partition("[")[0] for link in links if not link.startswith("anon_inode")}
    assert kinds <= {os.devnull, "socket:"}


async def test_its_descriptors_are_its_own(server: FakeS3Server) -> None:
    """Where the process can open no connection the failure is called by its name, with one warning, and passes."""
    async with ready(server) as (client, pid):
        count = len(os.listdir(f"/proc/{pid}/fd"))
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        with capture_logs() as logs:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[1]))
            for _ in range(2):
                with pytest.raises(NoDescriptorError, match="too many open files"):
                    await fetch(client, Received())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", "too many open files")]
        await wanted(client)


class FileSink(Sink):
    """Two plain files, as a content's; or none. They are open within its context."""

    def __init__(self, folder: Path | None) -> None:
        self.noted: list[tuple[int, int]] = []
        self.plan: Any = StorePlan("aa", BIG_SIZE, 0, None)
        self._files: list[IO[bytes]] = []
        for name in ("data", "checksums") if folder is not None else ():
            self._files.append((folder / name).open("w+b"))
            self._files[-1].truncate(BIG_SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            file.close()

    def opened(self, byte_range: ByteRange) -> OpenStore | None:
        if not self._files:
            return None
        data, checksums = (file.fileno() for file in self._files)
        return OpenStore(self.plan, (data, checksums), self)

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        raise AssertionError

    def note_stored(self, start: int, stop: int) -> None:
        self.noted.append((start, stop))


async def ignore(_: Came) -> None:
    """A `receive` that takes everything."""


async def test_the_files_of_a_get_are_not_closed_on_the_event_loop(server: FakeS3Server, tmp_path: Path) -> None:
    """Nor in the thread that sends messages: the last one to close them may have to wait for the disk."""
    closed_in: list[str] = []

    class Owner:
        def __del__(self) -> None:
            closed_in.append(threading.current_thread().name)

    class OwnedSink(FileSink):
        def opened(self, byte_range: ByteRange) -> OpenStore | None:
            opened = super().opened(byte_range)
            assert opened is not None
            return replace(opened, owner=Owner())

    with OwnedSink(tmp_path) as sink:
        async with ready(server) as (client, _):
            await client.get_range(RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE, sink=sink), ignore)
            await trio.to_thread.run_sync(until, lambda: closed_in)
    assert not {"MainThread", "sender"} & set(closed_in)


def test_the_process_closes_files_where_it_stores(server: FakeS3Server, tmp_path: Path) -> None:
    """A disk that is slow to close what was written stops no connection; it is closed before the GET has ended."""
    closed_in: list[str] = []

    class Store(Sink):
        def __init__(self, plan: StorePlan, *descriptors: int) -> None:
            self._descriptors = descriptors

        def store(self, start: int, parts: Sequence[bytes]) -> bool:
            return True

        def close(self) -> None:
            closed_in.append(threading.current_thread().name)
            for descriptor in self._descriptors:
                os.close(descriptor)

    base = bucket_base("data-bucket", "us-west-2", server.endpoint_url)
    get = get_of(base, RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE))
    daemon, process = (Link(end, CODEC) for end in socket.socketpair())
    setup = Setup(__version__, route_to(base, ca_bundle=None, environ={}).trust(), None, 4)
    sender = Sender(process)
    thread = threading.Thread(target=_Receiver(setup, sender, Store).run, args=(process,))
    thread.start()
    with FileSink(tmp_path) as sink:
        files = sink.opened(get.request.byte_range)
        assert files is not None
        daemon.send(Letter(Begin(7, get, files.plan, 0), descriptors=files.descriptors))
    for message in iter(lambda: heard(daemon), Ended(7)):
        match message:
            case Heard(number, Stored() as stored):
                daemon.send(Letter(Taken(number, len(stored))))
            case Heard(number, Done()):
                daemon.send(Letter(End(number)))
    assert closed_in == ["storing"]
    daemon.end()
    thread.join()
    sender.stop()
    daemon.close()
    process.close()


def heard(link: Link) -> object:
    letter = link.receive()
    assert letter is not None
    return letter.message


@pytest.mark.parametrize("is_stored", [True, False])
async def test_blocks_are_stored_by_the_process(server: FakeS3Server, tmp_path: Path, *, is_stored: bool) -> None:
    """Whole blocks go to the files that were opened for it, and none of their bytes come; without files they come."""
    came = list[Came]()

    async def receive(one: Came) -> None:
        came.append(one)

    with FileSink(tmp_path if is_stored else None) as sink:
        async with ready(server) as (client, pid):
            start = BLOCK_BYTES // 2
            await client.get_range(RangeRequest(BIG, ByteRange(start, BIG_SIZE), BIG_SIZE, sink=sink), receive)
            assert [one.start for one in came] == [start, *(one.stop for one in came[:-1])]
            assert came[-1].stop == BIG_SIZE
            if is_stored:
                assert [type(one) for one in came] == [Piece, *[Stored] * (len(came) - 1)]
                assert sum(stop - begin for begin, stop in sink.noted) == BIG_SIZE - BLOCK_BYTES
                await trio.to_thread.run_sync(until, lambda: not has_open(pid, tmp_path / "data"))
            else:
                assert {type(one) for one in came} == {Piece}


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    return str(path) in open_files(pid)


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


async def test_what_the_process_logs_is_in_the_daemons_log(server: FakeS3Server, tmp_path: Path) -> None:
    """A defect there is reported here, with its traceback; the blocks come as bytes, and the process lives."""
    came = list[Came]()

    async def receive(one: Came) -> None:
        came.append(one)

    with FileSink(tmp_path) as sink:
        sink.plan = StorePlan("\ud800", BIG_SIZE, 0, None)  # UTF-8 has no such character, so checksums have no seed
        async with ready(server) as (client, pid):
            with capture_logs() as logs:
                await client.get_range(RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE, sink=sink), receive)
            assert sum(map(len, came)) == BIG_SIZE
            assert {type(one) for one in came} == {Piece}
            assert process_of(client._ranges) == pid
    assert logs[0]["event"] == "unexpected failure of a write"
    assert "UnicodeEncodeError" in logs[0]["exception"]


async def test_a_get_that_cannot_begin_fails_at_once(server: FakeS3Server) -> None:
    """So a defect there costs this GET and no other one; nothing waits for its events."""
    version = replace(BIG, etag="µ")  # libcurl takes no such header field
    async with ready(server) as (client, pid):
        with capture_logs() as logs, pytest.raises(TransportError, match="UnicodeEncodeError"):
            await client.get_range(RangeRequest(version, ByteRange(0, BIG_SIZE), BIG_SIZE), Received())
        await wanted(client)
        assert process_of(client._ranges) == pid
    assert [line["event"] for line in logs] == ["unexpected failure to begin a GET"]


async def test_its_end_is_no_word_about_the_server() -> None:
    """A client that asks only while the server can be reached has no doubts because of it."""
    client = BreakerClient(MemoryClient(MemoryStore()))
    client._note(ReceiverLostError("killed"))
    assert not client._suspected.is_set()
    client._note(TransportError("torn"))
    assert client._suspected.is_set()
