"""What a process has open of a dataset: opened at its first use, and once more after a fork(2).

All objects of a `Dataset` share one. It can be pickled: the configuration travels, and the process that gets it opens
the dataset itself.
"""

import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.door import Opened, opened
from vbnfs.access.open_files import OpenFiles, open_files
from vbnfs.access.project_tables import ProjectTables
from vbnfs.access.restarting import restart_on_failure
from vbnfs.access.versions import Versions, load_versions
from vbnfs.access.whole_files import WholeFiles
from vbnfs.api.messages import python_messages
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import DatasetVersion, Manifest
from vbnfs.host.forking import LockOfProcess
from vbnfs.logs import log_by_python

_AGAIN_SECONDS: Final = 10.0  # after a list that was too slow, which is given up after 5

Result = TypeVar("Result")
Messages = Callable[[], AbstractContextManager[None]]

CLOSED: Final = "the dataset was closed by another thread while this one used it"


@dataclass(slots=True)
class Parts:
    """A dataset that is open: its versions as they were then, or at the last `renew`; its files; and their tables."""

    versions: Versions
    files: OpenFiles
    whole: WholeFiles
    tables: dict[DatasetVersion, ProjectTables] = field(default_factory=dict)

    def tables_of(self, manifest: Manifest) -> ProjectTables:
        """The tables of a version."""
        if manifest.dataset_version not in self.tables:
            tables = ProjectTables(self.versions, manifest, self.whole, lambda note: None)
            self.tables[manifest.dataset_version] = tables
        return self.tables[manifest.dataset_version]

    async def renew(self) -> bool:
        """Ask the bucket which versions there are by now. Returns whether there are others than before.

        Raises a `VbnfsError`.
        """
        before, now = self.versions, await load_versions(self.versions.dataset)
        self.versions = self.files.readers.versions = now
        return now.release.versions != before.release.versions

    async def renew_when_online(self) -> None:
        """The same, each time that the server is reached again after a time without; until cancelled.

        And where it is reached, and has not said yet which versions there are: their list came slowly, or failed.
        """
        link = self.versions.dataset.link
        while True:
            is_lacking = self.versions.release.is_offline and not link.is_offline
            with trio.move_on_after(_AGAIN_SECONDS if is_lacking else math.inf):
                await link.wait_online()
            await self.renew()


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Parts]:
    async with open_dataset(config) as dataset:
        versions = await load_versions(dataset)
        async with open_files(versions) as files, trio.open_nursery() as nursery:
            parts = Parts(versions, files, WholeFiles(files.readers))
            nursery.start_soon(restart_on_failure, "versions", parts.renew_when_online)
            yield parts
            nursery.cancel_scope.cancel()


class Connection:
    """The one way from the functions of this package to the event loop. Thread-safe.

    `given` are the settings that the program has given itself, as text by name; `config` is all that holds.
    `messages`, entered, gives errors the words of those who read them: Python programs' users, unless said otherwise.
    """

    def __init__(
        self, config: Config, given: Mapping[str, str] | None = None, *, messages: Messages = python_messages
    ) -> None:
        self._messages: Final = messages
        self.config: Final = config
        self.given: Final = dict(given or {})
        self._lock = LockOfProcess()
        self._open: tuple[int, ExitStack, Opened[Parts]] | None = None  # with the process that opened it

    def __reduce__(self) -> tuple[type["Connection"], tuple[Config, Mapping[str, str]]]:
        return Connection, (self.config, self.given)

    def run(self, work: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
        """The result of `work(parts, *arguments)`, awaited in the event loop's thread. Raises what it raises."""
        return self.run_showing(_show_nothing, work, *arguments)

    def run_showing(
        self, show: Callable[[], object], work: Callable[..., Awaitable[Result]], *arguments: Any
    ) -> Result:
        """As `run`; while it waits, it calls `show` now and then, in the thread of the caller.

        Raises `ValueError` where another thread closes it meanwhile.
        """
        parts = self._parts()
        try:
            with self._messages():
                return parts.run_showing(show, work, parts.value, *arguments)
        except Exception as error:
            if self._open is None or self._open[2] is not parts:
                raise ValueError(CLOSED) from error
            raise

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in that thread, later; it is not waited for. Nothing happens where nothing is open."""
        found = self._open
        if found is not None and found[0] == os.getpid():
            found[2].soon(function)

    @property
    def value(self) -> Parts:
        """What is open: values of it that never change can be read in any thread."""
        return self._parts().value

    def close(self) -> None:
        """Close what is open. The next use opens it again."""
        with self._lock():
            found, self._open = self._open, None
            if found is not None and found[0] == os.getpid():
                found[1].close()

    def _parts(self) -> Opened[Parts]:
        found = self._open
        if found is None or found[0] != os.getpid():
            found = self._opened_here()
        return found[2]

    def _opened_here(self) -> tuple[int, ExitStack, Opened[Parts]]:
        with self._lock(), self._messages():
            if self._open is None or self._open[0] != os.getpid():
                log_by_python()
                stack = ExitStack()
                self._open = (os.getpid(), stack, stack.enter_context(opened(_opened(self.config))))
            return self._open


def _show_nothing() -> None:
    """Nothing is to be seen while it waits."""
