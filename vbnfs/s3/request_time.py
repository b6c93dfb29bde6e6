"""How long a request by httpx may take, and one that begins on a connection that was open before."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from vbnfs.errors import TransportError
from vbnfs.s3.limits import CONNECT_SECONDS, SILENCE_SECONDS

HEAD_SECONDS: Final = CONNECT_SECONDS + SILENCE_SECONDS  # until a reply's head is there, however busily it trickles
WHOLE_SECONDS: Final = 60.0  # for all of a reply


class RequestTime:
    """How long a request may take, however busily its bytes come: `HEAD_SECONDS`, and what `allow` says.

    Each of httpx's own timeouts begins anew with each byte. Waiting for one of its connections does not count: httpx
    says when the request has one (its `trace` extension).
    """

    def __init__(self, about: str, *, reused_seconds: float) -> None:
        self._about = about
        self._reused_seconds = reused_seconds
        self._scope = trio.CancelScope()
        self._began = 0.0
        self._seconds = HEAD_SECONDS
        self.on_reused = trio.CancelScope()  # around a first try, which ends sooner on a connection that was open
        self.extensions = {"trace": self._note}

    @contextmanager
    def limited(self) -> Iterator[None]:
        """What is within is given up in time. Raises `TransportError` then."""
        with self._scope:
            yield
        if self._scope.cancelled_caught:
            raise TransportError(f"{self._about}: not at its end after {self._seconds:.0f} s")

    def begin_anew(self) -> None:
        """What was taken until now does not count."""
        self._scope.deadline = math.inf

    @property
    def taken_seconds(self) -> float:
        """How long it has taken until now."""
        return trio.current_time() - self._began

    def allow(self, seconds: float) -> None:
        """So much, from the beginning."""
        self._seconds = seconds
        self._scope.deadline = self._began + seconds

    async def _note(self, event: str, _about: object) -> None:
        if self._scope.deadline == math.inf:
            self._began = trio.current_time()
            self.allow(self._seconds)
            if event.startswith("http11."):  # else it begins with connecting
                self.on_reused.deadline = self._began + self._reused_seconds
