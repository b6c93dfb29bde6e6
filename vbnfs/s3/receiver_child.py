"""The process that receives: libcurl's thread and the storing thread, driven by messages (receiver_messages.py).

    the main thread        hears the daemon; ends when the socket does
    libcurl's thread       follows what it says, and receives          curl_thread.py, curl_transfer.py
    the storing thread     runs of whole blocks to the disk            storing.py
    the sending thread     events, and the bytes that are not stored   host/message_link.py

At most `MOST_WAITING_BYTES` of a GET are on their way, in all of these and in the socket: then it is paused.
"""

import os
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from vbnfs import __version__
from vbnfs.errors import TransportError
from vbnfs.host import descriptors
from vbnfs.host.message_link import Letter, Link, Sender
from vbnfs.objects import Piece, Sink, StorePlan
from vbnfs.s3.arrivals import Flow
from vbnfs.s3.curl_options import Authorities, new_handle
from vbnfs.s3.curl_thread import CurlThread
from vbnfs.s3.curl_transfer import Transfer
from vbnfs.s3.failures import broken
from vbnfs.s3.generations import Generations
from vbnfs.s3.ranges import Event, Failed
from vbnfs.s3.receiver_codec import CODEC
from vbnfs.s3.receiver_messages import Begin, Came, End, Ended, Ping, Pong, Ready, Retired, Said, Setup, Taken
from vbnfs.s3.storing import StoringThread

log = structlog.get_logger()

MakeSink = Callable[[StorePlan, int, int], Sink]  # of the descriptors of `data` and `checksums`, which it closes

_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})


def serve(connection: socket.socket, make_sink: MakeSink) -> None:
    """Receive for the daemon at the other end, until that ends."""
    link = Link(connection, CODEC)
    first = link.receive()
    if first is None or not isinstance(first.message, Setup):
        return
    if first.message.version != __version__:
        link.send(Letter(Said("warning", "the vbnfs that is installed now is another one", {"version": __version__})))
        return
    sender = Sender(link)
    structlog.configure(processors=[structlog.processors.format_exc_info, partial(_say, sender)])
    _Receiver(first.message, sender, make_sink).run(link)
    link.end()
    sender.stop()


class _Outlet(Flow):
    """See `Outlet`: events of a GET go to the daemon. In libcurl's thread, but for `post`."""

    def __init__(self, number: int, sender: Sender, resume: Callable[[], None]) -> None:
        super().__init__(resume)
        self._number = number
        self._sender = sender

    def post(self, event: Event) -> None:
        """See `Outlet`."""
        data = b""
        if isinstance(event, Piece):
            event, data = replace(event, data=b""), event.data
        elif isinstance(event, Failed) and isinstance(event.error, TransportError):
            event = Failed(descriptors.explained(event.error))  # by this process's own
        self._sender.put(Came(self._number, event), data)

    def post_pause(self) -> None:
        """See `Outlet`."""
        self.pause()


class _Generations(Generations):
    """Those of this process. What either of it and the daemon retires, the other one retires, too."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender
        self._known = 0  # of the daemon's, with those that were reported

    def retire(self) -> None:
        """See `Generations`."""
        super().retire()
        self._known += 1
        self._sender.put(Retired())

    def follow(self, number: int) -> None:
        """The daemon's present generation has this number."""
        if number > self._known:
            self._known = number
            super().retire()


class _Receiver:
    """GETs by their numbers. All but `run` happens in libcurl's thread."""

    def __init__(self, setup: Setup, sender: Sender, make_sink: MakeSink) -> None:
        self._setup = setup
        self._authorities = Authorities(setup.trust)
        self._sender = sender
        self._make_sink = make_sink
        self._generations = _Generations(sender)
        self._thread = CurlThread(setup.max_connections, self._generations)
        self._storing = StoringThread()
        self._gets: dict[int, tuple[Transfer, _Outlet]] = {}

    def run(self, link: Link) -> None:
        """Until the link ends."""
        self._thread.start()
        self._sender.put(Ready())
        try:
            while (letter := link.receive()) is not None:
                self._thread.call(partial(self._follow, letter))
        except OSError:  # the daemon has ended within a message
            pass
        self._thread.stop()
        self._storing.stop()

    def _follow(self, letter: Letter) -> None:
        match letter.message:
            case Begin() as message:
                self._begin(message, letter.descriptors)
            case Taken(number, count_bytes) if number in self._gets:
                self._gets[number][1].take(count_bytes)
            case End(number):
                self._end(number)
            case Ping():
                self._sender.put(Pong())

    def _begin(self, message: Begin, opened: tuple[int, ...]) -> None:
        self._generations.follow(message.generation)
        try:
            transfer, outlet = self._transfer(message, opened)
        except Exception as error:  # a defect; the GET must not wait for events that never come
            log.exception("unexpected failure to begin a GET")
            failure = broken(str(message.get.request.version), message.get.server, repr(error))
            self._sender.put(Came(message.number, Failed(failure)))
            return
        self._gets[message.number] = (transfer, outlet)
        self._thread.begin(transfer)

    def _transfer(self, message: Begin, opened: tuple[int, ...]) -> tuple[Transfer, _Outlet]:
        sink = self._sink(message.plan, opened)
        get = replace(message.get, request=replace(message.get.request, sink=sink))
        handle = new_handle(get, self._authorities, self._setup.proxy)
        resume = partial(self._thread.call, partial(self._thread.resume, handle))
        outlet = _Outlet(message.number, self._sender, resume)
        return Transfer(get, handle, outlet, self._storing, proxy=self._setup.proxy), outlet

    def _sink(self, plan: StorePlan | None, opened: tuple[int, ...]) -> Sink | None:
        if plan is not None and len(opened) == 2:
            return self._make_sink(plan, *opened)
        for descriptor in opened:
            os.close(descriptor)
        return None

    def _end(self, number: int) -> None:
        transfer, _ = self._gets.pop(number, (None, None))
        if transfer is not None:
            self._thread.remove(transfer)
        sink = None if transfer is None else transfer.get.request.sink
        end_storing = partial(self._end_storing, number, sink)
        try:
            self._storing.put(end_storing)  # behind what is being stored
        except RuntimeError:  # no thread to be had: then nothing is
            end_storing()

    def _end_storing(self, number: int, sink: Sink | None) -> None:
        """In the storing thread, since closing files may wait for a disk."""
        if sink is not None:
            sink.close()
        self._sender.put(Ended(number))


def _say(sender: Sender, _logger: object, level: str, fields: MutableMapping[str, Any]) -> str:
    """A processor of structlog: has the daemon log a message."""
    event = str(fields.pop("event", ""))
    known = {name: str(value) for name, value in fields.items()}
    sender.put(Said(level if level in _LEVELS else "error", event, known))
    raise structlog.DropEvent
