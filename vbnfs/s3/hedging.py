"""The client that does not wait for a stalled GET, but asks for the rest of it on a new connection.

A GET is stalled when its next `STEP_BYTES` take longer than such steps took lately, or no byte comes (`stall.py`): no
answer, bytes that stop, a trickle. Then the rest of the range is asked for a second time. Both go on until one of
them has brought a step and wins; the other is cancelled. Where the second stalls as well, a third takes the place of
the first. What either brings is handed on once, in order, whichever brought it.

While nothing comes by any GET for long, one asks for a single byte on a new connection, twice a second: a probe.
When a new connection brings something, of a probe or of a GET, what stalls is asked for again at once, and does not
count.

    _Race.run()     the GET's own task: asks, begins the others, and raises what came of them
    _ask()          a second time in a task of its own; `_taking` lets one at a time hand bytes on
    _watch()        a task that wakes when the time for a step is over, or a new connection has brought something
    _probe()        a task for each probe
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from vbnfs.errors import (
    BusyError,
    DeadlineError,
    MismatchError,
    NoDescriptorError,
    OfflineError,
    SilenceError,
    StorageError,
    TransportError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectClient, RangeRequest, Receive, Received
from vbnfs.s3.stall import STEP_BYTES, HedgeBudget, Proof, Silence, StallTimer, next_chance, slow_chance
from vbnfs.s3.wrapper import WrapperClient

_PROBE_SECONDS: Final = 3.0  # for the answer to a probe
PROBES_AT_ONCE: Final = 6  # two are sent a second
_MOVING_SECONDS: Final = 1.0
_CROWD: Final = 4  # fewer that are stalled are hiccups of their own ...
_PART_STALLED: Final = 0.25  # ... and so is a smaller part of those that are under way


@dataclass(slots=True)
class _Lately:
    """What the GETs of a client share.

    How long first and later steps took lately, how many GETs may be made twice, how many there may be at a time and
    are, how many of them are stalled, when something came last and since when nothing has, and the last proof that
    new connections bring something.
    """

    most: float
    sends_probes: bool
    first: StallTimer = field(default_factory=StallTimer)
    later: StallTimer = field(default_factory=StallTimer)
    budget: HedgeBudget = field(default_factory=HedgeBudget)
    under_way: int = 0
    stalled: int = 0
    heard_at: float = -math.inf
    silence: Silence = field(default_factory=Silence)
    proof: Proof = field(default_factory=Proof)
    proven: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def note_byte(self) -> None:
        """Something has come, if only a refusal."""
        self.heard_at = trio.current_time()
        self.silence = self.silence.after_byte()

    @property
    def is_crowded(self) -> bool:
        """Whether the line has more GETs than it can carry: many are stalled, and others get on."""
        is_moving = trio.current_time() - self.heard_at < _MOVING_SECONDS
        return is_moving and self.stalled >= max(_CROWD, _PART_STALLED * self.under_way)

    def prove(self, began: float) -> None:
        """Something has come by a new connection, asked at `began`."""
        self.proof = self.proof.after(began, ends_silence=self.silence.is_long(trio.current_time()))
        self.note_byte()
        self.proven.unpark_all()


class HedgingClient(WrapperClient):
    """Asks `inner` a second time for a range that stalls; everything else is passed on.

    `on_stall` is called when one does, also where it is not asked for again, and `on_crowd`, with how many do, where
    that is many and others get on. `most` is how many GETs there may be at a time; where there are, one that stalls
    is replaced.

    A GET of which no byte comes for `silence_seconds` fails with `SilenceError`. Where others bring some, it waits
    for them on a full line, and has `crowded_seconds`. `sends_probes`: also while nothing comes at all, it is found
    out when something does again.
    """

    def __init__(
        self,
        inner: ObjectClient,
        *,
        metrics: Metrics,
        on_stall: Callable[[], None] = lambda: None,
        on_crowd: Callable[[int], None] = lambda stalled: None,
        most: float = math.inf,
        silence_seconds: float = math.inf,
        crowded_seconds: float = 0.0,
        sends_probes: bool = False,
    ) -> None:
        super().__init__(inner)
        self._metrics = metrics
        self._on_stall = on_stall
        self._on_crowd = on_crowd
        self._patience = _Patience(silence_seconds, max(silence_seconds, crowded_seconds))
        self._lately = _Lately(most, sends_probes)

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""
        lately, now = self._lately, trio.current_time()
        lately.budget = lately.budget.after_request()
        first = request.anew() if lately.silence.is_long(now) else request
        lately.silence = lately.silence.after_request(now)
        race = _Race(self._inner, first, receive, lately, self._stalled, self._patience)
        try:
            await race.run()
        except StorageError as error:
            if _is_answer(error):
                lately.note_byte()
            raise

    def _stalled(self, may_ask: bool) -> bool:
        """A GET has stalled, and could be asked for once more: whether to do so."""
        self._on_stall()
        if self._lately.is_crowded:
            self._on_crowd(self._lately.stalled)
        if not may_ask or not self._lately.budget.has_one:
            return False
        self._lately.budget = self._lately.budget.after_hedge()
        self._metrics.hedged_requests += 1
        return True


def _is_answer(error: StorageError) -> bool:
    """Whether the server has said so."""
    if isinstance(error, TransportError):
        return isinstance(error, BusyError) and not isinstance(error, NoDescriptorError)
    return not isinstance(error, OfflineError | DeadlineError)


@dataclass(frozen=True, slots=True)
class _Patience:
    """For how long no byte of a GET may come: while none comes of others, and while some do."""

    silent_seconds: float
    crowded_seconds: float

    def ends_at(self, heard_at: float, others_at: float) -> float:
        """When a GET is given up. `heard_at`: when its last byte came, or it began; `others_at`: that of others."""
        return min(max(heard_at, others_at) + self.silent_seconds, heard_at + self.crowded_seconds)


@dataclass(eq=False, slots=True)
class _Runner:
    """One request of a race: where its next byte stands, when it was asked, and how to end it.

    `is_anew`: on a new connection, by which nothing has come yet.
    """

    offset: int
    is_anew: bool
    began: float = field(default_factory=trio.current_time)
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
        on_stall: Callable[[bool], bool],
        patience: _Patience,
    ) -> None:
        self._client = client
        self._request = request
        self._receive = receive
        self._lately = lately
        self._on_stall = on_stall
        self._patience = patience
        self._start, self._stop = request.byte_range.start, request.byte_range.stop
        self._position = self._step_start = self._start  # the next byte to hand on; where the step began
        self._step_began = self._heard_at = self._judged_at = self._byte_at = trio.current_time()
        self._is_stalled = False
        self._replaced = 0  # since the last byte
        self._runners: list[_Runner] = []
        self._taking = trio.Lock()
        self._failure: Exception | None = None
        self._silent = trio.CancelScope()

    async def run(self) -> None:
        """Hand the range on. Raises what the last request failed with, or what `receive` raised."""
        try:
            with self._silent:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, nursery)
                    await self._ask(self._new_runner(self._request.is_anew), nursery.cancel_scope)
        finally:
            self._set_stalled(is_stalled=False)
        if self._silent.cancelled_caught:
            about = f"{self._request.version}: no byte within {round(trio.current_time() - self._byte_at, 1):g} s"
            raise SilenceError(f"{about} on any connection (--silence-timeout)")
        if self._failure is not None:
            raise self._failure

    def _new_runner(self, is_anew: bool = True) -> _Runner:
        runner = _Runner(self._position, is_anew)
        self._runners.append(runner)
        return runner

    async def _ask(self, runner: _Runner, everything: trio.CancelScope, replaced: _Runner | None = None) -> None:
        """Ask for the rest of the range; as soon as the one that is `replaced` has left its connection."""

        async def take(received: Received) -> None:
            async with self._taking:
                await self._take(runner, received)

        self._lately.under_way += 1
        try:
            with runner.scope:
                if replaced is not None:
                    await replaced.ended.wait()
                request = self._request.after(runner.offset)
                await self._client.get_range(request.anew() if runner.is_anew else request, take)
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
            self._lately.under_way -= 1
            runner.ended.set()

    async def _take(self, runner: _Runner, received: Received) -> None:
        """Hand on what of it is new."""
        self._note_byte(runner)
        self._byte_at = trio.current_time()
        runner.offset = received.stop
        if runner.offset <= self._position:
            return
        began, runner.is_handing_on = trio.current_time(), True
        await self._receive(received.after(self._position))
        runner.is_handing_on = False
        self._position = runner.offset
        self._heard_at = self._byte_at = trio.current_time()
        self._step_began += self._heard_at - began  # that was the receiver's time
        if self._position - self._step_start >= STEP_BYTES or self._position == self._stop:
            self._end_step(runner)

    def _note_byte(self, runner: _Runner) -> None:
        self._set_stalled(is_stalled=False)
        self._replaced = 0
        if runner.is_anew:
            runner.is_anew = False
            self._lately.prove(runner.began)
        else:
            self._lately.note_byte()

    def _end_step(self, winner: _Runner) -> None:
        """Note how long the winner took for the step, and end the race if there is one."""
        took = trio.current_time() - max(self._step_began, winner.began)
        if self._step_start == self._start:
            self._lately.first = self._lately.first.after(took)
        else:
            self._lately.later = self._lately.later.after(took)
        self._step_start, self._step_began = self._position, trio.current_time()
        for runner in self._runners:
            if runner is not winner:
                runner.scope.cancel()
        self._runners = [winner]

    # When it stalls

    async def _watch(self, nursery: trio.Nursery) -> None:
        while self._position < self._stop:  # the end of a body's frame is the client's own to wait for
            with trio.move_on_at(min(self._due_at(), self._probe_at(), self._gives_up_at())):
                await self._lately.proven.park()
            if any(runner.is_handing_on for runner in self._runners):
                self._judged_at = trio.current_time()
            elif trio.current_time() >= self._gives_up_at():
                self._silent.cancel()
                return
            else:
                self._judge(nursery)

    def _due_at(self) -> float:
        """When it is stalled, or has stalled for as long again."""
        step = max(self._step_began, self._judged_at) + self._timer.seconds
        silent = max(self._heard_at, self._judged_at) + self._timer.silent_seconds
        return min(step, silent, self._next_chance(), self._replaced_at())

    def _next_chance(self) -> float:
        seconds = self._patience.silent_seconds
        return next_chance(self._heard_at, self._judged_at, seconds)

    def _replaced_at(self) -> float:
        return slow_chance(self._step_began, self._judged_at, self._patience.silent_seconds)

    def _gives_up_at(self) -> float:
        """When it has brought nothing for too long; never while the receiver takes its time."""
        if any(runner.is_handing_on for runner in self._runners):
            return math.inf
        return self._patience.ends_at(self._byte_at, self._lately.heard_at)

    def _probe_at(self) -> float:
        if not self._lately.sends_probes or any(runner.is_handing_on for runner in self._runners):
            return math.inf
        return self._lately.silence.next_probe(self._timer)

    def _judge(self, nursery: trio.Nursery) -> None:
        """Ask once more, or send a probe, if there is a reason to."""
        now = trio.current_time()
        silent_since = max(self._heard_at, *(runner.began for runner in self._runners))
        if self._lately.proof.allows(silent_since=silent_since, is_stalled=self._is_stalled):
            self._judged_at = now
            self._ask_once_more(nursery)
        elif now >= self._due_at():
            is_last_chance, is_replaced = now >= self._next_chance(), now >= self._replaced_at()
            self._judged_at = now
            self._set_stalled(is_stalled=True)
            if self._on_stall(self._may_ask_once_more(now)) or is_last_chance:
                self._ask_once_more(nursery)
            elif is_replaced:
                self._ask_once_more(nursery, replaces=True)
        elif now >= self._probe_at():
            self._lately.silence = self._lately.silence.after_probe(now)
            nursery.start_soon(self._probe)

    def _set_stalled(self, *, is_stalled: bool) -> None:
        self._lately.stalled += is_stalled - self._is_stalled
        self._is_stalled = is_stalled

    def _may_ask_once_more(self, now: float) -> bool:
        """Whether there is room for one more, or the only one has had its time: twice as much each time."""
        if len(self._runners) > 1 or self._lately.under_way < self._lately.most:
            return True
        return now - self._runners[0].began >= self._timer.silent_seconds * 2.0**self._replaced

    def _ask_once_more(self, nursery: trio.Nursery, *, replaces: bool = False) -> None:
        """On a new connection; on two at a time at the most, on one where there is no room, or it `replaces` one."""
        has_room = not replaces and len(self._runners) == 1 and self._lately.under_way < self._lately.most
        replaced = None if has_room else self._runners.pop(0)
        if replaced is not None:
            self._replaced += 1
            replaced.scope.cancel()
        self._lately.silence = self._lately.silence.after_probe(trio.current_time())  # it is as good as one
        nursery.start_soon(self._ask, self._new_runner(), nursery.cancel_scope, replaced)

    async def _probe(self) -> None:
        """Ask for a single byte. It says nothing of the object: only that a new connection brings something."""
        began, at = trio.current_time(), self._position

        async def receive(_: Received) -> None:
            self._lately.prove(began)

        probe = RangeRequest(self._request.version, ByteRange(at, at + 1), self._request.size_bytes, is_anew=True)
        with trio.move_on_after(_PROBE_SECONDS), suppress(StorageError):
            await self._client.get_range(probe, receive)

    @property
    def _timer(self) -> StallTimer:
        return self._lately.first if self._step_start == self._start else self._lately.later
