"""Requests and their answers, with a socket in place of /dev/fuse: one message is one request or one reply."""

import errno
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import trio

from tests.fuse.replies import handle_of
from vbnfs.errors import MountError
from vbnfs.fuse import replies
from vbnfs.fuse.device import Device, Unmounted
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Attr,
    Buffer,
    DirEntry,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
)
from vbnfs.fuse.protocol import CHANGES, Opcode
from vbnfs.fuse.server import Server

ROOT = 1
UID = 1234
PID = 99
EVERY_FLAG = 0xFFFFFFFF
NO_OPENDIR_SUPPORT = 1 << 24
FAILURE = errno.EIO
ENTRY = Entry(Attr(7, 0o100444, 11, 1, 2, 1000, 100, 5_000_000_001, 4096), 1, 1)
MOST_REQUESTS = 200_000  # of a flood; a loop that lets nobody else run ends here


class Reply(NamedTuple):
    """A reply, taken apart."""

    unique: int
    errno: int
    body: bytes


@dataclass
class Kernel:
    """The kernel's end: asks, and takes the replies."""

    end: socket.socket
    _uniques: Iterator[int] = field(default_factory=lambda: itertools.count(2, 2))

    def ask(self, opcode: int, body: bytes = b"", *, inode: int = ROOT, pid: int = PID) -> int:
        """Send a request; its `unique`."""
        unique = next(self._uniques)
        self.end.send(struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, inode, UID, UID, pid, 0, 0) + body)
        return unique

    async def reply(self) -> Reply:
        """The next reply."""
        await trio.lowlevel.wait_readable(self.end)
        return self.take()

    def take(self) -> Reply:
        """The reply that is there already."""
        reply = self.end.recv(1 << 20)
        length, number, unique = struct.unpack_from("=IiQ", reply)
        assert length == len(reply)
        return Reply(unique, -number, reply[16:])

    async def answer_to(self, opcode: int, body: bytes = b"", *, inode: int = ROOT) -> Reply:
        """Ask, and take the reply, which must be to this question."""
        unique = self.ask(opcode, body, inode=inode)
        reply = await self.reply()
        assert reply.unique == unique
        return reply

    def is_silent(self) -> bool:
        """Whether no reply is waiting to be taken."""
        try:
            self.end.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


class Answers:
    """Operations that remember what was asked, and answer as a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.looked_ahead = 0
        self.ahead: Listing | None = None
        self.answer: Callable[[], Any] = lambda: ENTRY

    def _asked(self, *question: object) -> Any:
        self.asked.append(question)
        return self.answer()

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        return self._asked("lookup", parent, name)

    def getattr(self, inode: int) -> Answer[Entry]:
        return self._asked("getattr", inode)

    def readlink(self, inode: int, uid: int, pid: int) -> Answer[bytes]:
        return self._asked("readlink", inode, uid, pid)

    def list(self, inode: int) -> Answer[Listing]:
        return self._asked("list", inode)

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        return self._asked("open", inode, flags, pid)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        return self._asked("read", handle, offset, size)

    def release(self, handle: int) -> None:
        self._asked("release", handle)

    def statfs(self) -> Answer[FileSystemStatus]:
        return self._asked("statfs")

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        return self._asked("getxattr", inode, name)

    def listxattr(self, inode: int) -> Answer[Sequence[bytes]]:
        return self._asked("listxattr", inode)

    def look_ahead(self) -> Listing | None:
        self.looked_ahead += 1
        return self.ahead

    def errno_of(self, request: str, error: Exception) -> int:
        self.asked.append(("errno_of", request, type(error)))
        return FAILURE


class Looking(Device):
    """A device that counts how often it is looked at, and may have something happen then."""

    looks = 0
    on_look: Callable[[], object] = staticmethod(lambda: None)

    def is_readable(self) -> bool:
        self.looks += 1
        self.on_look()
        return super().is_readable()


@dataclass
class World:
    """A server, and both of its ends."""

    kernel: Kernel
    device: Looking
    answers: Answers
    is_busy: bool = False

    def __post_init__(self) -> None:
        self.server = Server(self.device, self.answers, is_busy=lambda: self.is_busy)


@pytest.fixture
def world() -> Iterator[World]:
    """A server that does not serve yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device = Looking(theirs.detach())
    ours.setblocking(False)  # what is not there is not waited for
    with ours:
        yield World(Kernel(ours), device, Answers())
    device.close()


@pytest.fixture
def serving(world: World, nursery: trio.Nursery) -> World:
    """A server that serves."""
    nursery.start_soon(world.server.serve)
    return world


def init_in(minor: int, *, flags: int) -> bytes:
    """`struct fuse_init_in`."""
    return struct.pack("=IIII48x", 7, minor, 131072, flags)


def raised(error: Exception) -> Callable[[], Any]:
    """An answer that raises at once."""

    def answer() -> Any:
        raise error

    return answer


def at_once(outcome: object) -> Callable[[], Any]:
    """An answer that need not wait."""
    return lambda: outcome


def later(outcome: object) -> Callable[[], Any]:
    """An answer that has to wait a little."""

    async def answer() -> object:
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return answer


LISTING = Listing([DirEntry(b"one", 7, 0, None), DirEntry(b"two", 8, 0, ENTRY)])
STATUS = FileSystemStatus(block_bytes=4096, blocks=9, free_blocks=8, available_blocks=5, inodes=7, longest_name=255)
# What is asked, the operation that answers, its value, and the reply's body.
QUESTIONS = [
    (Opcode.LOOKUP, b"na\xffme\0", ("lookup", 5, b"na\xffme"), ENTRY, replies.lookup(ENTRY)),
    (Opcode.LOOKUP, b"none\0", ("lookup", 5, b"none"), Absent(1), replies.lookup(Absent(1))),
    (Opcode.GETATTR, bytes(16), ("getattr", 5), ENTRY, replies.attributes(ENTRY)),
    (Opcode.READLINK, b"", ("readlink", 5, UID, PID), b"path", b"path"),
    (
        Opcode.READDIRPLUS,
        struct.pack("=QQI20x", 0, 1, 4096),
        ("list", 5),
        LISTING,
        replies.listing_part(LISTING, 1, 4096),
    ),
    (Opcode.OPEN, struct.pack("=II", 0o100000, 0), ("open", 5, 0o100000, 99), Opened(3), replies.opened(Opened(3))),
    (Opcode.READ, struct.pack("=QQI20x", 3, 1 << 40, 131072), ("read", 3, 1 << 40, 131072), b"data", b"data"),
    (Opcode.READ, struct.pack("=QQI20x", 3, 0, 4), ("read", 3, 0, 4), memoryview(b"view"), b"view"),
    (Opcode.STATFS, b"", ("statfs",), STATUS, replies.statfs(STATUS)),
    (Opcode.GETXATTR, struct.pack("=II", 64, 0) + b"user.x\0", ("getxattr", 5, b"user.x"), b"value", b"value"),
    (
        Opcode.GETXATTR,
        struct.pack("=II", 0, 0) + b"user.x\0",
        ("getxattr", 5, b"user.x"),
        b"value",
        replies.xattr(b"value", 0),
    ),
    (Opcode.LISTXATTR, struct.pack("=II", 64, 0), ("listxattr", 5), [b"user.x", b"user.y"], b"user.x\0user.y\0"),
]
ids = [f"{opcode.name} {number}" for number, (opcode, *_) in enumerate(QUESTIONS)]


@pytest.mark.parametrize("when", [at_once, later])
@pytest.mark.parametrize(("opcode", "body", "asked", "value", "reply"), QUESTIONS, ids=ids)
async def test_every_question_has_its_operation(
    serving: World,
    opcode: int,
    body: bytes,
    asked: tuple[object, ...],
    value: object,
    reply: bytes,
    when: Callable[[object], Callable[[], Any]],
) -> None:
    """Each request reaches its operation with what it says, and is answered once: at once, or when it is known."""
    serving.answers.answer = when(value)
    assert await serving.kernel.answer_to(opcode, body, inode=5) == (2, 0, reply)
    assert serving.answers.asked == [asked]
    await trio.testing.wait_all_tasks_blocked()
    assert serving.kernel.is_silent()


async def test_a_value_that_does_not_fit(serving: World) -> None:
    """A value that is longer than the kernel has room for is ERANGE, and no failure."""
    serving.answers.answer = later(b"value")
    body = struct.pack("=II", 4, 0) + b"user.x\0"
    assert await serving.kernel.answer_to(Opcode.GETXATTR, body) == (2, errno.ERANGE, b"")
    assert serving.answers.asked == [("getxattr", ROOT, b"user.x")]


@pytest.mark.parametrize(
    ("opcode", "body", "asked"),
    [(Opcode.RELEASE, struct.pack("=Q16x", 3), [("release", 3)]), (Opcode.DESTROY, b"", [])],
)
async def test_answers_without_words(
    serving: World, opcode: int, body: bytes, asked: list[tuple[object, ...]]
) -> None:
    """Closing a file, and the end of a mount, are answered with nothing but that they have been heard."""
    assert await serving.kernel.answer_to(opcode, body) == (2, 0, b"")
    assert serving.answers.asked == asked


@pytest.mark.parametrize("in_what_way", [raised, later], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("error", "number"),
    [(ErrnoReply(errno.ENODATA), errno.ENODATA), (ZeroDivisionError(), FAILURE), (MemoryError(), FAILURE)],
    ids=repr,
)
async def test_failures_are_answered(
    serving: World, in_what_way: Callable[[Exception], Callable[[], Any]], error: Exception, number: int
) -> None:
    """A refusal is answered as it is, any other exception as `errno_of` tells; and the next request is served."""
    serving.answers.answer = in_what_way(error)
    assert await serving.kernel.answer_to(Opcode.READLINK) == (2, number, b"")
    asked = [] if isinstance(error, ErrnoReply) else [("errno_of", "readlink", type(error))]
    assert serving.answers.asked == [("readlink", ROOT, UID, PID), *asked]
    serving.answers.answer = lambda: b"fine"
    assert await serving.kernel.answer_to(Opcode.READLINK) == (4, 0, b"fine")


async def test_closing_that_fails(serving: World) -> None:
    """A failure while a file is closed is answered like any other."""
    serving.answers.answer = raised(KeyError())
    assert await serving.kernel.answer_to(Opcode.RELEASE, bytes(24)) == (2, FAILURE, b"")


async def test_a_request_cut_short(serving: World) -> None:
    """A body that is too short for its structure is a failure, and no more."""
    assert await serving.kernel.answer_to(Opcode.READ, b"short") == (2, FAILURE, b"")
    assert serving.answers.asked == [("errno_of", "read", struct.error)]


@pytest.mark.parametrize(
    "opcode",
    [
        *(20, 25, 28, 29, 30, 31, 32, 33, 34),  # FSYNC FLUSH READDIR RELEASEDIR FSYNCDIR GETLK SETLK SETLKW ACCESS
        *(37, 39, 40, 46, 47, 48, 49, 50, 52),  # BMAP IOCTL POLL LSEEK COPY_FILE_RANGE, DAX, SYNCFS STATX
        *(7, 53, 4096, 436207616),
    ],
)
async def test_what_was_never_heard_of(serving: World, opcode: int) -> None:
    """Opcodes that nothing is known of, of today and of the future, are ENOSYS: the kernel does without."""
    assert await serving.kernel.answer_to(opcode, bytes(64)) == (2, errno.ENOSYS, b"")
    assert serving.answers.asked == []


@pytest.mark.parametrize("opcode", sorted(CHANGES), ids=lambda opcode: opcode.name)
async def test_nothing_is_changed(serving: World, opcode: int) -> None:
    """Whatever changes files is EROFS."""
    assert await serving.kernel.answer_to(opcode, bytes(64)) == (2, errno.EROFS, b"")
    assert serving.answers.asked == []


@pytest.mark.parametrize("opcode", [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT])
async def test_what_wants_no_answer(serving: World, opcode: int) -> None:
    """The kernel waits for no answer to FORGET, BATCH_FORGET and INTERRUPT, and takes none."""
    serving.kernel.ask(opcode, bytes(16))
    unique = serving.kernel.ask(Opcode.GETATTR)
    assert (await serving.kernel.reply()).unique == unique
    await trio.testing.wait_all_tasks_blocked()
    assert serving.kernel.is_silent()


@pytest.fixture
def stopped() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the signals that it is sent pending."""
    code = "import signal, time; signal.signal(signal.SIGINT, lambda *_: None); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process
        process.kill()


async def interrupted(serving: World, opcode: Opcode, pid: int) -> tuple[int, trio.Event]:
    """A request of a program that waits and has got a signal; and what has it answered."""
    known = trio.Event()

    async def answer() -> Any:
        await known.wait()
        return b"whole" if opcode == Opcode.READ else ENTRY

    serving.answers.answer = answer
    unique = serving.kernel.ask(opcode, bytes(40), pid=pid)
    serving.kernel.ask(Opcode.INTERRUPT, struct.pack("=Q", unique))
    await trio.testing.wait_all_tasks_blocked()
    return unique, known


async def test_a_read_is_not_interrupted(serving: World, stopped: subprocess.Popen[bytes]) -> None:
    """An interrupted read is answered with what it asked for: as on a local disk, a signal breaks nothing."""
    stopped.send_signal(signal.SIGINT)
    unique, known = await interrupted(serving, Opcode.READ, stopped.pid)
    assert serving.kernel.is_silent()
    known.set()
    assert await serving.kernel.reply() == (unique, 0, b"whole")


@pytest.mark.parametrize("opcode", [Opcode.GETATTR, Opcode.LOOKUP, Opcode.OPEN, Opcode.GETXATTR, Opcode.READLINK])
async def test_what_waits_for_a_size_is_interrupted(
    serving: World, stopped: subprocess.Popen[bytes], opcode: Opcode
) -> None:
    """A program that is meant to end gets EINTR for a name, a size or an open file; a timer's signal is ignored.

    Also where the timer's signal was first: the kernel says nothing of a second one.
    """
    stopped.send_signal(signal.SIGALRM)
    unique, _ = await interrupted(serving, opcode, stopped.pid)
    assert serving.kernel.is_silent()
    stopped.send_signal(signal.SIGINT)
    assert await serving.kernel.reply() == (unique, errno.EINTR, b"")
    assert [question for question, *_ in serving.answers.asked] == [opcode.name.lower()]  # it is no failure
    serving.answers.answer = lambda: ENTRY
    assert (await serving.kernel.answer_to(Opcode.GETATTR)).errno == 0


async def test_an_interrupted_request_that_is_answered(serving: World, stopped: subprocess.Popen[bytes]) -> None:
    """What a timer's signal interrupts is answered as soon as it is known, once; stopping waits for nothing then."""
    stopped.send_signal(signal.SIGALRM)
    unique, known = await interrupted(serving, Opcode.GETATTR, stopped.pid)
    known.set()
    assert await serving.kernel.reply() == (unique, 0, replies.attributes(ENTRY))
    serving.kernel.ask(Opcode.INTERRUPT, struct.pack("=Q", unique))
    await trio.testing.wait_all_tasks_blocked()
    assert serving.kernel.is_silent()


@pytest.mark.parametrize("body", [b"", b"short", struct.pack("=Q", 4), bytes(16)])
async def test_an_interrupt_of_nothing(serving: World, body: bytes) -> None:
    """An INTERRUPT of a request that there is not, or that is cut short, changes nothing."""
    serving.kernel.ask(Opcode.INTERRUPT, body)
    assert (await serving.kernel.answer_to(Opcode.GETATTR)).errno == 0


async def test_folders_of_a_kernel_that_need_not_open_them(serving: World) -> None:
    """Where the kernel can do without opening folders, it is answered so: ENOSYS, after which listings are kept."""
    reply = await serving.kernel.answer_to(Opcode.INIT, init_in(38, flags=EVERY_FLAG))
    assert (reply.errno, struct.unpack_from("=II", reply.body)) == (0, (7, 38))
    assert (await serving.kernel.answer_to(Opcode.OPENDIR, bytes(8))).errno == errno.ENOSYS


async def test_folders_of_a_kernel_that_opens_them(serving: World) -> None:
    """Where it cannot, a folder is opened, with a listing that is kept as well."""
    reply = await serving.kernel.answer_to(Opcode.INIT, init_in(27, flags=EVERY_FLAG & ~NO_OPENDIR_SUPPORT))
    assert (reply.errno, struct.unpack_from("=II", reply.body)) == (0, (7, 27))
    reply = await serving.kernel.answer_to(Opcode.OPENDIR, bytes(8))
    assert (reply.errno, handle_of(reply.body), struct.unpack_from("=I", reply.body, 8)) == (0, 0, (2 | 8,))
    assert (await serving.kernel.answer_to(29, bytes(24))).errno == errno.ENOSYS  # RELEASEDIR


async def test_a_kernel_that_is_too_old(world: World) -> None:
    """A kernel that cannot be served ends the mount, and the reason tells its version."""
    world.kernel.ask(Opcode.INIT, init_in(22, flags=EVERY_FLAG))
    with pytest.raises(ExceptionGroup) as caught:
        await world.server.serve()
    [error] = caught.value.exceptions
    assert isinstance(error, MountError)
    assert "FUSE 7.22" in str(error)


async def test_nobody_waits_for_another(serving: World) -> None:
    """A request that waits holds up no other; all are answered, each once, in the order in which they are known."""
    events = [trio.Event() for _ in range(20)]
    waiting = iter(events)

    def answer() -> Any:
        event = next(waiting)

        async def known() -> Buffer:
            await event.wait()
            return b"late"

        return known()

    serving.answers.answer = answer
    asked = [serving.kernel.ask(Opcode.READ, bytes(40)) for _ in events]
    await trio.testing.wait_all_tasks_blocked()
    assert serving.kernel.is_silent()
    serving.answers.answer = lambda: b"at once"
    assert (await serving.kernel.answer_to(Opcode.READLINK)).body == b"at once"
    for event, unique in reversed(list(zip(events, asked, strict=True))):
        event.set()
        assert await serving.kernel.reply() == (unique, 0, b"late")
    assert serving.kernel.is_silent()


async def test_stopping(world: World) -> None:
    """After `stop` no request is taken, and what was asked before is answered before the server ends."""
    known = trio.Event()

    async def answer() -> Buffer:
        await known.wait()
        return b"late"

    world.answers.answer = answer
    ended = trio.Event()

    async def serve() -> None:
        await world.server.serve()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        unique = world.kernel.ask(Opcode.READ, bytes(40))
        await trio.testing.wait_all_tasks_blocked()
        world.server.stop()
        world.kernel.ask(Opcode.GETATTR)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        known.set()
    assert world.kernel.take() == (unique, 0, b"late")
    assert world.kernel.is_silent()
    assert world.answers.asked == [("read", 0, 0, 0)]


async def test_stopping_without_work(world: World) -> None:
    """A server that is stopped while it has nothing to do ends at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.server.serve)
        await trio.testing.wait_all_tasks_blocked()
        world.server.stop()


async def test_stopping_before_the_beginning(world: World) -> None:
    """A server that is stopped before it serves does not begin to wait."""
    world.server.stop()
    await world.server.serve()


async def test_the_end_of_the_mount(world: World) -> None:
    """When the mount is gone, nobody waits any more: what is still under way is cancelled, and the server ends."""
    cancelled = trio.Event()

    async def answer() -> Buffer:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    world.answers.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.server.serve)
        world.kernel.ask(Opcode.READ, bytes(40))
        await trio.testing.wait_all_tasks_blocked()
        world.kernel.end.close()
    assert cancelled.is_set()


@pytest.mark.parametrize("error", [None, ErrnoReply(errno.ENODATA)], ids=["reply", "refusal"])
async def test_an_answer_after_the_end(world: World, error: Exception | None) -> None:
    """An answer that nobody can take any more, a refusal or a reply, is no failure."""

    def answer() -> Any:
        world.kernel.end.close()
        if error is not None:
            raise error
        return b"late"

    world.answers.answer = answer
    world.kernel.ask(Opcode.READ, bytes(40))
    await world.server.serve()
    assert world.answers.asked == [("read", 0, 0, 0)]


async def test_a_flood_of_requests(serving: World) -> None:
    """A program that asks without end leaves other tasks their turns."""
    kernel, asked = serving.kernel, itertools.count(1)
    turns = 0

    def answer() -> Any:
        while not kernel.is_silent():
            kernel.take()
        if turns < 10 and next(asked) < MOST_REQUESTS:
            kernel.ask(Opcode.GETATTR)
        return ENTRY

    serving.answers.answer = answer
    kernel.ask(Opcode.GETATTR)
    while turns < 10:  # which task of a batch comes first is left to chance
        await trio.lowlevel.checkpoint()
        turns += 1
    assert 5 < next(asked) < MOST_REQUESTS


async def test_requests_that_vanish(world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has something to tell and then has not, again and again, leaves other tasks their turns."""
    reads = itertools.count(1)

    def vanish() -> None:
        if next(reads) > MOST_REQUESTS:
            raise Unmounted

    world.kernel.ask(Opcode.GETATTR)
    monkeypatch.setattr(world.device, "read", vanish)
    nursery.start_soon(world.server.serve)
    for _ in range(10):  # which task of a batch comes first is left to chance
        await trio.lowlevel.checkpoint()
    assert 5 < next(reads) < MOST_REQUESTS


async def test_looking_before_sleeping(world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes while the server looks for it is found at the first look, without sleeping."""
    monkeypatch.setattr("vbnfs.fuse.server._LOOK_SECONDS", 10.0)
    looks: list[int] = []

    def ask_once() -> None:
        if not looks:
            looks.append(world.kernel.ask(Opcode.GETATTR))

    def answer() -> Any:
        looks.append(world.device.looks)
        world.is_busy = True
        return ENTRY

    world.device.on_look, world.answers.answer = ask_once, answer
    nursery.start_soon(world.server.serve)
    assert (await world.kernel.reply()).body == replies.attributes(ENTRY)
    assert looks == [2, 1]


async def test_looking_ahead(world: World, nursery: trio.Nursery) -> None:
    """When nothing is asked, what may be asked next is made ready, once; not while there is other work."""
    world.is_busy = True
    nursery.start_soon(world.server.serve)
    await world.kernel.answer_to(Opcode.GETATTR)
    await trio.testing.wait_all_tasks_blocked()
    assert world.answers.looked_ahead == 0
    world.is_busy = False
    await world.kernel.answer_to(Opcode.GETATTR)
    await trio.testing.wait_all_tasks_blocked()
    assert world.answers.looked_ahead == 1


async def test_a_listing_made_ahead_is_packed(world: World, nursery: trio.Nursery) -> None:
    """A listing that will probably be asked for is packed while nothing else is asked."""
    world.answers.ahead = Listing([DirEntry(b"one", 7, 0, ENTRY)])
    nursery.start_soon(world.server.serve)
    await trio.testing.wait_all_tasks_blocked()
    assert world.answers.ahead.packed == replies.whole_listing(world.answers.ahead)


async def test_not_looking_while_there_is_work(world: World, nursery: trio.Nursery) -> None:
    """While the process has other work, the server sleeps until there is a request, and does not look for one."""
    world.is_busy = True
    nursery.start_soon(world.server.serve)
    await world.kernel.answer_to(Opcode.GETATTR)
    await trio.testing.wait_all_tasks_blocked()
    assert world.device.looks == 0
    world.is_busy = False
    await world.kernel.answer_to(Opcode.GETATTR)
    await trio.testing.wait_all_tasks_blocked()
    assert world.device.looks > 0


async def test_not_looking_while_a_request_waits(world: World, nursery: trio.Nursery) -> None:
    """While a request waits for its answer, the server does not look either; when it is answered, it does again."""
    world.is_busy = True
    known = trio.Event()

    async def answer() -> Buffer:
        await known.wait()
        raise ErrnoReply(errno.EIO)

    world.answers.answer = answer
    nursery.start_soon(world.server.serve)
    world.kernel.ask(Opcode.READ, bytes(40))
    await trio.testing.wait_all_tasks_blocked()
    world.is_busy = False
    world.kernel.ask(Opcode.FORGET)
    await trio.testing.wait_all_tasks_blocked()
    assert world.device.looks == 0
    known.set()
    await world.kernel.reply()
    world.kernel.ask(Opcode.FORGET)
    await trio.testing.wait_all_tasks_blocked()
    assert world.device.looks > 0
