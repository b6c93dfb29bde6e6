"""Fetching files for a person: they are found, there is room for them, they are fetched, and each is checked.

`pin` does the same (pinning.py), and holds them from before the first byte is fetched. `vbnfs prefetch --record` does
it with the portions of files that a record names (recorded.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from vbnfs.access.filling import held_while_fetched
from vbnfs.access.opening import scope_of
from vbnfs.access.room import FETCHING, Need, Room, need_of
from vbnfs.access.session_files import OpenTables
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import ABSENT, Finding, Outcome, Show, ShowProgress, Work
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Found, Wanted, find
from vbnfs.blocks import Portion
from vbnfs.cache.measured_rate import last_rate
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
Announce = Callable[[Plan], None]
Hold = Callable[[Target], Awaitable[None]]  # before anything is fetched


async def fetch(
    where: Place,
    work: Work,
    target: Target,
    *,
    show: Show,
    bar: ShowProgress,
    announce: Announce,
    hold: Hold | None = None,
) -> tuple[Plan, Outcome]:
    """Fetch and check what was chosen; `work` trusts what was judged before.

    `announce` gets the plan before anything is fetched. Raises `CacheError` where there is no room.
    """
    async with held_while_fetched(target.versions.dataset, target.portions):
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


async def choose(wanted: Wanted, open_tables: OpenTables, versions: Versions, work: Work) -> Target:
    """The files that are wanted, each as a whole. Raises as `find` does."""
    found = await find(versions, wanted, open_tables)
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
    whole_ids = await trio.to_thread.run_sync(dataset.cache.whole_ids)
    return Plan(
        dataset_version=target.found.dataset_version,
        files=len(target.found.files),
        size_bytes=need.whole_bytes,
        whole_files=sum(one.content_id in whole_ids for one in contents),
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
