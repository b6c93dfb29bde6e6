"""What an S3 server, and the network before it, do to a request: each fault by its name, and a mix by chance."""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.fakes.s3_server import RANGE_IGNORED, Behaviour, FakeS3Server, Reply, Request, always, error, header

_LONG_SECONDS: Final = 45.0  # longer than any reader should wait
_MORE_BYTES: Final = 4 << 20
_TRICKLE: Final = 1000.0  # bytes a second
_INTERIM: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def _stalls(_: Request, honest: Reply) -> Reply:
    """The head and half of the body, then nothing."""
    return replace(honest, pause_seconds=_LONG_SECONDS, gate_after=len(honest.body) // 2)


def _trickles(_: Request, honest: Reply) -> Reply | None:
    """A body that never pauses for long, and takes a third of that, as on a slow line."""
    return replace(honest, bytes_per_second=3 * len(honest.body) / _LONG_SECONDS) if honest.body else None


def _is_longer(_: Request, honest: Reply) -> Reply:
    """A body that goes on behind its end, and gives no length."""
    body = honest.body + bytes(_MORE_BYTES)
    return replace(honest.with_headers(Content_Length=""), body=body, cut=len(body))


def _without_end(text: bytes) -> Reply:
    """A head that goes on and on, a little at a time."""
    return Reply(raw=text + b"x" * int(_LONG_SECONDS * _TRICKLE), bytes_per_second=_TRICKLE)


def _is_shifted(_: Request, honest: Reply) -> Reply | None:
    """A range that begins a byte later than asked for, and says so."""
    return _with_range(honest, 1, 0)


def _is_shorter(_: Request, honest: Reply) -> Reply | None:
    """A range that ends a byte earlier than asked for, and says so."""
    return _with_range(honest, 0, -1)


def _with_range(honest: Reply, first: int, last: int) -> Reply | None:
    content_range = honest.headers.get("Content-Range")
    if content_range is None or len(honest.body) < 2:
        return None
    span, _, size = content_range.removeprefix("bytes ").partition("/")
    start, stop = map(int, span.split("-"))
    body = honest.body[first : len(honest.body) + last]
    return replace(honest.with_headers(Content_Range=f"bytes {start + first}-{stop + last}/{size}"), body=body)


FAULTS: Final[Mapping[str, Behaviour]] = {
    "503 SlowDown": always(error(503, "SlowDown")),
    "500": always(error(500, "InternalError")),
    "429 with Retry-After": always(error(429, "TooManyRequests", Retry_After="1")),
    "closed without an answer": always(Reply(raw=b"")),
    "garbage": always(Reply(raw=b"\x16\x03\x01 garbage \xff\r\n\r\n")),
    "body cut off": lambda _, honest: replace(honest, cut=len(honest.body) // 3) if honest.body else None,
    "connection reset": lambda _, honest: replace(honest, cut=len(honest.body) // 2, is_reset=True),
    "body stalls": _stalls,
    "no answer": lambda _, honest: replace(honest, pause_seconds=_LONG_SECONDS),
    "body trickles": _trickles,
    "head trickles": always(_without_end(b"HTTP/1.1 206 Partial Content\r\nX-Long: ")),
    "interim replies": always(Reply(raw=_INTERIM * 400, bytes_per_second=len(_INTERIM) * 400 / _LONG_SECONDS)),
    "body without end": _is_longer,
    "200 for a range": RANGE_IGNORED,
    "shifted range": _is_shifted,
    "shorter range": _is_shorter,
    "another version": header(x_amz_version_id="another"),
    "no version": header(x_amz_version_id=""),
    "redirect": always(Reply(307, {"Location": "http://127.0.0.1:1/elsewhere"})),
}


class Damaged:
    """Replies that are right in all their figures, with byte `at` of the object wrong; `times` times at the most.

    `name` is part of the object's key.
    """

    def __init__(self, name: str, *, at: int, times: int) -> None:
        self.name, self.at, self.times = name, at, times

    def __call__(self, request: Request, honest: Reply) -> Reply | None:
        if request.kind != "get_range" or self.name not in request.key or self.times == 0:
            return None
        start, stop = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        if not start <= self.at <= stop:
            return None
        self.times -= 1
        body = bytearray(honest.body)
        body[self.at - start] ^= 1
        return replace(honest, body=bytes(body))


class Mix:
    """A behaviour that does one of the faults to a part of the requests, drawn with a seed.

    `counts` has how often each was done. While not `is_on`, none is.
    """

    def __init__(self, part: float, *, seed: int, faults: Mapping[str, Behaviour] = FAULTS) -> None:
        self.counts: Counter[str] = Counter()
        self.is_on = True
        self._part = part
        self._faults = faults
        self._names = sorted(faults)
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, request: Request, honest: Reply) -> Reply | None:
        with self._lock:
            if not self.is_on or self._chance.random() >= self._part:
                return None
            name = self._chance.choice(self._names)
            reply = self._faults[name](request, honest)
            if reply is not None:
                self.counts[name] += 1
            return reply


class NetworkChanges:
    """A network that changes: what is asked by some connections, or for some time, is never answered."""

    def __init__(self, server: FakeS3Server) -> None:
        self._server = server
        self._silent = 0  # connections with numbers below that
        self._hangs = False

    def silence(self) -> None:
        """All connections that are open now fall silent; new ones work."""
        self._silent = self._server.connections

    def hang(self, seconds: float) -> None:
        """The server hangs for so long; returns when it is well again."""
        self._hangs = True
        self._server.ending.wait(seconds)
        self._hangs = False

    def __call__(self, request: Request, honest: Reply) -> Reply | None:
        if not self._hangs and request.connection >= self._silent:
            return None
        return replace(honest, pause_seconds=_LONG_SECONDS)


def profile(*, first_byte_seconds: float = 0.0, bytes_per_second: float | None = None) -> Behaviour:
    """An honest server at a distance: how long until the first byte, how fast one connection is."""
    return lambda _, honest: replace(honest, pause_seconds=first_byte_seconds, bytes_per_second=bytes_per_second)
