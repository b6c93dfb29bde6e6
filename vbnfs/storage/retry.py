"""Which failures are worth another try, and the `ObjectClient` that tries.

A transport failure (`TransportError`: no answer, a torn body, a busy server) may pass; every other storage
error is an answer and stays one. Waiting grows exponentially with jitter, and ends with the time allowed.
A range that broke off is asked for from where it broke, so no byte travels twice.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

import stamina

from vbnfs.errors import TransportError
from vbnfs.objects import (
    ByteRange,
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    Receive,
)

_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0


class RetryingClient:
    """Asks `inner` again after a transport failure.

    There are at most `attempts` requests, and no wait for another begins once `seconds` have passed.
    """

    def __init__(self, inner: ObjectClient, *, seconds: float, attempts: int) -> None:
        self._inner = inner
        self._seconds = seconds
        self._attempts = attempts

    async def reach(self) -> None:
        """See `ObjectClient`. Tried once: whoever asks wants to know how it is now."""
        await self._inner.reach()

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        async for attempt in self._tries():
            with attempt:
                rows = await self._inner.list_objects(prefix)
        return rows

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        async for attempt in self._tries():
            with attempt:
                rows = await self._inner.list_versions(prefix)
        return rows

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        async for attempt in self._tries():
            with attempt:
                attributes = await self._inner.head(version)
        return attributes

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        async for attempt in self._tries():
            with attempt:
                data = await self._inner.get_object(key, max_bytes=max_bytes)
        return data

    async def get_range(
        self, version: ObjectVersion, byte_range: ByteRange, *, size_bytes: int, receive: Receive
    ) -> None:
        """See `ObjectClient`."""
        position = byte_range.start
        is_handing_on = False

        async def receive_and_count(piece: bytes) -> None:
            nonlocal position, is_handing_on
            is_handing_on = True
            await receive(piece)
            is_handing_on = False
            position += len(piece)

        # Nobody knows how much of a piece was used by a `receive` that failed.
        async for attempt in self._tries(unless=lambda: is_handing_on):
            with attempt:
                if position == byte_range.stop:  # only the end of the body's frame was missing
                    return
                rest = ByteRange(position, byte_range.stop)
                await self._inner.get_range(version, rest, size_bytes=size_bytes, receive=receive_and_count)

    def _tries(self, *, unless: Callable[[], bool] = lambda: False) -> "AsyncIterator[stamina.Attempt]":
        context = stamina.retry_context(
            on=lambda error: isinstance(error, TransportError) and not unless(),
            attempts=self._attempts,
            timeout=self._seconds,
            wait_initial=_FIRST_WAIT_SECONDS,
            wait_max=_LONGEST_WAIT_SECONDS,
            wait_jitter=_FIRST_WAIT_SECONDS,
        )
        return context.__aiter__()
