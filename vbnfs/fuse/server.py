"""Answers the kernel: reads requests, has them answered, and leaves none without a reply.

An operation answers at once, with the reply's body, or gives something to wait for. What can be answered at once (all
that is asked of folders, attributes, cached blocks) is answered where it is read, without a task, and so is the next
request if it is there already. What has to wait gets a task of its own; the loop goes on.

A program that gets a signal while it waits is asked about by INTERRUPT (interrupted.py).

Waking up costs more than answering: `ls -lR` of the whole dataset is 41,000 requests, one after the other, each sent
when the one before is answered. So the loop looks for the next one for a moment before it sleeps, unless something
else is going on in this process.
"""

import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from errno import EINTR, ENOSYS, ENOTSUP, EROFS
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import trio

from vbnfs.fuse import replies
from vbnfs.fuse.device import Device, Unmounted, open_mount
from vbnfs.fuse.interrupted import Interruptible
from vbnfs.fuse.operations import Answer, Backing, Buffer, ErrnoReply, Operations, is_later
from vbnfs.fuse.protocol import (
    CHANGES,
    Feature,
    Header,
    Opcode,
    agree,
    attributes_changed,
    parse_getxattr,
    parse_interrupt,
    parse_listxattr,
    parse_open,
    parse_read,
    parse_release,
)

_T = TypeVar("_T")

_LOOK_SECONDS: Final = 100e-6  # for the next request; a program that lists folders sends it within 20 µs
_YIELD_SECONDS: Final = 0.001  # other tasks wait no longer, but for the request that is being answered


def _packed(answer: Answer[_T], pack: Callable[[_T], Buffer]) -> Answer[Buffer]:
    """The reply's body, at once or when the value is known."""
    return _pack_later(answer, pack) if is_later(answer) else pack(cast(_T, answer))


async def _pack_later(answer: Coroutine[Any, Any, _T], pack: Callable[[_T], Buffer]) -> Buffer:
    return pack(await answer)


def _lookup(operations: Operations, header: Header, body: bytes) -> Answer[Buffer]:
    found: Any = operations.lookup(header.inode, body[:-1])  # mypy infers no union of values
    return _packed(found, replies.lookup)


def _getattr(operations: Operations, header: Header, _: bytes) -> Answer[Buffer]:
    return _packed(operations.getattr(header.inode), replies.attributes)


def _readlink(operations: Operations, header: Header, _: bytes) -> Answer[Buffer]:
    return operations.readlink(header.inode, header.uid, header.pid)


def _open(operations: Operations, header: Header, body: bytes) -> Answer[Buffer]:
    return _packed(operations.open(header.inode, parse_open(body), header.pid), replies.opened)


def _release(operations: Operations, _: Header, body: bytes) -> Answer[Buffer]:
    operations.release(parse_release(body))
    return b""


def _readdirplus(operations: Operations, header: Header, body: bytes) -> Answer[Buffer]:
    part = parse_read(body)
    listing = operations.list(header.inode)
    return _packed(listing, lambda listing: replies.listing_part(listing, part.offset, part.size))


def _read(operations: Operations, _: Header, body: bytes) -> Answer[Buffer]:
    part = parse_read(body)
    return operations.read(part.handle, part.offset, part.size)


def _statfs(operations: Operations, _: Header, body: bytes) -> Answer[Buffer]:
    return _packed(operations.statfs(), replies.statfs)


def _getxattr(operations: Operations, header: Header, body: bytes) -> Answer[Buffer]:
    size, name = parse_getxattr(body)
    return _packed(operations.getxattr(header.inode, name), lambda value: replies.xattr(value, size))


def _listxattr(operations: Operations, header: Header, body: bytes) -> Answer[Buffer]:
    size = parse_listxattr(body)
    return _packed(operations.listxattr(header.inode), lambda names: replies.xattr_names(names, size))


_ANSWERED_BY: Final[Mapping[int, Callable[[Operations, Header, bytes], Answer[Buffer]]]] = {
    Opcode.LOOKUP: _lookup,
    Opcode.GETATTR: _getattr,
    Opcode.READLINK: _readlink,
    Opcode.OPEN: _open,
    Opcode.READ: _read,
    Opcode.STATFS: _statfs,
    Opcode.RELEASE: _release,
    Opcode.GETXATTR: _getxattr,
    Opcode.LISTXATTR: _listxattr,
    Opcode.READDIRPLUS: _readdirplus,
    Opcode.DESTROY: lambda operations, header, body: b"",
}
_NOT_ANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET})


def mount(
    mountpoint: Path,
    options: Iterable[str],
    operations: Operations,
    *,
    is_busy: Callable[[], bool],
    stack_depth: int = 0,
) -> "Server":
    """Mount on a folder, with options as after `-o`. Raises `MountError` with fusermount3's reason."""
    return Server(open_mount(mountpoint, options), operations, is_busy=is_busy, stack_depth=stack_depth)


class Server:
    """Serves one mount: the native engine's `Connection`.

    While `is_busy`, there is more to do than to look for requests. `stack_depth`: see `engines.Mount`.
    """

    def __init__(
        self,
        device: Device,
        operations: Operations,
        *,
        is_busy: Callable[[], bool] = lambda: False,
        stack_depth: int = 0,
    ) -> None:
        self.agreed = trio.Event()  # set when the kernel has asked its first question, and is free to ask others
        self._device = device
        self._operations = operations
        self._is_busy = is_busy
        self._reading = trio.CancelScope()
        self._waiting: dict[int, Interruptible] = {}  # requests that have a task, by `unique`
        self._yielded = 0.0
        self._folders_are_opened = True
        self._stack_depth = stack_depth
        self._has_passthrough = False

    async def serve(self) -> None:
        """Answer until the mount is gone, or `stop` was called and what was asked before is answered."""
        async with trio.open_nursery() as nursery:
            try:
                with self._reading:
                    await self._answer_all(nursery)
            except Unmounted:
                nursery.cancel_scope.cancel()  # no program waits for these any more

    def stop(self) -> None:
        """Take no more requests."""
        self._reading.cancel()

    def invalidate_attributes(self, inode: int) -> None:
        """Have the kernel ask for an inode's attributes again; may be called in a thread. Raises `OSError`."""
        self._device.notify(attributes_changed(inode))

    def open_backing(self, descriptor: int) -> Backing:
        """Have the kernel be able to read an open file by itself. Raises `OSError`, see `engines.Connection`."""
        if not self._has_passthrough:
            raise OSError(ENOTSUP, "the kernel does not offer it")
        return Backing(self._device.open_backing(descriptor))

    def close_backing(self, backing: Backing) -> None:
        """No file is opened with this backing any more."""
        with suppress(OSError):  # the mount is gone, and all of them with it
            self._device.close_backing(backing.number)

    def close(self) -> None:
        """End the connection: the kernel answers requests that still wait."""
        self._device.close()

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
            self._look_ahead()
            deadline = time.perf_counter() + _LOOK_SECONDS
            while time.perf_counter() < deadline:
                os.sched_yield()  # the program that was just answered may share our processor
                if self._device.is_readable():
                    return
        await trio.lowlevel.wait_readable(self._device.descriptor)
        self._yielded = time.perf_counter()

    def _look_ahead(self) -> None:
        listing = self._operations.look_ahead()
        if listing is not None:
            listing.pack(replies.whole_listing)

    def _answer(self, nursery: trio.Nursery, header: Header, body: bytes) -> None:
        """Reply to a request, or begin to."""
        if header.opcode in _NOT_ANSWERED:
            return
        if header.opcode == Opcode.INTERRUPT:  # nor is this
            self._interrupt(nursery, body)
            return
        if header.opcode == Opcode.INIT:
            self._device.reply(header.unique, self._agree(body))
            self.agreed.set()
            return
        try:
            answer = self._decide(header, body)
            if isinstance(answer, Buffer):
                self._device.reply(header.unique, answer)
            else:
                waiting = Interruptible(header.pid, is_read=header.opcode == Opcode.READ)
                self._waiting[header.unique] = waiting
                nursery.start_soon(self._answer_later, header, answer, waiting)
        except Exception as error:  # of the reply too: one that the kernel does not take
            self._device.refuse(header.unique, self._errno_of(header, error))

    def _agree(self, init: bytes) -> bytes:
        """Raises `MountError`, which ends the mount: a kernel that cannot be served asks for nothing else."""
        agreement = agree(init, stack_depth=self._stack_depth)
        self._has_passthrough = Feature.PASSTHROUGH in agreement.features
        self._folders_are_opened = Feature.NO_OPENDIR_SUPPORT not in agreement.features
        return agreement.body

    def _interrupt(self, nursery: trio.Nursery, body: bytes) -> None:
        """The program that waits for a request got a signal. It may be answered by now."""
        waiting = self._waiting.get(parse_interrupt(body))
        if waiting is not None and waiting.notice():
            nursery.start_soon(waiting.watch)

    async def _answer_later(
        self, header: Header, answer: Coroutine[Any, Any, Buffer], waiting: Interruptible
    ) -> None:
        try:
            with waiting:
                self._device.reply(header.unique, await answer)
            if waiting.is_interrupted:
                self._device.refuse(header.unique, EINTR)
        except Exception as error:
            self._device.refuse(header.unique, self._errno_of(header, error))
        finally:
            del self._waiting[header.unique]

    def _decide(self, header: Header, body: bytes) -> Answer[Buffer]:
        if (answered_by := _ANSWERED_BY.get(header.opcode)) is not None:
            return answered_by(self._operations, header, body)
        if header.opcode == Opcode.OPENDIR and self._folders_are_opened:
            return replies.open_out(0, flags=replies.FOPEN_KEEP_CACHE | replies.FOPEN_CACHE_DIR)
        # Unknown opcode: ENOSYS; for most of them the kernel then stops asking.
        raise ErrnoReply(EROFS if header.opcode in CHANGES else ENOSYS)

    def _errno_of(self, header: Header, error: Exception) -> int:
        if isinstance(error, ErrnoReply):
            return error.errno
        return self._operations.errno_of(Opcode(header.opcode).name.lower(), error)
