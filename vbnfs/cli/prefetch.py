"""What `vbnfs prefetch` and `vbnfs pin` do: see access/fetching.py. It opens the dataset; plans in words."""

from contextlib import AsyncExitStack
from functools import partial

from vbnfs.access.dataset import open_dataset
from vbnfs.access.fetching import Announce, Choose, Hold, Plan, Target, choose, fetch, plan_of
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import Outcome, Show, Work, working
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Wanted
from vbnfs.cli.progress import Bar, time_text
from vbnfs.cli.render import files as files_text
from vbnfs.cli.render import lfp_left_out, size
from vbnfs.cli.running import load_aloud, open_tables
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.verify import run_showing


def run(
    where: Place, choose_files: Choose, show: Show, bar: Bar, announce: Announce, *, hold: Hold | None = None
) -> tuple[Plan, Outcome]:
    """Fetch and check all that is chosen.

    `announce` gets the plan before anything is fetched. Raises a `VbnfsError` if it cannot be found out what there
    is, or there is no room.
    """
    return run_showing(partial(_fetch, where, choose_files, bar=bar, announce=announce, hold=hold), show)


def run_trial(where: Place, choose_files: Choose, *, is_pin: bool) -> Plan:
    """What `run` would do; for a pin, what `hold_and_fetch` would (pinning.py)."""
    return run_to_the_end(partial(_try, where, choose_files, is_pin))


async def _try(where: Place, choose_files: Choose, is_pin: bool) -> Plan:
    async with AsyncExitStack() as stack:
        _, target = await _chosen(stack, where, choose_files)
        return await plan_of(where, target, is_pin=is_pin)


async def _fetch(
    where: Place, choose_files: Choose, show: Show, *, bar: Bar, announce: Announce, hold: Hold | None
) -> tuple[Plan, Outcome]:
    async with AsyncExitStack() as stack:
        work, target = await _chosen(stack, where, choose_files)
        return await fetch(where, work, target, show=show, bar=bar.run, announce=announce, hold=hold)


async def _chosen(stack: AsyncExitStack, where: Place, choose_files: Choose) -> tuple[Work, Target]:
    dataset = await stack.enter_async_context(open_dataset(where.config))
    versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
    work = await stack.enter_async_context(working(where, dataset, trusts=True))
    return work, await choose_files(versions, work)


def chosen_by(wanted: Wanted) -> Choose:
    """What chooses the files that are wanted, each as a whole."""

    async def choose_files(versions: Versions, work: Work) -> Target:
        return await choose(wanted, open_tables(versions), versions, work)

    return choose_files


def lines_of(plan: Plan) -> list[str]:
    """A plan in words."""
    are = "is" if plan.whole_files == 1 else "are"
    whole = f"; {plan.whole_files:,} of them {are} complete" if plan.whole_files else ""
    what = f"{plan.dataset_version}: {files_text(plan.files)}, {size(plan.size_bytes)}{whole}"
    room = f"room: {size(plan.room_bytes)} in the cache, {size(plan.free_bytes)} free on its disk"
    return [f"{what}; {size(plan.missing_bytes)} to fetch", room, _time_line(plan)]


def left_out_line(plan: Plan) -> str | None:
    """What is not fetched because it is LFP; None if nothing is."""
    return lfp_left_out(plan.left_out_files, plan.left_out_bytes)


def _time_line(plan: Plan) -> str:
    if not plan.missing_bytes:
        return "time: nothing is to be fetched"
    if plan.seconds is None:
        return "time: not known before a first fetch of 8 MiB or more"
    rate = f"{size(plan.rate_bytes)}/s"
    by = f"{rate}, the limit" if plan.is_limited else f"the {rate} of the last fetch"
    return f"time: about {time_text(plan.seconds)}, at {by}"
