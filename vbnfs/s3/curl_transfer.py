"""One GET under way by libcurl: what comes in its thread becomes events for the event loop.

    Transfer    in libcurl's thread: takes the reply's lines and bytes, checks the head, cuts the body (parts.py)
    Outbox      what of it is to be stored is stored first (storing.py)
    Outlet      where its events go (arrivals.py)

The first piece is a block, for which a reader may wait; those that follow are larger, since each costs the event loop
a quarter of a millisecond. A transfer of which `MOST_WAITING_BYTES` came and were not taken is paused.
"""

import re
import time
from http import HTTPStatus
from typing import Final

import pycurl

from vbnfs.blocks import BLOCK_BYTES, MOST_WAITING_BYTES
from vbnfs.errors import MismatchError, StorageError, TransportError
from vbnfs.objects import ByteRange, Piece
from vbnfs.s3 import proxy_failures
from vbnfs.s3.arrivals import Outlet
from vbnfs.s3.failures import broken
from vbnfs.s3.parts import Parts, Run
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import Done, Failed, RangeGet
from vbnfs.s3.refusals import status_error
from vbnfs.s3.replies import MAX_ERROR_BYTES, Head, check_range, is_whole
from vbnfs.s3.storing import Outbox, StoringThread

_HOLD_SECONDS: Final = 1.0  # longer, and a slow connection would be taken for one that brings nothing
_ERROR_BODY_SECONDS: Final = 5.0  # for the start of an error's body, which names the error
_WHOLE: Final = frozenset({HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION})
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]+ +([0-9]{3})(?![0-9])")
_REFUSE: Final = 0  # of a part's bytes were taken: libcurl ends the transfer (CURLOPT_WRITEFUNCTION)


class Transfer:
    """A GET with its handle. Used in libcurl's thread only."""

    def __init__(
        self,
        get: RangeGet,
        handle: pycurl.Curl,
        arrivals: Outlet,
        storing: StoringThread,
        *,
        proxy: Proxy | None = None,
    ) -> None:
        self.get = get
        self.proxy = proxy
        self.handle = handle
        self.arrivals = arrivals
        self._outbox = Outbox(arrivals.post, get.request.sink, storing)
        self._left_bytes = self._coming = self._length = len(get.request.byte_range)
        self._lines: list[bytes] = []
        self._head: Head | None = None
        self._head_at = 0.0
        self._error_body: bytes | None = None  # of a reply that brings nothing of the range
        self._before_bytes = 0  # still to come of what stands before the range, where all of the object comes
        self._parts = Parts(get.request)
        self.began = self._heard_at = self._posted_at = time.monotonic()
        self._left_before = self._left_bytes  # at the last tick
        self._is_good = False  # the head is that of the range, and nothing has failed
        self._is_whole = False  # the body is all of the object
        self._is_over = False
        handle.setopt(pycurl.HEADERFUNCTION, self._take_line)
        handle.setopt(pycurl.WRITEFUNCTION, self._take_part)

    @property
    def is_short(self) -> bool:
        """Whether it is for a block, or for less."""
        return self._length <= BLOCK_BYTES

    @property
    def is_storing(self) -> bool:
        """Whether what came of it waits for the disk."""
        return self._outbox.is_waiting

    @property
    def has_answered(self) -> bool:
        """Whether the reply's head is there."""
        return self._head is not None

    @property
    def _is_all_there(self) -> bool:
        """Whether the range has come, in a body that goes on behind it, which is refused."""
        return self._is_good and self._is_whole and not self._left_bytes

    @property
    def silent_since(self) -> float:
        """When something came last, to a quarter of a second, or was waiting to be taken."""
        return max(self._heard_at, self._head_at)

    def end(self, failure: StorageError | None) -> None:
        """libcurl is done with it, well or not. What came before counts all the same."""
        self._post_parts()
        if self._error_body is not None:
            self._fail(self._status_error())
        elif failure is not None and not self._is_all_there:
            self._fail(failure)
        elif self._head is None:
            self._fail(self._broken("a reply without a status"))
        elif left := self._left_bytes:
            self._fail(TransportError(f"{self.get.request.version}: the body ended {left:,} bytes too early"))
        elif not self._is_over:
            self._is_over = True
            self._outbox.put(Done())

    def end_broken(self, reason: str) -> None:
        """It is over, for a reason that is not libcurl's."""
        self.end(self._broken(reason))

    def tick(self) -> None:
        """Hand over what has come, if no more does, or only slowly."""
        now = time.monotonic()
        if self._error_body is not None and now - self._head_at > _ERROR_BODY_SECONDS:
            self._fail(self._status_error())
        if self._left_bytes != self._left_before or self.arrivals.waiting_bytes:
            self._heard_at = now
        is_slow = self._left_bytes == self._left_before or now - self._posted_at > _HOLD_SECONDS
        self._left_before = self._left_bytes
        if is_slow:
            self._post_parts()
        self.look()

    def look(self) -> None:
        """Called now and then, also when it is over: what waits is not held back by a disk that does not answer."""
        self._outbox.look()

    def _take_line(self, line: bytes) -> None:
        """A line of the head. Heads of interim replies may come before it (RFC 9110, 15.2), and trailers after."""
        if self._head is not None:
            return
        if line.strip():
            self._lines.append(line)
            return
        match = _STATUS_LINE.match(b"".join(self._lines[:1]))
        status = int(match[1]) if match else 0  # libcurl accepts some lines that are no status lines
        if status >= HTTPStatus.OK:
            self._head, self._head_at = Head(status, _fields(self._lines[1:])), time.monotonic()
            self._check(self._head)
        self._lines.clear()

    def _check(self, head: Head) -> None:
        request = self.get.request
        try:
            if head.status == HTTPStatus.PARTIAL_CONTENT:
                self._expect(check_range(head, request))
            elif head.status in _WHOLE and is_whole(head, request):
                self._is_whole, self._before_bytes = True, request.byte_range.start
            else:
                self._error_body = b""
                return
        except StorageError as error:
            self._fail(error)
        else:
            self._is_good = True
            self._outbox.put(head)

    def _expect(self, sent: ByteRange) -> None:
        """Of the range its beginning may come alone; what is asked for behind it is another GET's."""
        self._coming = self._left_bytes = self._left_before = len(sent)

    def _take_part(self, part: bytes) -> int | None:
        """CURLOPT_WRITEFUNCTION; it is called 60,000 times a GB."""
        if not self._is_good:
            return self._take_error_part(part)
        if self.arrivals.waiting_bytes >= MOST_WAITING_BYTES:
            self.arrivals.post_pause()
            return pycurl.WRITEFUNC_PAUSE
        if self._is_whole:
            return self._take_part_of_the_whole(part)
        return self._take_part_of_the_range(part)

    def _take_part_of_the_whole(self, part: bytes) -> int | None:
        """What stands before the range is left out, and what stands behind it is refused."""
        before = min(len(part), self._before_bytes)
        self._before_bytes -= before
        wanted = part[before : before + self._left_bytes]
        if wanted:
            self._take_part_of_the_range(wanted)
        return _REFUSE if before + len(wanted) < len(part) else None

    def _take_part_of_the_range(self, part: bytes) -> int | None:
        self._left_bytes -= len(part)
        self.arrivals.received_bytes += len(part)
        if self._left_bytes < 0:
            version = self.get.request.version
            self._fail(MismatchError(f"{version}: a longer body than the {self._coming:,} bytes that it should have"))
            return _REFUSE
        for whole in self._parts.add(part):
            self._post(whole)
        return None

    def _take_error_part(self, part: bytes) -> int | None:
        """Nothing is wanted any more, or only the start of an error's body."""
        if self._is_over or self._error_body is None:
            return _REFUSE
        self._error_body += part
        if len(self._error_body) < MAX_ERROR_BYTES:
            return None
        self._fail(self._status_error())
        return _REFUSE

    def _status_error(self) -> StorageError:
        assert self._head is not None
        version, body = self.get.request.version, (self._error_body or b"")[:MAX_ERROR_BYTES]
        if (of_proxy := proxy_failures.of_reply(self.proxy, self.get.server, self._head, body)) is not None:
            return of_proxy
        has_version_id = version.version_id is not None
        return status_error(
            self._head, body, expected=206, about=str(version), method="GET", has_version_id=has_version_id
        )

    def _broken(self, reason: str) -> StorageError:
        return broken(str(self.get.request.version), self.get.server, reason)

    def _fail(self, error: StorageError) -> None:
        self._is_good = False
        if not self._is_over:
            self._is_over = True
            self._outbox.put(Failed(error))

    def _post_parts(self) -> None:
        for part in self._parts.take():
            self._post(part)

    def _post(self, what: Piece | Run) -> None:
        if self._is_over:
            return
        self._posted_at = time.monotonic()
        if isinstance(what, Run):
            self._outbox.store(what)
        else:
            self._outbox.put(what)


def _fields(lines: list[bytes]) -> dict[str, str]:
    """Header fields by their names in small letters; what stands in several is joined (RFC 9110, 5.2)."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = (_text(word) for word in line.partition(b":"))
        name = name.lower()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _text(word: bytes) -> str:
    word = word.strip()
    try:
        return word.decode()
    except UnicodeDecodeError:
        return word.decode("latin-1")
