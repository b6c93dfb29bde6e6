"""Files of a dataset, opened without a mount: read at any place, walked ahead of, and checked.

    async with open_files(versions) as files:
        content = await files.content(file)
        data = await files.reader(content).read(offset, count_bytes)

It is what a mount's daemon is beside the kernel: readers, walks ahead of them, and in the background the watch on the
server, the check of whole files against the manifest and of their blocks, and the upkeep of the cache.
"""

from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.access.content_readers import ContentReaders
from vbnfs.access.filling import Progress, filling, held_while_fetched
from vbnfs.access.paths_in_use import PathsInUse
from vbnfs.access.published_index import PublishedIndexes
from vbnfs.access.restarting import restart_on_failure
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import Work
from vbnfs.access.versions import Versions
from vbnfs.blocks import Portion
from vbnfs.cache.whole_file import WholeFile
from vbnfs.dataset.manifest import DataFile
from vbnfs.objects import Content
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import describe
from vbnfs.reading.verification import Verifier

_UPKEEP_SECONDS: Final = 5.0
_INDEX_SECONDS: Final = 2.0


@asynccontextmanager
async def open_files(versions: Versions) -> AsyncIterator["OpenFiles"]:
    """What opens files of these versions, while entered."""
    dataset, noticed = versions.dataset, list[Callable[[Set[Content]], None]]()

    def on_stored(contents: Set[Content]) -> None:
        for notice in noticed:
            notice(contents)

    async with dataset.fetching(on_stored=on_stored) as (source, services):
        indexes = PublishedIndexes(dataset.config, dataset.link, dataset.catalog, dataset.index)
        for restore in (dataset.verdicts.refresh, indexes.restore):
            await trio.to_thread.run_sync(restore, abandon_on_cancel=True)
        files = OpenFiles(ContentReaders(versions, source, nursery=services, with_walks=True), indexes)
        noticed.append(files.on_stored)
        files.start(services)
        try:
            yield files
        finally:
            files.close()
            noticed.clear()  # it refers to what refers to it: else only a full garbage collection closes the cache


class OpenFiles:
    """Readers of a dataset's files. `start` begins what goes on beside them; `close` ends the walks."""

    def __init__(self, readers: ContentReaders, indexes: PublishedIndexes) -> None:
        self.readers: Final = readers
        self._indexes = indexes
        self._dataset = dataset = readers.versions.dataset
        self._judging = 0  # works that hash what comes
        self._put_off: dict[str, Content] = {}  # by content id: what has come meanwhile
        self.in_use: Final = PathsInUse(dataset.config.cache_dir)
        self._checked = CheckedFiles(
            dataset.cache, dataset.verdicts, dataset.metrics, trusts_cache=dataset.config.trust_cache
        )
        self.verifier: Final = Verifier(
            dataset.cache,
            readers.source,
            dataset.verdicts,
            dataset.digests,
            metrics=dataset.metrics,
            mirrors=dataset.mirrors,
            on_mismatch=self._checked.forget,
            on_hashed=self._checked.add,
        )

    def start(self, services: trio.Nursery) -> None:
        """Begin what goes on in the background."""
        services.start_soon(restart_on_failure, "watch on the server", self._dataset.link.watch)
        services.start_soon(restart_on_failure, "verifying", self.verifier.run)
        services.start_soon(restart_on_failure, "checking whole files", self._checked.run)
        services.start_soon(restart_on_failure, "upkeep of the cache", self._keep_up)
        services.start_soon(restart_on_failure, "structure indexes", self._indexes.run)

    def close(self) -> None:
        """No file will be read any more."""
        self.readers.close()

    def on_stored(self, contents: Set[Content]) -> None:
        """Blocks of these have come to the disk: a file that they complete is hashed soon."""
        for content in contents:
            if self._judging:
                self._put_off[content.content_id] = content
            else:
                self.verifier.notice(content)

    @asynccontextmanager
    async def judging(self, where: Place, *, trusts: bool) -> AsyncIterator[Work]:
        """What verifies files for a person. Meanwhile nothing else hashes what has come: the work does, mostly."""
        dataset, checked = self._dataset, self._checked
        for know_anew in (dataset.verdicts.refresh, dataset.cache.forget_deleted):
            await trio.to_thread.run_sync(know_anew, abandon_on_cancel=True)
        self._judging += 1
        try:
            parts = (where, dataset, self.readers.source)
            async with dataset.link.patient():
                yield Work(*parts, trusts=trusts, on_mismatch=checked.forget, on_hashed=checked.add)
        finally:
            self._judging -= 1
            if not self._judging:
                put_off, self._put_off = self._put_off, {}
                self.on_stored(set(put_off.values()))

    async def check(self, content: Content) -> None:
        """Have all blocks of a whole content be checked, unless they were: then its file is given out by its path."""
        await self._checked.check(content)

    async def content(self, file: DataFile) -> Content:
        """The content of a file of these versions. Raises a `StorageError` where its size cannot be found out."""
        return await self.readers.content(file)

    def reader(self, content: Content, *, advises: bool = True) -> FileReader:
        """A reader of a content that a program has opened. With `advises` its reads say what will be read next."""
        self.verifier.notice_opened(content)
        self._checked.notice(content)
        self._dataset.cache.note_opened(content)
        return self.readers.reader(content, advises=advises)

    async def expect_structure(self, reader: FileReader) -> None:
        """A program is about to read the structure of an HDF5 file: have what is known of it come now.

        A structure index that others have made may still be on its way: that is waited for, some seconds at most.
        """
        with trio.move_on_after(_INDEX_SECONDS):
            await self._indexes.have_come.wait()
        reader.expect_structure()

    async def is_whole(self, content: Content) -> bool:
        """Whether all of a content is in the cache, as one file."""
        return await trio.to_thread.run_sync(self._dataset.cache.is_whole, content, abandon_on_cancel=True)

    async def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are in the cache."""
        cache = self._dataset.cache
        return await trio.to_thread.run_sync(cache.cached_bytes, content, abandon_on_cancel=True)

    async def verified(self, content: Content) -> str:
        """Whether all of a content is here and was held against its hash, as `user.vbnfs.verified` says it."""
        dataset = self._dataset
        question = partial(describe, dataset.cache, dataset.verdicts, content)
        return await trio.to_thread.run_sync(question, abandon_on_cancel=True)

    async def fill(self, contents: Sequence[Content], progress: Progress | None = None) -> None:
        """Bring all of some contents into the cache, in this order; each is checked. Raises a `StorageError`.

        `progress` says meanwhile how far it is.
        """
        dataset, progress = self._dataset, progress or Progress()
        portions = list(map(Portion.whole, contents))
        progress.files = len(contents)
        for content in contents:
            progress.count_bytes += content.size_bytes - await self.cached_bytes(content)
        async with (
            dataset.link.patient(),
            held_while_fetched(dataset, portions),
            filling(dataset, self.readers.source, portions, progress) as wait,
        ):
            for content in contents:
                await wait(content)
                await self.verifier.judged(content)
                dataset.verdicts.refuse(content)
                await self._checked.check(content)
                progress.done_files += 1

    async def checked_path(self, content: Content) -> Path | None:
        """Where the file of a whole content stands, all of whose blocks were checked; None unless they were.

        The file may be evicted at any time. One that is open then can be read on.
        """
        file = await self._opened_checked(content)
        return None if file is None else self._dataset.cache.whole_path(content)

    async def held_path(self, content: Content) -> tuple[Path, int] | None:
        """The same of a file that is opened next: nothing evicts it until `in_use` lets go of the number."""
        file = await self._opened_checked(content)
        if file is None:
            return None
        held = file.held(content.content_id)
        number = await trio.to_thread.run_sync(self.in_use.hold, held, abandon_on_cancel=True)
        return self._dataset.cache.whole_path(content), number

    async def _opened_checked(self, content: Content) -> WholeFile | None:
        return await trio.to_thread.run_sync(self.checked_file, content, abandon_on_cancel=True)

    def checked_file(self, content: Content) -> WholeFile | None:
        """The same, opened: it is read on where the cache evicts it. Call it in a thread."""
        return self._checked.open(content) if self._checked.may_have(content) else None

    async def _keep_up(self) -> None:
        """What a mount does at intervals, too: it sees what others delete and condemn, and notes what is used."""
        cache, evictor = self._dataset.cache, self._dataset.make_evictor()
        work = (
            *(cache.forget_deleted, self._dataset.index.refresh, cache.flush, cache.note_uses),
            *(self.in_use.publish, evictor.keep_reserve),
        )
        while True:
            await trio.sleep(_UPKEEP_SECONDS)
            await self.verifier.refresh()
            for one in work:
                await trio.to_thread.run_sync(one, abandon_on_cancel=True)
