"""The client that does not wait for a stalled GET, but asks for the rest of it on another connection.

A GET is stalled when its next `STEP_BYTES` take longer than such steps took lately (`stall.py`): no answer, bytes
that stop, a trickle. Then the rest of the range is asked for a second time. Both go on until one of them has brought
a step and wins; the other is cancelled. Where the second stalls as well, a third takes the place of the first. What
either brings is handed on once, in order, whichever brought it.

    _Race.run()     the GET's own task: asks, begins the others, and raises what came of them
    _ask()          a second time in a task of its own; `_taking` lets one at a time hand bytes on
    _watch()        a task that wakes when the time for a step is over
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from vbnfs.errors import MismatchError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ObjectClient, RangeRequest, Receive, Received
from vbnfs.s3.stall import STEP_BYTES, HedgeBudget, StallTimer
from vbnfs.s3.wrapper import WrapperClient


@dataclass(slots=True)
class _Lately:
    """What the GETs of a client share: how long first and later steps took lately, and how many may be made twice."""

    first: StallTimer = field(default_factory=StallTimer)
    later: StallTimer = field(default_factory=StallTimer)
    budget: HedgeBudget = field(default_factory=HedgeBudget)


class HedgingClient(WrapperClient):
    """Asks `inner` a second time for a range that stalls; everything else is passed on.

    `on_stall` is called when one does, also where it is not asked for again.
    """

    def __init__(self, inner: ObjectClient, *, metrics: Metrics, on_stall: Callable[[], None] = lambda: None) -> None:
        super().__init__(inner)
        self._metrics = metrics
        self._on_stall = on_stall
        self._lately = _Lately()

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""
        self._lately.budget = self._lately.budget.after_request()
        await _Race(self._inner, request, receive, self._lately, self._stalled).run()

    def _stalled(self) -> bool:
        """A GET has stalled: whether to ask once more."""
        self._on_stall()
        if not self._lately.budget.has_one:
            return False
        self._lately.budget = self._lately.budget.after_hedge()
        self._metrics.hedged_requests += 1
        return True


@dataclass(eq=False, slots=True)
class _Runner:
    """One request of a race: where its next byte stands, and how to end it."""

    offset: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_handing_on: bool = False  # stays, where `receive` raises: how much of it was used is unknown
    ended: trio.Event = field(default_factory=trio.Event)


class _Race:
    """A range that is asked for once, or twice when it stalls."""

    def __init__(
        self,
        client: ObjectClient,
        request: RangeRequest,
        receive: Receive,
        lately: _Lately,
        on_stall: Callable[[], bool],
    ) -> None:
        self._client = client
        self._request = request
        self._receive = receive
        self._lately = lately
        self._on_stall = on_stall
        self._start, self._stop = request.byte_range.start, request.byte_range.stop
        self._position = self._step_start = self._start  # the next byte to hand on; where the step began
        self._step_began = trio.current_time()
        self._runners: list[_Runner] = []
        self._taking = trio.Lock()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Hand the range on. Raises what the last request failed with, or what `receive` raised."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery)
            await self._ask(self._new_runner(), nursery.cancel_scope)
        if self._failure is not None:
            raise self._failure

    def _new_runner(self) -> _Runner:
        runner = _Runner(self._position)
        self._runners.append(runner)
        return runner

    async def _ask(self, runner: _Runner, everything: trio.CancelScope, replaced: _Runner | None = None) -> None:
        """Ask for the rest of the range; as soon as the one that is `replaced` has left its connection."""

        async def take(received: Received) -> None:
            async with self._taking:
                await self._take(runner, received)

        try:
            with runner.scope:
                if replaced is not None:
                    await replaced.ended.wait()
                await self._client.get_range(self._request.after(runner.offset), take)
                everything.cancel()
        except Exception as error:
            others = [other for other in self._runners if other is not runner]
            may_pass = isinstance(error, TransportError | MismatchError) and not runner.is_handing_on
            if others and may_pass:  # the other one may bring it
                self._runners = others
            else:
                self._failure = error
                everything.cancel()
        finally:
            runner.ended.set()

    async def _take(self, runner: _Runner, received: Received) -> None:
        """Hand on what of it is new."""
        runner.offset = received.stop
        if runner.offset <= self._position:
            return
        began, runner.is_handing_on = trio.current_time(), True
        await self._receive(received.after(self._position))
        runner.is_handing_on = False
        self._position = runner.offset
        self._step_began += trio.current_time() - began  # that was the receiver's time
        if self._position - self._step_start >= STEP_BYTES or self._position == self._stop:
            self._end_step(runner)

    def _end_step(self, winner: _Runner) -> None:
        """Note how long the step took, and end the race if there is one."""
        took = trio.current_time() - self._step_began
        if self._step_start == self._start:
            self._lately.first = self._lately.first.after(took)
        else:
            self._lately.later = self._lately.later.after(took)
        self._step_start, self._step_began = self._position, trio.current_time()
        for runner in self._runners:
            if runner is not winner:
                runner.scope.cancel()
        self._runners = [winner]

    async def _watch(self, nursery: trio.Nursery) -> None:
        while self._position < self._stop:  # the end of a body's frame is the client's own to wait for
            left = self._step_began + self._timer.seconds - trio.current_time()
            if any(runner.is_handing_on for runner in self._runners):
                left = self._timer.seconds
            elif left <= 0:
                if self._on_stall():
                    self._ask_once_more(nursery)
                left = self._timer.seconds
            await trio.sleep(left)

    def _ask_once_more(self, nursery: trio.Nursery) -> None:
        """On another connection, and on no more than two at a time."""
        replaced = self._runners.pop(0) if len(self._runners) > 1 else None
        if replaced is not None:
            replaced.scope.cancel()
        nursery.start_soon(self._ask, self._new_runner(), nursery.cancel_scope, replaced)

    @property
    def _timer(self) -> StallTimer:
        return self._lately.first if self._step_start == self._start else self._lately.later
