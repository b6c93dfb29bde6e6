"""libcurl's multi interface (libcurl-multi(3)) in one thread, which waits for all connections by epoll.

Each connection has its turn, up to 640 KiB; a round of 24 may take 15 MB. Replies of a block or less,
for which readers wait, have their turn after each of the others.

Connections that are used again for one another have a multi handle in common, for as long as their generation is the
present one (generations.py). Those of an earlier one end with the last transfer on them.
"""

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import pycurl
import structlog

from vbnfs.errors import StorageError
from vbnfs.host import events
from vbnfs.s3.curl_options import failure_of
from vbnfs.s3.curl_transfer import Transfer
from vbnfs.s3.generations import Evidence, Generations

log = structlog.get_logger()

TICK_SECONDS: Final = 0.25
_JOIN_SECONDS: Final = 5.0


class _ShortTransfers:
    """Those whose replies do not wait for other connections' turns. For one thread."""

    def __init__(self) -> None:
        self._descriptors: dict[pycurl.Curl, int | None] = {}  # None: it has no connection yet
        self._epoll = events.new_poller()

    def add(self, handle: pycurl.Curl) -> None:
        self._descriptors[handle] = None

    def remove(self, handle: pycurl.Curl) -> None:
        """It is over, or was none of them."""
        descriptor = self._descriptors.pop(handle, None)
        if descriptor is not None:
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)

    def ready(self) -> list[tuple[int, int]]:
        """Descriptors and events of those that have bytes now."""
        if not self._descriptors:
            return []
        for handle, known in self._descriptors.items():
            if known is None and (descriptor := handle.getinfo(pycurl.ACTIVESOCKET)) >= 0:
                self._descriptors[handle] = descriptor
                with suppress(FileExistsError):  # of one that is over, and not reported yet
                    self._epoll.register(descriptor, events.READABLE)
        return self._epoll.poll(0)

    def close(self) -> None:
        self._epoll.close()


# Gets a multi handle, for what it is to wait, and a descriptor to wait for.
_Watch: TypeAlias = Callable[[pycurl.CurlMulti, int, int], None]


class _Connections:
    """A generation of connections and the transfers on them. For one thread.

    libcurl's handle keeps what it calls, and this keeps the handle: so it calls by weak references. Else what is over
    would be garbage, and have its open files until a full collection.
    """

    def __init__(self, number: int, max_connections: int, watch: _Watch) -> None:
        self.number = number
        self.evidence = Evidence()
        self.transfers: dict[pycurl.Curl, Transfer] = {}
        self.due: float | None = None
        self.multi = pycurl.CurlMulti()
        itself, watching = weakref.ref(self), weakref.WeakMethod(watch)

        def on_socket(what: int, descriptor: int, *_: object) -> None:
            connections, call = itself(), watching()
            if connections is not None and call is not None:
                call(connections.multi, what, descriptor)

        def on_timer(milliseconds: int) -> None:
            if (connections := itself()) is not None:
                connections._set_timer(milliseconds)

        self.multi.setopt(pycurl.M_SOCKETFUNCTION, on_socket)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, on_timer)
        self.multi.setopt(pycurl.M_MAXCONNECTS, max_connections)

    def add(self, transfer: Transfer) -> None:
        self.transfers[transfer.handle] = transfer
        self.multi.add_handle(transfer.handle)

    def remove(self, handle: pycurl.Curl) -> Transfer:
        """Forget a transfer, and keep what it shows of the connections."""
        transfer = self.transfers.pop(handle)
        self.note(transfer)
        self.multi.remove_handle(handle)
        return transfer

    def note(self, transfer: Transfer) -> None:
        """What a transfer shows, in its course or at its end."""
        if transfer.get.request.is_anew and transfer.has_answered:
            self.evidence = self.evidence.after_answer(transfer.began)
        self.evidence = self.evidence.after_silence(transfer.silent_since, time.monotonic())

    def do_what_is_due(self) -> None:
        if self.due is not None and self.due <= time.monotonic():
            self.due = None
            self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _set_timer(self, milliseconds: int) -> None:
        """CURLMOPT_TIMERFUNCTION."""
        self.due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


class CurlThread:
    """libcurl's multi interface, and the thread that drives it. Only `call`, `start` and `stop` are for others."""

    def __init__(self, max_connections: int, generations: Generations) -> None:
        self._max_connections = max_connections
        self._generations = generations
        self._suspends = generations.suspends
        self._open: list[_Connections] = []  # the present ones, and those that are retired and not over
        self._present = self._new_connections()
        self._of: dict[pycurl.Curl, _Connections] = {}  # of each transfer
        self._multis: dict[int, pycurl.CurlMulti] = {}  # of each descriptor
        self._storing: list[Transfer] = []  # over, but for what of them is being stored
        self._calls: deque[Callable[[], None]] = deque()
        self._short = _ShortTransfers()
        self._epoll = events.new_poller()
        self._waker = events.Waker()  # as long as this: `call` must not write to a file that has taken its number
        self._ticked = 0.0
        self._is_running = True
        self._thread = threading.Thread(target=self._run, name="curl", daemon=True)

    def start(self) -> None:
        """Begin to wait for calls."""
        self._epoll.register(self._waker.descriptor, events.READABLE)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, its transfers and its connections."""
        self.call(self._finish)
        self._thread.join(_JOIN_SECONDS)

    def call(self, function: Callable[[], None]) -> None:
        """Have something done in the thread, soon."""
        self._calls.append(function)
        self._waker.wake()

    # In the thread

    def _new_connections(self) -> _Connections:
        new = _Connections(self._generations.number, self._max_connections, self._watch)
        self._open.append(new)
        return new

    def begin(self, transfer: Transfer) -> None:
        """Add a transfer."""
        self._look_at_generations()
        self._of[transfer.handle] = self._present
        self._present.add(transfer)
        if transfer.is_short:
            self._short.add(transfer.handle)

    def resume(self, handle: pycurl.Curl) -> None:
        """Go on with a transfer that was paused, if it is not over. It ends where it refuses what was held back."""
        if handle not in self._of:
            return
        try:
            handle.pause(pycurl.PAUSE_CONT)
        except pycurl.error as error:
            self._remove_failed(handle, *error.args)

    def remove(self, transfer: Transfer) -> None:
        """Remove a transfer. If it is not over, its connection is closed."""
        if transfer.handle in self._of:
            self._remove(transfer.handle)
            self._note_storing(transfer)
        transfer.handle.close()

    def _remove(self, handle: pycurl.Curl) -> Transfer:
        """Forget a transfer. Its connection stays, for others, if it is over."""
        connections = self._of.pop(handle)
        self._short.remove(handle)
        transfer = connections.remove(handle)
        self._end_if_retired(connections)
        return transfer

    def _look_at_generations(self) -> None:
        """Begin a new generation of connections where the present one is retired."""
        for transfer in self._present.transfers.values():
            self._present.note(transfer)
        if self._present.evidence.is_proof:
            log.info("a connection was dead; all that were opened before are given up")
            self._present.evidence = Evidence()
            self._generations.retire()
        self._generations.look_at_clocks()
        if self._suspends < self._generations.suspends:
            self._suspends = self._generations.suspends
            self._end_transfers("the machine was suspended")
        if self._present.number != self._generations.number:
            before, self._present = self._present, self._new_connections()
            self._end_if_retired(before)

    def _end_if_retired(self, connections: _Connections) -> None:
        if connections is not self._present and not connections.transfers:
            self._open.remove(connections)
            connections.multi.close()

    def _run(self) -> None:
        while self._is_running:
            try:
                self._do_what_is_due()
            except Exception:  # without this thread there would be no more reading, and no message of it
                log.exception("libcurl failed; its connections begin anew")
                self._end_all("libcurl failed")
                self._open.clear()
                self._present = self._new_connections()
        self._end_all("the connections are being closed")
        self._short.close()
        self._epoll.close()

    def _end_all(self, reason: str) -> None:
        self._end_transfers(reason)
        self._present.multi.close()

    def _end_transfers(self, reason: str) -> None:
        for handle, connections in list(self._of.items()):
            transfer = connections.transfers[handle]
            with suppress(pycurl.error):
                self._remove(handle)
            transfer.end_broken(reason)
            self._note_storing(transfer)

    def _do_what_is_due(self) -> None:
        for descriptor, happened in self._epoll.poll(self._seconds_left()):
            if descriptor == self._waker.descriptor:
                self._waker.clear()
            else:
                self._act(descriptor, happened)
            self._do_what_cannot_wait()
        self._do_what_cannot_wait()
        if self._ticked + TICK_SECONDS <= time.monotonic():
            self._tick()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        for handle, connections in self._of.items():
            connections.transfers[handle].tick()
        for transfer in self._storing:
            transfer.look()
        self._storing = [transfer for transfer in self._storing if transfer.is_storing]
        self._look_at_generations()

    def _act(self, descriptor: int, happened: int) -> None:
        if (multi := self._multis.get(descriptor)) is not None:  # else it was closed in this round
            multi.socket_action(descriptor, _curl_events(happened))

    def _do_what_cannot_wait(self) -> None:
        """Until all other connections have had their turn: new requests, and replies for which readers wait."""
        while self._calls:
            self._calls.popleft()()
        for connections in self._open:
            connections.do_what_is_due()
        for descriptor, happened in self._short.ready():
            self._act(descriptor, happened)
        self._end_those_that_are_over()

    def _seconds_left(self) -> float | None:
        dues = [connections.due for connections in self._open if connections.due is not None]
        left = min((max(0.0, due - time.monotonic()) for due in dues), default=math.inf)
        left = min(left, TICK_SECONDS if self._of or self._storing else math.inf)
        return None if left == math.inf else left

    def _end_those_that_are_over(self) -> None:
        for connections in tuple(self._open):
            queued = 1
            while queued:
                queued, good, failed = connections.multi.info_read()
                for handle in good:
                    self._end(self._remove(handle), None)
                for handle, number, message in failed:
                    self._remove_failed(handle, number, message)

    def _remove_failed(self, handle: pycurl.Curl, number: int, message: str) -> None:
        transfer = self._remove(handle)
        self._end(transfer, failure_of(transfer.get, handle, number, message, proxy=transfer.proxy))

    def _end(self, transfer: Transfer, failure: StorageError | None) -> None:
        transfer.end(failure)
        self._note_storing(transfer)

    def _note_storing(self, transfer: Transfer) -> None:
        if transfer.is_storing:
            self._storing.append(transfer)

    def _finish(self) -> None:
        self._is_running = False

    def _watch(self, multi: pycurl.CurlMulti, what: int, descriptor: int) -> None:
        """CURLMOPT_SOCKETFUNCTION."""
        if what == pycurl.POLL_REMOVE:
            if self._multis.get(descriptor) is multi:
                del self._multis[descriptor]
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)
            return
        self._multis[descriptor] = multi
        wanted = (events.READABLE if what & pycurl.POLL_IN else 0) | (
            events.WRITABLE if what & pycurl.POLL_OUT else 0
        )
        try:
            self._epoll.modify(descriptor, wanted)
        except FileNotFoundError:  # new, or another connection that has an old one's number
            self._epoll.register(descriptor, wanted)


def _curl_events(happened: int) -> int:
    return (
        (pycurl.CSELECT_IN if happened & events.READABLE else 0)
        | (pycurl.CSELECT_OUT if happened & events.WRITABLE else 0)
        | (pycurl.CSELECT_ERR if happened & events.BROKEN else 0)
    )
