"""Contents brought into the cache, or portions of them: by a mount that uses the same cache, or else by this process.

A mount knows its readers, and lets them go first. Where it does not answer, does not know a content, or goes away
meanwhile, this process brings what is missing itself; what the mount has brought is in the cache, which both share.
While contents are being brought, no process evicts them.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.mount_filling import fill_by, mount_on
from vbnfs.access.opening import scope_of
from vbnfs.access.running_fetches import shown
from vbnfs.blocks import Portion
from vbnfs.cache.holdings import Held, Holdings
from vbnfs.cache.measured_rate import note_rate
from vbnfs.config.settings import Config
from vbnfs.errors import MountError
from vbnfs.figures import Fill
from vbnfs.host.mountinfo import MountEntry
from vbnfs.host.places import folder_at
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.filling import Filler

_MEASURED_SECONDS = 2.0  # between two notes of the rate
_SHOWN_SECONDS = 1.0  # between two notes of how far it is

Wait = Callable[[Content], Awaitable[None]]


@dataclass(slots=True)
class Progress:
    """How far it is: of so many `files` and `count_bytes` that were missing, and which mount does it, if one does.

    Where files are verified, and nothing is fetched, these are the bytes that are to be hashed.

    More than `count_bytes` come where something has to be fetched again. `failed_files` did not come or are not kept;
    `problem` is why the last of them is not.

    >>> progress = vbnfs.Progress(files=2, count_bytes=100)
    >>> progress.add(40)
    >>> progress.done_bytes / progress.count_bytes
    0.4
    """

    files: int = 0
    count_bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0
    failed_files: int = 0
    problem: str = ""
    by: MountEntry | None = None
    began: float = field(default_factory=time.monotonic)

    def add(self, count_bytes: int) -> None:
        """So many bytes have come.

        >>> progress = vbnfs.Progress(files=1, count_bytes=100)
        >>> progress.add(40)
        >>> progress.done_bytes
        40
        """
        self.done_bytes += count_bytes

    def note_failure(self, reason: str) -> None:
        """A file has failed.

        >>> progress = vbnfs.Progress(files=1, count_bytes=100)
        >>> progress.note_failure("the disk is full")
        >>> progress.failed_files, progress.problem
        (1, 'the disk is full')
        """
        self.failed_files += 1
        self.problem = reason

    def fill(self) -> Fill:
        """How far it is now.

        >>> vbnfs.Progress(files=1, count_bytes=100).fill()
        Fill(files=1, ...)
        """
        return Fill(self.files, self.done_files, self.count_bytes, self.done_bytes)


@asynccontextmanager
async def held_while_fetched(dataset: Dataset, portions: Iterable[Portion]) -> AsyncIterator[None]:
    """While entered, no process evicts these contents. Ends with this process, too."""
    holdings = Holdings(folder_at(dataset.config.cache_dir))
    held = [Held(0, one.count_bytes, one.content.content_id, is_fetched=True) for one in portions]
    await trio.to_thread.run_sync(holdings.publish, held)
    try:
        yield
    finally:
        holdings.publish([])


@asynccontextmanager
async def filling(
    dataset: Dataset, source: BlockSource, portions: Sequence[Portion], progress: Progress
) -> AsyncIterator[Wait]:
    """While entered, portions are brought, in this order. Gives what waits until one has come, or will not come.

    Each is of another content, by which it is waited for. What no mount brings is shown (running_fetches.py).
    """
    come, measuring = {one.content.content_id: trio.Event() for one in portions}, trio.CancelScope()

    def on_filled(content: Content) -> None:
        come[content.content_id].set()

    async def fill(nursery: trio.Nursery) -> None:
        with suppress(MountError):  # a reason to do it here
            progress.by = await trio.to_thread.run_sync(mount_on, dataset.config, abandon_on_cancel=True)
            if progress.by is not None:
                await fill_by(progress.by, portions, progress.add, on_filled)
        progress.by = None
        left = [one for one in portions if not come[one.content.content_id].is_set()]
        if left:
            nursery.start_soon(_show, dataset.config, progress)
        await Filler(dataset.cache, source, on_came=progress.add, on_filled=on_filled).fill(left)
        measuring.cancel()
        await _note(dataset, progress)

    async def wait(content: Content) -> None:
        if (event := come.get(content.content_id)) is not None:
            await event.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure, dataset, progress, measuring)
        nursery.start_soon(fill, nursery)
        yield wait
        nursery.cancel_scope.cancel()


async def _show(config: Config, progress: Progress) -> None:
    """Show how far it is to the commands that watch. Where that cannot be, the fetch goes on all the same."""
    if sys.platform == "win32":  # there is no folder for that
        return
    with suppress(OSError, MountError), shown(config) as show:
        while True:
            await trio.to_thread.run_sync(show, progress.fill())
            await trio.sleep(_SHOWN_SECONDS)


async def _measure(dataset: Dataset, progress: Progress, measuring: trio.CancelScope) -> None:
    """Note how fast it goes, also where it does not come to its end: an estimate for the next time."""
    before = 0
    with measuring:
        while True:
            await trio.sleep(_MEASURED_SECONDS)
            if progress.done_bytes > before:
                before = progress.done_bytes
                await _note(dataset, progress)


async def _note(dataset: Dataset, progress: Progress) -> None:
    scope, seconds = scope_of(dataset.config), time.monotonic() - progress.began
    await trio.to_thread.run_sync(note_rate, dataset.config.cache_dir, scope, progress.done_bytes, seconds)
