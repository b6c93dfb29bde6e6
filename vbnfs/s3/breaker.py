"""Whether the server can be reached, and the client that asks it only then (a circuit breaker).

A failure to connect, a torn reply or a stall is a suspicion, not a proof: servers restart. So `watch` asks for the
bucket itself, again and again. When these probes have failed for `_GRACE_SECONDS`, and no byte came from the server
meanwhile, it is *offline*: requests under way end with `OfflineError`, and later ones do at once. `watch` goes on
with probes, none of which waits for another: a server that hung answers the next one. At the first answer, whatever
it says, everything resumes.

With `is_forbidden` (--offline) it is offline from beginning to end, and nothing is sent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio

from vbnfs.errors import (
    BusyError,
    NoDescriptorError,
    OfflineError,
    ReceiverLostError,
    StorageError,
    TransportError,
    UnreachableError,
    with_remedy,
)
from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    RangeRequest,
    Receive,
    Received,
)

log = structlog.get_logger()

_GRACE_SECONDS: Final = 2.0
_FEWEST_PROBES: Final = 2
_ANSWER_SECONDS: Final = 3.0  # for the answer to a probe
_AGAIN_SECONDS: Final = 0.25
_SOON_SECONDS: Final = 0.5  # between probes while it is offline, ...
_LATER_SECONDS: Final = 2.0  # ... and after `_LONG_SECONDS`
_LONG_SECONDS: Final = 300.0
_STATUS_SECONDS: Final = 2.0  # for a connection with TLS, by a proxy, around half of the world
_BUCKET: Final = ObjectVersion("", None)


class BreakerClient:
    """Passes requests on to `inner` while the server can be reached, and refuses them at once while not."""

    def __init__(self, inner: ObjectClient, *, is_forbidden: bool = False) -> None:
        self._inner = inner
        self._is_forbidden = is_forbidden
        self.is_offline = is_forbidden
        self._reason = "--offline" if is_forbidden else ""
        self._remedy = "leave --offline out" if is_forbidden else OfflineError.remedy
        self._found: StorageError | None = None  # by the last `probe`
        self._heard_at: float | None = None
        self._suspected = trio.Event()
        self._under_way: set[trio.CancelScope] = set()
        self._patient = 0  # works that wait for a server
        self._back = trio.lowlevel.ParkingLot()

    # Requests

    async def reach(self) -> None:
        """See `ObjectClient`. Where the server has never answered, failing to reach it is proof enough."""
        try:
            async with self._asking("the server"):
                await self._inner.reach()
        except TransportError as error:
            if self._heard_at is None:
                self._go_offline(str(error))
            raise

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        async with self._asking(f"listing of {prefix!r}"):
            return await self._inner.list_objects(prefix)

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        async with self._asking(f"listing of {prefix!r}"):
            return await self._inner.list_versions(prefix)

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        async with self._asking(str(version)):
            return await self._inner.head(version)

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        async with self._asking(key):
            return await self._inner.get_object(key, max_bytes=max_bytes)

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""

        async def receive_and_note(received: Received) -> None:
            self._heard_at = trio.current_time()
            await receive(received)

        async with self._asking(str(request.version)):
            await self._inner.get_range(request, receive_and_note)

    @asynccontextmanager
    async def _asking(self, about: str) -> AsyncIterator[None]:
        if self.is_offline:
            raise self._offline_error(about)
        with trio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                yield
                self._heard_at = trio.current_time()
            except StorageError as error:
                self._note(error)
                raise
            finally:
                self._under_way.discard(scope)
        if scope.cancelled_caught:
            raise self._offline_error(about)

    def _note(self, error: StorageError) -> None:
        if isinstance(error, NoDescriptorError | ReceiverLostError):
            return  # it says nothing about the server
        if isinstance(error, TransportError) and not isinstance(error, BusyError):
            self._reason = str(error)
            is_common = error.remedy == TransportError.remedy
            self._remedy = OfflineError.remedy if is_common else error.remedy
            self.suspect()
        else:
            self._heard_at = trio.current_time()  # that is an answer as well

    def _offline_error(self, about: str) -> OfflineError:
        return OfflineError(f"{about}: offline ({self._reason})", remedy=self._remedy)

    # Being offline

    @asynccontextmanager
    async def patient(self) -> AsyncIterator[None]:
        """While entered, a server that goes is waited for: requests are asked again as long as their own time allows.

        It does not become offline meanwhile. For work that takes hours, and is to outlive an outage of seconds. Where
        it is offline before, it is probed once more, three seconds at the most: it may just have come back.
        """
        if self.is_offline and not self._is_forbidden and await self._is_answered():
            self._go_online()
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1

    def suspect(self) -> None:
        """Something is wrong: have `watch` send probes."""
        self._suspected.set()

    async def probe(self) -> bool:
        """Whether the server can be reached now, as far as connecting shows in two seconds. `problem`: why not."""
        self._found = None
        if self.is_offline:
            return False
        with trio.move_on_after(_STATUS_SECONDS):
            try:
                await self._inner.reach()
            except NoDescriptorError:
                return True
            except StorageError as error:
                self._note(error)
                self._found = error
                return False
            return True
        self.suspect()
        self._found = UnreachableError(f"no connection within {_STATUS_SECONDS:g} s")
        return False

    @property
    def problem(self) -> str | None:
        """Why the server is not reached, and what to do about it, if it is not and is meant to be."""
        if self._is_forbidden:
            return None
        if self.is_offline:
            return f"{self._reason}; {self._remedy}"
        return None if self._found is None else with_remedy(self._found)

    async def wait_online(self) -> None:
        """Return when the server can be reached again, after a time when it could not."""
        await self._back.park()

    async def watch(self) -> None:
        """Find out whether what is suspected is true, and when it is over; runs until it is cancelled."""
        if self._is_forbidden:
            return
        while True:
            await self._suspected.wait()
            await self._probe_until_answered()
            await trio.sleep(_AGAIN_SECONDS)

    async def _probe_until_answered(self) -> None:
        began, probes = trio.current_time(), 0
        while not await self._is_answered():
            probes += 1
            if self._heard_at is not None and self._heard_at > began:
                began, probes = trio.current_time(), 0
            elif probes >= _FEWEST_PROBES and trio.current_time() - began >= _GRACE_SECONDS and not self._patient:
                self._go_offline(self._reason)
            if self.is_offline:
                await self._wait_for_an_answer()
                return
            await trio.sleep(_AGAIN_SECONDS)
        self._go_online()

    async def _wait_for_an_answer(self) -> None:
        """Send probes while others are under way: what a server got while it hung, it may never answer."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def probe() -> None:
                if await self._is_answered():
                    self._go_online()
                    nursery.cancel_scope.cancel()

            while self.is_offline:
                nursery.start_soon(probe)
                is_long = trio.current_time() - began > _LONG_SECONDS
                await trio.sleep(_LATER_SECONDS if is_long else _SOON_SECONDS)
            nursery.cancel_scope.cancel()

    async def _is_answered(self) -> bool:
        """Ask for the bucket: any answer counts, a refusal as well."""
        with trio.move_on_after(_ANSWER_SECONDS):
            try:
                await self._inner.head(_BUCKET)
            except NoDescriptorError:
                return not self.is_offline  # it proves nothing: the state stays
            except TransportError as error:
                return isinstance(error, BusyError)
            except StorageError:
                return True
            return True
        return False

    def _go_online(self) -> None:
        """It has answered: nothing is suspected any more."""
        self._suspected = trio.Event()
        self._reason, self._remedy = "", OfflineError.remedy
        if self.is_offline:
            self.is_offline = False
            log.info("online again: the server can be reached")
            self._back.unpark_all()

    def _go_offline(self, reason: str) -> None:
        if self.is_offline:
            return
        self.is_offline = True
        self._reason = reason or "the server does not answer"
        log.warning("offline: the server cannot be reached; what is cached can be read", reason=self._reason)
        self.suspect()
        for scope in self._under_way:
            scope.cancel()
