"""How fetches wait for `--limit-rate`, before they ask for anything: what no reader waits for waits behind readers.

A fetch is admitted before its GET is sent, and then comes as fast as the line is. So nothing of the network's side
has to know of the limit: no stream is slowed down, and taken for one that stalls. GETs are short instead
(`vbnfs.rate`).

    admitted()      a task for each fetch. Those that readers wait for stand in one line, all others in a second one.
                    In each of them files take turns: the kernel reads ahead, too, and what it asks for is a read like
                    any other. Only the first of the first line asks the bucket, and again after the time that lacks.
    watch()         a task that learns, twice a second, which rate was set.

The bucket is in a file, and asked in a thread: the disk may hang. Then this process keeps to the rate by itself.
"""

import bisect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import structlog
import trio

from vbnfs.cache.shared_rate import SharedBucket
from vbnfs.host.clocks import boot_time
from vbnfs.metrics import Metrics
from vbnfs.rate import OFF, Bucket, ahead_bytes, longest_get_blocks
from vbnfs.reading.deadlines import Deadlines

log = structlog.get_logger()

_Result = TypeVar("_Result")

_LEARN_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.25  # a wait ends so soon after the rate was raised
_PATIENCE_SECONDS: Final = 0.5  # with the cache's disk
_REST_SECONDS: Final = 5.0  # without it, after that


class Admission:
    """The wish of a fetch to ask for `count_bytes` of a content. `is_wanted`: a reader waits for it."""

    def __init__(self, content_id: str, count_bytes: int, *, is_wanted: bool) -> None:
        self.content_id = content_id
        self.count_bytes = count_bytes
        self.turn = 0  # in its line
        self.came_bytes = 0  # what has not come in the end is given back
        self.is_wanted = is_wanted
        self._changed = trio.lowlevel.ParkingLot()

    def want(self) -> None:
        """A reader waits for it by now."""
        if not self.is_wanted:
            self.is_wanted = True
            self.wake()

    def wake(self) -> None:
        """Something has changed that it may wait for."""
        self._changed.unpark_all()

    async def wait(self, seconds: float) -> None:
        """Until it is woken, for so long at the most."""
        with trio.move_on_after(seconds):
            await self._changed.park()


class Line:
    """Admissions that wait, in which contents take turns (start-time fair queueing: Goyal, Vin and Cheng, 1996)."""

    def __init__(self) -> None:
        self._waiting: list[Admission] = []  # by their turns
        self._turn = 0  # of the one that left as the first one, last
        self._next_turns: dict[str, int] = {}  # by content

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Admission | None:
        """Whose turn it is."""
        return self._waiting[0] if self._waiting else None

    def join(self, admission: Admission) -> None:
        """Wait for a turn."""
        admission.turn = max(self._turn, self._next_turns.get(admission.content_id, 0))
        self._next_turns[admission.content_id] = admission.turn + 1
        bisect.insort(self._waiting, admission, key=lambda one: one.turn)

    def leave(self, admission: Admission) -> None:
        """Wait no longer."""
        if self.first is admission:
            self._turn = admission.turn
        self._waiting.remove(admission)
        if not self._waiting:
            self._turn = 0
            self._next_turns.clear()


class RateLimit:
    """The limit of one process, and of all that share `bucket`; None: of this process alone.

    `rate` holds, in bytes a second, until `read_rate` finds another one that was set. `clock` is that of the bucket.
    """

    def __init__(
        self,
        *,
        rate: int = OFF,
        read_rate: Callable[[], int | None] = lambda: None,
        bucket: SharedBucket | None = None,
        metrics: Metrics | None = None,
        deadlines: Deadlines | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.rate = rate
        self.deadlines: Final = deadlines or Deadlines()
        self._read_rate = read_rate
        self._shared = bucket
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._own = Bucket()
        self._rests_until = float("-inf")
        self._threads, self._learning = trio.CapacityLimiter(1), trio.CapacityLimiter(1)
        self._wanted, self._others = Line(), Line()
        self._listed_bytes = self._metrics.listed_bytes  # of these, how many were taken out of the bucket
        self._owed_bytes = 0  # to the bucket: what was taken out, and did not come

    # What follows from it

    @property
    def most_blocks(self) -> int | None:
        """How many blocks a fetch may bring; None: any number."""
        return longest_get_blocks(self.rate) if self.rate else None

    def within_window(self, count_bytes: int) -> int:
        """How much is worth having ahead of readers, of what would be."""
        return min(count_bytes, ahead_bytes(self.rate)) if self.rate else count_bytes

    def report(self) -> dict[str, Any]:
        """For `vbnfs status`: the rate in bytes a second, None for none, and what waits for it now."""
        return {
            "rate_bytes": self.rate or None,
            "is_shared": self._is_shared,
            "waiting_reads": len(self._wanted),
            "waiting_others": len(self._others),
        }

    # Learning the rate

    async def watch(self) -> None:
        """Learn which rate is set, until cancelled."""
        while True:
            await self.learn()
            await trio.sleep(_LEARN_SECONDS)

    async def learn(self) -> None:
        """Go by the rate that was set last, as far as the disk says it soon."""
        with trio.move_on_after(_PATIENCE_SECONDS), suppress(RuntimeError):  # no thread to be had
            found = await trio.to_thread.run_sync(self._read_rate, abandon_on_cancel=True, limiter=self._learning)
            if found is not None and found != self.rate:
                self.rate = found
                log.info("the rate has changed", limit_rate=self.rate or "off")
                self._wake_first()

    # Waiting for it

    @asynccontextmanager
    async def admitted(self, admission: Admission) -> AsyncIterator[None]:
        """Entered when a fetch may ask for what it wants."""
        is_limited = self.rate != OFF
        if is_limited:
            await self._wait_for_turn(admission)
        try:
            yield
        finally:
            if is_limited:
                self._owed_bytes += max(0, admission.count_bytes - admission.came_bytes)

    async def _wait_for_turn(self, admission: Admission) -> None:
        line: Line | None = None
        is_held = False
        try:
            while self.rate != OFF:
                line = self._join(admission, line)
                wait_seconds = _LOOK_SECONDS
                if line.first is admission and (line is self._wanted or not self._wanted):
                    wait_seconds = await self._try(admission)
                    if not wait_seconds:
                        return
                self._metrics.limited_fetches += not is_held
                is_held = True
                await self._hold(admission, min(wait_seconds, _LOOK_SECONDS))
        finally:
            if line is not None:
                line.leave(admission)
                self._wake_first()

    def _join(self, admission: Admission, line: Line | None) -> Line:
        """Stand in the line where it belongs by now: it may have come to be wanted."""
        belongs = self._wanted if admission.is_wanted else self._others
        if line is belongs:
            return line
        if line is not None:
            line.leave(admission)
        belongs.join(admission)
        return belongs

    async def _hold(self, admission: Admission, seconds: float) -> None:
        """Wait. While the first of those waits that readers wait for, no reader's time goes on."""
        if self._wanted.first is not admission:
            await admission.wait(seconds)
            return
        began = trio.current_time()
        self.deadlines.extend(seconds)
        try:
            await admission.wait(seconds)
        finally:  # woken early: the rest of it did not pass
            self.deadlines.extend(min(0.0, trio.current_time() - began - seconds))

    def _wake_first(self) -> None:
        for line in (self._wanted, self._others):
            if line.first is not None:
                line.first.wake()

    # The bucket

    async def _try(self, admission: Admission) -> float:
        """Take what it wants out of the bucket. Returns how long that has to wait, if it has to."""
        rate, clock, is_wanted, count_bytes = self.rate, self._clock, admission.is_wanted, admission.count_bytes
        listed_bytes, self._listed_bytes = self._metrics.listed_bytes - self._listed_bytes, self._metrics.listed_bytes
        owed_bytes, self._owed_bytes = self._owed_bytes, 0

        def change(bucket: Bucket) -> tuple[Bucket, float]:
            filled = bucket.filled(rate, clock()).charged(listed_bytes, rate).without(-owed_bytes)
            wait_seconds = filled.wait_seconds(count_bytes, rate, is_wanted=is_wanted)
            return (filled if wait_seconds else filled.without(count_bytes)), wait_seconds

        return await self._change(change)

    @property
    def _is_shared(self) -> bool:
        return self._shared is not None and trio.current_time() >= self._rests_until

    async def _change(self, change: Callable[[Bucket], tuple[Bucket, _Result]]) -> _Result:
        """Change the bucket of all, or this process's own where that cannot be had soon."""
        if self._shared is not None and self._is_shared:
            reason = f"no answer of the cache's disk within {_PATIENCE_SECONDS:g} s"
            try:
                with trio.move_on_after(_PATIENCE_SECONDS):
                    return await trio.to_thread.run_sync(
                        self._shared.change, change, abandon_on_cancel=True, limiter=self._threads
                    )
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread to be had
                reason = str(error)
            log.info("this process keeps to the rate by itself for a while", reason=reason)
            self._rests_until = trio.current_time() + _REST_SECONDS
        self._own, result = change(self._own)
        return result
