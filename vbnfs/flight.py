"""Single flight: what several tasks want at the same time is asked for once, and all of them get the outcome."""

from typing import Generic, TypeVar, cast

import trio

from vbnfs.errors import VbnfsError, copy_error

T = TypeVar("T")


class Flight(Generic[T]):
    """A question under way, in one event loop. It ends once, by `land` or `fail`.

    The asker keeps it in a map from before its first await until it has ended, so that others find it there.
    """

    __slots__ = ("_ended", "_error", "value")

    def __init__(self) -> None:
        self.value: T | None = None  # None until it has landed
        self._error: VbnfsError | None = None
        self._ended = trio.Event()

    def land(self, value: T) -> None:
        """It has brought this."""
        self.value = value
        self._ended.set()

    def fail(self, error: VbnfsError) -> None:
        """It has failed with this."""
        self._error = error
        self._ended.set()

    async def outcome(self) -> T:
        """What it has brought, as soon as it has. Raises a copy of what it failed with: one for each task."""
        await self._ended.wait()
        if self._error is not None:
            raise copy_error(self._error)
        return cast(T, self.value)
