"""Running a command's work on a dataset, in an event loop of its own."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.session_files import OpenTables
from vbnfs.access.versions import Versions, load_versions
from vbnfs.access.waiting import WAITING_SECONDS, what_takes_so_long
from vbnfs.cli import render, streams
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import Manifest
from vbnfs.errors import VbnfsError, root_error
from vbnfs.host.private import keep_others_out

if TYPE_CHECKING:
    from vbnfs.access.project_tables import ProjectTables

_T = TypeVar("_T")


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do the work of this process. Raises what it raises, out of the groups of its nurseries."""
    keep_others_out()
    try:
        # At checkpoints: raised anywhere, Ctrl-C could come in a destructor, where it is printed and forgotten.
        return trio.run(work, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise root_error(group) from None


def run_with_versions(
    config: Config, work: Callable[[Versions], Awaitable[_T]], *, warn: Callable[[str], None]
) -> _T:
    """Do some work with a dataset's versions, after `warn` of their problems. Raises a `VbnfsError`."""

    async def load_and_work() -> _T:
        async with open_dataset(config) as dataset:
            versions = await load_aloud(dataset)
            for problem in versions.problems:
                warn(problem)
            return await work(versions)

    return run(load_and_work)


async def load_aloud(dataset: Dataset, *, max_age_seconds: float = 0.0) -> Versions:
    """`load_versions`; a user who waits for it longer than usual reads for what. Raises a `VbnfsError`."""
    failure: VbnfsError | None = None
    versions: list[Versions] = []

    async def say_in_time() -> None:
        await trio.sleep(WAITING_SECONDS)
        streams.say(f"vbnfs: {render.escape(what_takes_so_long(dataset.config))}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_in_time)
        try:
            versions.append(await load_versions(dataset, max_age_seconds=max_age_seconds))
        except VbnfsError as error:  # raised outside of the nursery, which would put it into a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return versions[0]


def open_tables(versions: Versions) -> OpenTables:
    """What opens the tables of a version; what is to be known of them is written for the user."""

    def opened(manifest: Manifest) -> "AbstractAsyncContextManager[ProjectTables]":
        from vbnfs.access.project_tables import project_tables  # noqa: PLC0415 - imports pandas

        return project_tables(versions, manifest, note=lambda text: streams.say(f"vbnfs: {render.escape(text)}"))

    return opened
