"""libcurl's multi interface (libcurl-multi(3)) in one thread, which waits for all connections by epoll.

Each connection has its turn, up to 640 KiB; a round of 24 may take 15 MB. Replies of a block or less,
for which readers wait, have their turn after each of the others.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pycurl
import structlog

from vbnfs.host import events
from vbnfs.s3.curl_options import failure_of
from vbnfs.s3.curl_transfer import Transfer

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


class CurlThread:
    """libcurl's multi interface, and the thread that drives it. Only `call`, `start` and `stop` are for others."""

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._multi = self._new_multi()
        self._transfers: dict[pycurl.Curl, Transfer] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._short = _ShortTransfers()
        self._epoll = events.new_poller()
        self._waker = events.Waker()  # as long as this: `call` must not write to a file that has taken its number
        self._due: float | None = None
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

    def _new_multi(self) -> pycurl.CurlMulti:
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        multi.setopt(pycurl.M_MAXCONNECTS, self._max_connections)
        return multi

    def begin(self, transfer: Transfer) -> None:
        """Add a transfer."""
        self._transfers[transfer.handle] = transfer
        self._multi.add_handle(transfer.handle)
        if transfer.is_short:
            self._short.add(transfer.handle)

    def resume(self, handle: pycurl.Curl) -> None:
        """Go on with a transfer that was paused, if it is not over. It ends where it refuses what was held back."""
        if handle not in self._transfers:
            return
        try:
            handle.pause(pycurl.PAUSE_CONT)
        except pycurl.error as error:
            self._remove_failed(handle, *error.args)

    def remove(self, transfer: Transfer) -> None:
        """Remove a transfer. If it is not over, its connection is closed."""
        if transfer.handle in self._transfers:
            self._remove(transfer.handle)
        transfer.handle.close()

    def _remove(self, handle: pycurl.Curl) -> Transfer:
        """Forget a transfer. Its connection stays, for others, if it is over."""
        transfer = self._transfers.pop(handle)
        self._short.remove(handle)
        self._multi.remove_handle(handle)
        return transfer

    def _run(self) -> None:
        while self._is_running:
            try:
                self._do_what_is_due()
            except Exception:  # without this thread there would be no more reading, and no message of it
                log.exception("libcurl failed; its connections begin anew")
                self._end_all("libcurl failed")
                self._due, self._multi = None, self._new_multi()
        self._end_all("the connections are being closed")
        self._short.close()
        self._epoll.close()

    def _end_all(self, reason: str) -> None:
        for transfer in list(self._transfers.values()):
            with suppress(pycurl.error):
                self._remove(transfer.handle)
            transfer.end_broken(reason)
        self._multi.close()

    def _do_what_is_due(self) -> None:
        for descriptor, happened in self._epoll.poll(self._seconds_left()):
            if descriptor == self._waker.descriptor:
                self._waker.clear()
            else:
                self._multi.socket_action(descriptor, _curl_events(happened))
            self._do_what_cannot_wait()
        self._do_what_cannot_wait()
        if self._ticked + TICK_SECONDS <= time.monotonic():
            self._ticked = time.monotonic()
            for transfer in self._transfers.values():
                transfer.tick()

    def _do_what_cannot_wait(self) -> None:
        """Until all other connections have had their turn: new requests, and replies for which readers wait."""
        while self._calls:
            self._calls.popleft()()
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for descriptor, happened in self._short.ready():
            self._multi.socket_action(descriptor, _curl_events(happened))
        self._end_those_that_are_over()

    def _seconds_left(self) -> float | None:
        left = math.inf if self._due is None else max(0.0, self._due - time.monotonic())
        left = min(left, TICK_SECONDS if self._transfers else math.inf)
        return None if left == math.inf else left

    def _end_those_that_are_over(self) -> None:
        queued = 1
        while queued:
            queued, good, failed = self._multi.info_read()
            for handle in good:
                self._remove(handle).end(None)
            for handle, number, message in failed:
                self._remove_failed(handle, number, message)

    def _remove_failed(self, handle: pycurl.Curl, number: int, message: str) -> None:
        transfer = self._remove(handle)
        transfer.end(failure_of(transfer.get, handle, number, message))

    def _finish(self) -> None:
        self._is_running = False

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        """CURLMOPT_SOCKETFUNCTION."""
        if what == pycurl.POLL_REMOVE:
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)
            return
        wanted = (events.READABLE if what & pycurl.POLL_IN else 0) | (
            events.WRITABLE if what & pycurl.POLL_OUT else 0
        )
        try:
            self._epoll.modify(descriptor, wanted)
        except FileNotFoundError:  # new, or another connection that has an old one's number
            self._epoll.register(descriptor, wanted)

    def _set_timer(self, milliseconds: int) -> None:
        """CURLMOPT_TIMERFUNCTION."""
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _curl_events(happened: int) -> int:
    return (
        (pycurl.CSELECT_IN if happened & events.READABLE else 0)
        | (pycurl.CSELECT_OUT if happened & events.WRITABLE else 0)
        | (pycurl.CSELECT_ERR if happened & events.BROKEN else 0)
    )
