"""What `vbnfs verify` does: see access/verifying.py. It opens the dataset, and says how it ended."""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.tree_files import Place, asked_files
from vbnfs.access.verifying import GOOD, Outcome, Show, working
from vbnfs.access.verifying import verify as verify_files
from vbnfs.cli.progress import Bar
from vbnfs.cli.render import size
from vbnfs.cli.running import load_aloud
from vbnfs.cli.running import run as run_to_the_end

_Result = TypeVar("_Result")
_Found = TypeVar("_Found")


def run(where: Place, *, fetch: bool, show: Show, bar: Bar | None = None) -> Outcome:
    """See `verify`. What keeps `show` from writing is raised as it is."""
    shown_by = bar or Bar(is_hidden=True)
    return run_showing(lambda shown: verify(where, fetch=fetch, show=shown, bar=shown_by), show)


def run_showing(
    work: Callable[[Callable[[_Found], None]], Awaitable[_Result]], show: Callable[[_Found], None]
) -> _Result:
    """Do some work that shows what it finds. What keeps `show` from writing is raised as it is."""
    unwritten: list[OSError] = []

    def try_to_show(finding: _Found) -> None:
        try:
            show(finding)
        except OSError as error:
            unwritten.append(error)
            raise

    try:
        return run_to_the_end(partial(work, try_to_show))
    except BaseExceptionGroup:
        if unwritten:
            raise unwritten[0] from None
        raise


async def verify(where: Place, *, fetch: bool, show: Show, bar: Bar) -> Outcome:
    """Verify the files at paths of the tree (or all of a version, by its name); without any, all that is complete.

    Raises as `verifying.verify` does, and `DatasetError` for a path that is not there.
    """
    async with open_dataset(where.config) as dataset:
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        asked = await trio.to_thread.run_sync(asked_files, versions, where.paths)
        async with working(where, dataset) as work:
            is_asked = bool(where.paths)
            return await verify_files(work, asked, is_asked=is_asked, fetch=fetch, show=show, bar=bar.run)


def summary(outcome: Outcome) -> str:
    """A line: how many files are good, and how many are not, by what became of them."""
    counts = Counter(finding.outcome for finding in outcome.findings)
    good_bytes = sum(finding.size_bytes or 0 for finding in outcome.findings if finding.outcome == GOOD)
    rest = "".join(f", {count} {name}" for name, count in counts.items() if name != GOOD)
    return f"{counts[GOOD]} of {counts.total()} files good, {size(good_bytes)}{rest}"
