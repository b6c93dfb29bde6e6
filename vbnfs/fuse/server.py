"""Answers the kernel: reads requests, has them answered, and leaves none without a reply.

An operation answers at once, with the reply's body, or gives something to wait for. What can be answered at once (all
that is asked of folders, attributes, cached blocks) is answered where it is read, without a task, and so is the next
request if it is there already. What has to wait gets a task of its own; the loop goes on.

Waking up costs more than answering: `ls -lR` of the whole dataset is 41,000 requests, one after the other, each sent
when the one before is answered. So the loop looks for the next one for a moment before it sleeps, unless something
else is going on in this process.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from errno import ENOSYS, EROFS
from typing import Final, Protocol

import trio

from vbnfs.fuse.device import Device, Unmounted
from vbnfs.fuse.protocol import (
    CHANGES,
    FOPEN_CACHE_DIR,
    FOPEN_KEEP_CACHE,
    ErrnoReply,
    Feature,
    Header,
    Opcode,
    agree,
    open_out,
    parse_getxattr,
    parse_listxattr,
    parse_open,
    parse_read,
    parse_release,
)

Reply = bytes | memoryview
Answer = Reply | Awaitable[Reply]

_LOOK_SECONDS: Final = 100e-6  # for the next request; a program that lists folders sends it within 20 µs
_YIELD_SECONDS: Final = 0.001  # other tasks wait no longer, but for the request that is being answered


class Operations(Protocol):
    """What a read-only file system answers. Bodies of replies are made by `protocol`.

    An operation may raise `ErrnoReply`, which is an answer. Anything else that it raises, now or when it is waited
    for, is a failure, and `errno_of` tells what is answered then.
    """

    def lookup(self, parent: int, name: bytes) -> Answer:
        """A name in a folder: `entry_out`."""

    def getattr(self, inode: int) -> Answer:
        """An inode's attributes: `attr_out`."""

    def readlink(self, inode: int, uid: int) -> Answer:
        """Where a symbolic link leads whoever asks: the path."""

    def readdirplus(self, inode: int, offset: int, size: int) -> Answer:
        """A folder's names from `offset` on, 0 or as a name before told: `entry_out` and `dirent` of each."""

    def open(self, inode: int, flags: int) -> Answer:
        """A handle on a file: `open_out`."""

    def read(self, handle: int, offset: int, size: int) -> Answer:
        """Bytes of an open file, fewer than `size` only at its end."""

    def release(self, handle: int) -> None:
        """A handle is not used any more."""

    def statfs(self) -> Answer:
        """The state of the file system: `statfs_out`."""

    def getxattr(self, inode: int, name: bytes, size: int) -> Answer:
        """A value: `xattr_out`."""

    def listxattr(self, inode: int, size: int) -> Answer:
        """The names of the extended attributes, each with a NUL behind it: `xattr_out`."""

    def look_ahead(self) -> None:
        """Nothing is asked at the moment: make ready what will be. Takes some microseconds at most."""

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes."""


def _release(operations: Operations, _: Header, body: bytes) -> Answer:
    operations.release(parse_release(body))
    return b""


def _readdirplus(operations: Operations, header: Header, body: bytes) -> Answer:
    asked = parse_read(body)
    return operations.readdirplus(header.inode, asked.offset, asked.size)


def _read(operations: Operations, _: Header, body: bytes) -> Answer:
    asked = parse_read(body)
    return operations.read(asked.handle, asked.offset, asked.size)


def _getxattr(operations: Operations, header: Header, body: bytes) -> Answer:
    size, name = parse_getxattr(body)
    return operations.getxattr(header.inode, name, size)


_ANSWERED_BY: Final[Mapping[int, Callable[[Operations, Header, bytes], Answer]]] = {
    Opcode.LOOKUP: lambda operations, header, body: operations.lookup(header.inode, body[:-1]),
    Opcode.GETATTR: lambda operations, header, _: operations.getattr(header.inode),
    Opcode.READLINK: lambda operations, header, _: operations.readlink(header.inode, header.uid),
    Opcode.OPEN: lambda operations, header, body: operations.open(header.inode, parse_open(body)),
    Opcode.READ: _read,
    Opcode.STATFS: lambda operations, _, body: operations.statfs(),
    Opcode.RELEASE: _release,
    Opcode.GETXATTR: _getxattr,
    Opcode.LISTXATTR: lambda operations, header, body: operations.listxattr(header.inode, parse_listxattr(body)),
    Opcode.READDIRPLUS: _readdirplus,
    Opcode.DESTROY: lambda operations, header, body: b"",
}
# INTERRUPT may be ignored. Answering EINTR would let a program's timer signals break its reads, which no local disk
# does; a killed program does not wait for pages anyway.
_NOT_ANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})


class Server:
    """Serves one mount. While `is_busy`, there is more to do than to look for requests."""

    def __init__(
        self, device: Device, operations: Operations, *, is_busy: Callable[[], bool] = lambda: False
    ) -> None:
        self.agreed = trio.Event()  # set when the kernel has asked its first question, and is free to ask others
        self._device = device
        self._operations = operations
        self._is_busy = is_busy
        self._reading = trio.CancelScope()
        self._waiting = 0  # requests that have a task
        self._yielded = 0.0
        self._folders_are_opened = True

    async def serve(self) -> None:
        """Answer until the mount is gone, or `stop` was called and what was asked before is answered."""
        async with trio.open_nursery() as nursery:
            try:
                with self._reading:
                    await self._answer_all(nursery)
            except Unmounted:
                nursery.cancel_scope.cancel()  # nobody waits for these any more

    def stop(self) -> None:
        """Take no more requests."""
        self._reading.cancel()

    async def _answer_all(self, nursery: trio.Nursery) -> None:
        while True:
            request = self._device.read()
            if request is None:
                await self._wait()
            else:
                self._answer(nursery, *request)
            if time.perf_counter() - self._yielded > _YIELD_SECONDS:
                await trio.lowlevel.checkpoint()
                self._yielded = time.perf_counter()

    async def _wait(self) -> None:
        """Return when there is a request, or soon after."""
        if not self._waiting and not self._is_busy():
            self._operations.look_ahead()
            deadline = time.perf_counter() + _LOOK_SECONDS
            while time.perf_counter() < deadline:
                os.sched_yield()  # the program that was just answered may share our processor
                if self._device.is_readable():
                    return
        await trio.lowlevel.wait_readable(self._device.descriptor)
        self._yielded = time.perf_counter()

    def _answer(self, nursery: trio.Nursery, header: Header, body: bytes) -> None:
        """Reply to a request, or begin to."""
        if header.opcode in _NOT_ANSWERED:
            return
        if header.opcode == Opcode.INIT:
            self._device.reply(header.unique, self._agree(body))
            self.agreed.set()
            return
        try:
            answer = self._decide(header, body)
            if isinstance(answer, bytes | memoryview):
                self._device.reply(header.unique, answer)
            else:
                self._waiting += 1
                nursery.start_soon(self._answer_later, header, answer)
        except Exception as error:  # of the reply too: one that the kernel does not take
            self._device.refuse(header.unique, self._errno_of(header, error))

    def _agree(self, init: bytes) -> bytes:
        """Raises `MountError`, which ends the mount: a kernel that cannot be served asks for nothing else."""
        agreement = agree(init)
        self._folders_are_opened = Feature.NO_OPENDIR_SUPPORT not in agreement.features
        return agreement.body

    async def _answer_later(self, header: Header, answer: Awaitable[Reply]) -> None:
        try:
            self._device.reply(header.unique, await answer)
        except Exception as error:
            self._device.refuse(header.unique, self._errno_of(header, error))
        finally:
            self._waiting -= 1

    def _decide(self, header: Header, body: bytes) -> Answer:
        if (answered_by := _ANSWERED_BY.get(header.opcode)) is not None:
            return answered_by(self._operations, header, body)
        if header.opcode == Opcode.OPENDIR and self._folders_are_opened:
            return open_out(0, flags=FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR)
        # Never heard of: the kernel does without, and mostly does not ask again.
        raise ErrnoReply(EROFS if header.opcode in CHANGES else ENOSYS)

    def _errno_of(self, header: Header, error: Exception) -> int:
        if isinstance(error, ErrnoReply):
            return error.errno
        return self._operations.errno_of(Opcode(header.opcode).name.lower(), error)
