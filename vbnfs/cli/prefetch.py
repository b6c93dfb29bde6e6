"""What `vbnfs prefetch` does: files are found, there is room for them, they are fetched, and each is checked.

`vbnfs pin` does the same, and holds them from before the first byte is fetched. `vbnfs prefetch --record` does it
with the portions of files that a record names (recorded.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.filling import held_while_fetched
from vbnfs.access.opening import scope_of
from vbnfs.access.versions import Versions
from vbnfs.blocks import Portion
from vbnfs.cache.measured_rate import last_rate
from vbnfs.cli.asked import Place
from vbnfs.cli.progress import Bar, time_text
from vbnfs.cli.render import files as files_text
from vbnfs.cli.render import lfp_left_out, size
from vbnfs.cli.room import FETCHING, Need, Room, need_of
from vbnfs.cli.running import load_aloud
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.verify import ABSENT, Finding, Outcome, Show, Work, run_showing, working
from vbnfs.cli.wanted import Found, Wanted, find
from vbnfs.errors import CacheError


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fetch would do. Sizes in bytes; `rate_bytes` a second is None where none is known.

    `dataset_version` may be several, as text. `whole_files` are in the cache already, `left_out` are
    LFP, and `absent` are paths of files that the dataset does not have. `problem` says why there is no room.
    """

    dataset_version: str
    files: int
    size_bytes: int
    whole_files: int
    missing_bytes: int
    left_out_files: int
    left_out_bytes: int
    absent: Sequence[str]
    room_bytes: int
    free_bytes: int
    rate_bytes: int | None
    is_limited: bool
    problem: str | None

    @property
    def seconds(self) -> float | None:
        """How long it may take; None where no rate is known."""
        return None if self.rate_bytes is None else self.missing_bytes / self.rate_bytes

    def as_json(self) -> dict[str, Any]:
        """The plan with its fields' names."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "seconds": None if self.seconds is None else round(self.seconds, 1)}

    def lines(self) -> list[str]:
        """The plan in words."""
        are = "is" if self.whole_files == 1 else "are"
        whole = f"; {self.whole_files:,} of them {are} here" if self.whole_files else ""
        what = f"{self.dataset_version}: {files_text(self.files)}, {size(self.size_bytes)}{whole}"
        room = f"room: {size(self.room_bytes)} in the cache, {size(self.free_bytes)} free on its disk"
        return [f"{what}; {size(self.missing_bytes)} to fetch", room, self._time_line()]

    def left_out_line(self) -> str | None:
        """What is not fetched because it is LFP; None if nothing is."""
        return lfp_left_out(self.left_out_files, self.left_out_bytes)

    def _time_line(self) -> str:
        if not self.missing_bytes:
            return "time: nothing is to be fetched"
        if self.seconds is None:
            return "time: not known before a first fetch of 8 MiB or more"
        rate = f"{size(self.rate_bytes)}/s"
        by = f"{rate}, the limit" if self.is_limited else f"the {rate} of the last fetch"
        return f"time: about {time_text(self.seconds)}, at {by}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be fetched: the files, portions of their contents in this order, and what these need.

    `absent` are paths of files that were asked for, and that the dataset does not have.
    """

    versions: Versions
    found: Found
    portions: Sequence[Portion]
    need: Need
    absent: Sequence[str] = ()


Choose = Callable[[Versions, Work], Awaitable[Target]]
Hold = Callable[[Target], Awaitable[None]]  # before anything is fetched


def run(
    where: Place, choose: Choose, show: Show, bar: Bar, announce: Callable[[Plan], None], *, hold: Hold | None = None
) -> tuple[Plan, Outcome]:
    """Fetch and check all that is chosen.

    `announce` gets the plan before anything is fetched. Raises a `VbnfsError` if it cannot be found out what there
    is, or there is no room.
    """
    return run_showing(partial(fetch, where, choose, bar=bar, announce=announce, hold=hold), show)


def run_trial(where: Place, choose: Choose, *, is_pin: bool) -> Plan:
    """What `run` would do; for a pin, what `hold_and_fetch` would (pinning.py)."""
    return run_to_the_end(partial(_try, where, choose, is_pin))


async def _try(where: Place, choose: Choose, is_pin: bool) -> Plan:
    async with open_dataset(where.config) as dataset, working(where, dataset, trusts=True) as work:
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        return await plan_of(where, await choose(versions, work), is_pin=is_pin)


async def fetch(
    where: Place,
    choose: Choose,
    show: Show,
    *,
    bar: Bar,
    announce: Callable[[Plan], None],
    hold: Hold | None = None,
) -> tuple[Plan, Outcome]:
    """See `run`."""
    async with AsyncExitStack() as stack:
        dataset = await stack.enter_async_context(open_dataset(where.config))
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        work = await stack.enter_async_context(working(where, dataset, trusts=True))
        target = await choose(versions, work)
        await stack.enter_async_context(held_while_fetched(dataset, target.portions))
        plan = await plan_of(where, target, is_pin=hold is not None)
        if plan.problem is not None:
            raise CacheError(f"{plan.problem}; nothing was {FETCHING.brought}")
        announce(plan)
        if hold is not None:
            await hold(target)
        found = await work.fetch_and_check(target.found.files, target.portions, target.need, show=show, bar=bar)
        await trio.to_thread.run_sync(work.check_again, found, show)
        absent = [Finding(path, ABSENT, None, "no version of this dataset has it") for path in target.absent]
        for finding in absent:
            show(finding)
        return plan, Outcome((*found.values(), *absent))


def chosen_by(wanted: Wanted) -> Choose:
    """What chooses the files that are wanted, each as a whole."""
    return partial(_target_of, wanted)


async def _target_of(wanted: Wanted, versions: Versions, work: Work) -> Target:
    found = await find(versions, wanted)
    contents = await work.contents_of(found.files)
    need = await trio.to_thread.run_sync(need_of, versions.dataset.cache, contents)
    return Target(versions, found, list(map(Portion.whole, contents)), need)


async def plan_of(where: Place, target: Target, *, is_pin: bool) -> Plan:
    """What a fetch would do. `is_pin`: all of it is to be kept."""
    dataset = target.versions.dataset
    contents, need, left_out = [one.content for one in target.portions], target.need, target.found.left_out
    sizes = [dataset.catalog.sizes.get(node.content) for node in left_out]
    room = await trio.to_thread.run_sync(Room.of, where, {one.content_id for one in contents})
    rate = await trio.to_thread.run_sync(last_rate, where.config.cache_dir, scope_of(where.config))
    await dataset.limit.learn()
    limit = dataset.limit.rate
    whole = await trio.to_thread.run_sync(lambda: sum(map(dataset.cache.is_whole, contents)))
    return Plan(
        dataset_version=target.found.dataset_version,
        files=len(target.found.files),
        size_bytes=need.whole_bytes,
        whole_files=whole,
        missing_bytes=need.missing_bytes,
        left_out_files=len(left_out),
        left_out_bytes=sum(one.size_bytes for one in sizes if one is not None),
        absent=target.absent,
        room_bytes=room.left_bytes,
        free_bytes=room.free_bytes,
        rate_bytes=min((one for one in (rate, limit) if one), default=None),
        is_limited=bool(limit) and (rate is None or limit < rate),
        problem=room.why_not(need, FETCHING, is_pin=is_pin),
    )
