"""Messages between two processes of this program, with bytes and open files, over a Unix stream socket: unix(7).

    4 bytes     the length of the message, little-endian
    4 bytes     the length of the bytes behind it
    ...         both of these

Descriptors travel with a message's first byte (SCM_RIGHTS), so they are those of this message and of no other. What a
message is, and how it is written, is the business of those at the ends: they hand in a `Codec`.

Windows has no such sockets for Python (`CAN_LINK`).
"""

import array
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

CAN_LINK: Final = hasattr(socket, "AF_UNIX") and hasattr(socket, "SCM_RIGHTS")
MOST_DESCRIPTORS: Final = 2  # with a message
_HEAD_BYTES: Final = 8
_INT_BYTES: Final = array.array("i").itemsize
_JOIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A message with what came or goes with it. What came has descriptors that the receiver has to close.

    `owner` keeps the descriptors of one that is to be sent open.
    """

    message: Any
    data: bytes = b""
    descriptors: tuple[int, ...] = ()
    owner: object = None


@dataclass(frozen=True, slots=True)
class Codec:
    """Messages as bytes, and back. Both functions raise an exception for what is no message."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class Link:
    """One end of a connected socket: one thread may receive, and one may send.

    `on_silence` is called in the receiving thread for each `silence_seconds` in which nothing comes.
    """

    def __init__(
        self,
        connection: socket.socket,
        codec: Codec,
        *,
        silence_seconds: float | None = None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        connection.settimeout(silence_seconds)
        self._connection = connection
        self._codec = codec
        self._on_silence = on_silence

    def send(self, letter: Letter) -> None:
        """Waits until the other end has room for it. Raises `OSError`, also for what is no message."""
        body = _of_codec(self._codec.encode, letter.message)
        head = len(body).to_bytes(4, "little") + len(letter.data).to_bytes(4, "little")
        views = [memoryview(head + body), memoryview(letter.data)]
        rights = _rights(letter.descriptors)
        while views:
            try:
                sent = self._connection.sendmsg(views, rights)
            except TimeoutError:
                continue  # the thread that receives finds out whether the other end is alive
            rights = []
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if views:
                views[0] = views[0][sent:]

    def receive(self) -> Letter | None:
        """The next one; None at the end. Raises `OSError`, also where it ends within one, or is none."""
        head, descriptors = self._head()
        if not head:
            return None
        body = self._exactly(int.from_bytes(head[:4], "little"))
        data = self._exactly(int.from_bytes(head[4:], "little"))
        return Letter(_of_codec(self._codec.decode, body), data, descriptors)

    def end(self) -> None:
        """End it, for both processes."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # ended already

    def close(self) -> None:
        """Close it, once no thread uses it."""
        self._connection.close()

    def _head(self) -> tuple[bytes, tuple[int, ...]]:
        head, descriptors = b"", list[int]()
        while len(head) < _HEAD_BYTES:
            try:
                part, rights, flags, _ = self._connection.recvmsg(
                    _HEAD_BYTES - len(head), socket.CMSG_SPACE(MOST_DESCRIPTORS * _INT_BYTES)
                )
            except TimeoutError:
                self._on_silence()
                continue
            descriptors += _descriptors(rights)
            if flags & socket.MSG_CTRUNC:  # no room for all of them in the table of open files
                _close(descriptors)
                descriptors = []
            head += part
            if not part:
                break
        if head and len(head) < _HEAD_BYTES:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        return head, tuple(descriptors)

    def _exactly(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            try:
                part = self._connection.recv(count)
            except TimeoutError:
                self._on_silence()
                continue
            if not part:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Sender:
    """Sends by a link what any thread puts, in order, in a thread of its own. It ends with the link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queue: SimpleQueue[Letter | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def put(self, message: object, data: bytes = b"", descriptors: Sequence[int] = (), owner: object = None) -> None:
        """Have a message sent, soon. It is lost once the link has ended."""
        self._queue.put(Letter(message, data, tuple(descriptors), owner))

    def stop(self) -> None:
        """End the thread, whose link has ended."""
        self._queue.put(None)
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        is_open = True
        while (letter := self._queue.get()) is not None:
            try:
                if is_open:
                    self._link.send(letter)
            except OSError:
                is_open = False
                self._link.end()
            del letter  # and its owner: the next one may be long in coming


def ignore_ends() -> None:
    """Have this process, which is at one end of a link, end with it, and by no signal that its whole group gets."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _of_codec(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except Exception as error:  # a defect, or another version of this program
        raise OSError(errno.EPROTO, f"{os.strerror(errno.EPROTO)}: {error!r}") from error


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, Any]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []


def _descriptors(rights: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found += array.array("i", data[: len(data) - len(data) % _INT_BYTES])
    return found


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
