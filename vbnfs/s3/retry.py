"""Which failures are worth another try, and the `ObjectClient` that tries.

| failure | tried again | why |
|---|---|---|
| `TransportError`: torn, silent, no HTTP; `UnreachableError`: refused, DNS | within the time allowed | it may pass |
| `ReceiverLostError`: the process that received it ended | the same, at once | something else receives now |
| `BusyError`: 503 SlowDown, 429, other 5xx | the same, after its Retry-After | the server asks for it |
| `NoDescriptorError`: no file can be opened | the same | others are closed; there may be connections |
| `MismatchError`: a useless 200, another range, redirects | 4 times | a proxy; another connection may do |
| `ChangedError`: another version id or size, 416 | the same | a proxy may be to blame |
| `BadReplyError` otherwise, `MovedError` among them | no | it is how this server answers |
| `UntrustedServerError`, `OfflineError` | no | nothing changes in seconds |
| `AccessDeniedError`, `ProxyDeniedError`, `ObjectGoneError` | no | it is an answer |

Waiting grows exponentially with jitter. A wait that would take longer than the time allowed is not begun: then the
failure comes out, and not only that time is out. With Retry-After, asking earlier would be what the server forbids.

A range that broke off is asked for from where it broke, so no byte travels twice, and on a new connection: those that
are open may be as dead as the one that broke. If it had brought something by
then, the time allowed begins anew: on a slow line a range takes longer than that, and a connection that breaks in the
end is no reason to give its readers up.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from vbnfs.errors import BusyError, MismatchError, ReceiverLostError, StorageError, TransportError
from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    RangeRequest,
    Receive,
)
from vbnfs.rest import Rest

_Answer = TypeVar("_Answer")

_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0
_JITTER_SECONDS: Final = 0.1
_PART_FOR_A_TRY: Final = 0.1  # of the time allowed: a try that begins when it is nearly over is useless
_MISMATCHES: Final = 5
_PROGRESS_BYTES: Final = 16 << 10  # by which a range gets on, or its time is not begun anew


def wait_seconds(
    failure: StorageError, *, failures: int, mismatches: int, left_seconds: float, chance: float
) -> float | None:
    """How long to wait before another try after `failure`; None: it is not tried again.

    `failures` and `mismatches` are how many there have been, this one included; `left_seconds` is what is left for
    waiting; `chance`, from 0 to 1, is the jitter.
    """
    if isinstance(failure, BusyError) and failure.retry_after_seconds:
        wait, may_pass = failure.retry_after_seconds, True
    elif isinstance(failure, ReceiverLostError):
        wait, may_pass = 0.0, True
    else:
        wait = min(_FIRST_WAIT_SECONDS * 2.0 ** (failures - 1) + _JITTER_SECONDS * chance, _LONGEST_WAIT_SECONDS)
        is_mismatch = isinstance(failure, MismatchError)
        may_pass = mismatches < _MISMATCHES if is_mismatch else isinstance(failure, TransportError)
    return wait if may_pass and wait <= left_seconds else None


class RetryingClient:
    """Asks `inner` again after a failure that may pass.

    There are at most `attempts` requests, and no wait for another begins that would end after `seconds`.
    """

    def __init__(self, inner: ObjectClient, *, seconds: float, attempts: int) -> None:
        self._inner = inner
        self._seconds = seconds
        self._attempts = attempts

    async def reach(self) -> None:
        """See `ObjectClient`. Tried once: the caller wants to know how it is now."""
        await self._inner.reach()

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        return await self._again_and_again(lambda: self._inner.list_objects(prefix))

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        return await self._again_and_again(lambda: self._inner.list_versions(prefix))

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        return await self._again_and_again(lambda: self._inner.head(version))

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        return await self._again_and_again(lambda: self._inner.get_object(key, max_bytes=max_bytes))

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""
        rest, wanted = Rest(request.byte_range, receive), request

        async def receive_rest() -> None:
            nonlocal wanted
            if not rest.byte_range:  # only the end of the body's frame was missing
                return
            try:
                await self._inner.get_range(wanted.after(rest.byte_range.start), rest.receive)
            except StorageError as error:
                if not isinstance(error, BusyError):  # that came by a connection that is good
                    wanted = wanted.anew()
                raise

        while True:
            before = rest.byte_range
            try:
                await self._again_and_again(receive_rest, unless=lambda: rest.is_handing_on)
            except TransportError as error:
                is_no_break = rest.is_handing_on or isinstance(error, BusyError)
                if is_no_break or len(before) - len(rest.byte_range) < _PROGRESS_BYTES:
                    raise
            else:
                return

    async def _again_and_again(
        self, ask: Callable[[], Awaitable[_Answer]], *, unless: Callable[[], bool] = lambda: False
    ) -> _Answer:
        """Ask until there is an answer, or no other try is worth it; `unless`: the failure is not the network's."""
        deadline = trio.current_time() + self._seconds * (1 - _PART_FOR_A_TRY)
        failures = mismatches = 0
        while True:
            try:
                return await ask()
            except StorageError as error:
                failures += 1
                mismatches += isinstance(error, MismatchError)
                wait = wait_seconds(
                    error,
                    failures=failures,
                    mismatches=mismatches,
                    left_seconds=deadline - trio.current_time(),
                    chance=random.random(),
                )
                if wait is None or failures == self._attempts or unless():
                    raise
            await trio.sleep(wait)
