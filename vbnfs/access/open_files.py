"""Files of a dataset, opened without a mount: read at any place, walked ahead of, and checked.

    async with open_files(versions) as files:
        content = await files.content(file)
        data = await files.reader(content).read(offset, count_bytes)

It is what a mount's daemon is beside the kernel: readers, walks ahead of them, and in the background the check of
whole files against the manifest and of their blocks, and the upkeep of the cache.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from vbnfs.access.filling import Progress, filling, held_while_fetched
from vbnfs.access.restarting import restart_on_failure
from vbnfs.access.versions import Versions
from vbnfs.blocks import BLOCK_BYTES, Portion, blocks_of
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.whole_file import WholeFile
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import OfflineError
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import check_possible
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.verification import Verifier
from vbnfs.reading.walks import Walks

_UPKEEP_SECONDS: Final = 5.0
_WAVE_BYTES: Final = 64 << 20  # of ranges that are asked for together


@asynccontextmanager
async def open_files(versions: Versions) -> AsyncIterator["OpenFiles"]:
    """What opens files of these versions, while entered."""
    dataset, noticed = versions.dataset, list[Callable[[Content], None]]()

    def on_stored(contents: Set[Content]) -> None:
        for notice in noticed:
            for content in contents:
                notice(content)

    async with dataset.fetching(on_stored=on_stored) as (source, services):
        await trio.to_thread.run_sync(dataset.verdicts.refresh, abandon_on_cancel=True)
        files = OpenFiles(versions, source, nursery=services)
        noticed.append(files.verifier.notice)
        files.start(services)
        try:
            yield files
        finally:
            files.close()


class OpenFiles:
    """Readers of a dataset's files. `start` begins what goes on beside them; `close` ends the walks."""

    def __init__(self, versions: Versions, source: BlockSource, *, nursery: trio.Nursery) -> None:
        self.versions: Final = versions
        self._dataset = dataset = versions.dataset
        self._source = source
        self._prefetcher = Prefetcher(dataset.cache, source, nursery=nursery)
        self._checked = CheckedFiles(
            dataset.cache, dataset.verdicts, dataset.metrics, trusts_cache=dataset.config.trust_cache
        )
        self.verifier: Final = Verifier(
            dataset.cache,
            source,
            dataset.verdicts,
            dataset.digests,
            metrics=dataset.metrics,
            mirror=dataset.mirror,
            on_mismatch=self._checked.forget,
            on_hashed=self._checked.add,
        )
        self._walks = self._make_walks(nursery)

    def _make_walks(self, nursery: trio.Nursery) -> Walks | None:
        dataset = self._dataset
        if not dataset.config.hdf5 or dataset.config.offline:
            return None
        parts = (dataset.cache, self._source, dataset.verdicts, dataset.index)
        return Walks(*parts, metrics=dataset.metrics, nursery=nursery)

    def start(self, services: trio.Nursery) -> None:
        """Begin what goes on in the background."""
        services.start_soon(restart_on_failure, "verifying", self.verifier.run)
        services.start_soon(restart_on_failure, "checking whole files", self._checked.run)
        services.start_soon(restart_on_failure, "upkeep of the cache", self._keep_up)

    def close(self) -> None:
        """No file will be read any more."""
        if self._walks is not None:
            self._walks.close()

    async def content(self, file: DataFile) -> Content:
        """The content of a file of these versions. Raises a `StorageError` where its size cannot be found out."""
        versions, named = self.versions, self.versions.named.of(file)
        if versions.release.is_offline:
            [content] = versions.contents([file]).values()
            if content is None:
                raise OfflineError(f"{file.version}: its size is not known yet, and the bucket is not reached")
        else:
            content = named.with_attributes(await self._dataset.catalog.sizes.fetch(named))
        check_possible(content)
        return content

    def reader(self, content: Content, *, advises: bool = True) -> FileReader:
        """A reader of a content. With `advises` its reads say what will be read next."""
        dataset = self._dataset
        self.verifier.notice_opened(content)
        self._checked.notice(content)
        dataset.cache.note_opened(content)
        parts = (dataset.cache, self._source, self._prefetcher, dataset.verdicts)
        return FileReader(content, *parts, walks=self._walks if advises else None, advises=advises)

    async def read_ranges(self, content: Content, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of ranges, of each those that the content has. What the cache lacks is fetched in waves.

        Raises a `StorageError`.
        """
        found, reader = list[bytes](), self.reader(content, advises=False)
        for wave in _waves([one.clip(content.size_bytes) for one in ranges]):
            blocks = sorted({index for one in wave for index in blocks_of(one)})
            missing = await trio.to_thread.run_sync(
                self._dataset.cache.missing, content, blocks, abandon_on_cancel=True
            )
            kept = await self._source.bring(content, missing) if missing else {}
            found += [bytes(await reader.read(one.start, len(one))) if one else b"" for one in wave]
            del kept  # what came is in memory until all of the wave is read
        return found

    async def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are in the cache."""
        blocks = blocks_of(ByteRange(0, content.size_bytes))
        missing = await trio.to_thread.run_sync(self._dataset.cache.missing, content, blocks, abandon_on_cancel=True)
        return content.size_bytes - sum(len(block_range(content, index)) for index in missing)

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
            held_while_fetched(dataset, portions),
            filling(dataset, self._source, portions, progress) as wait,
        ):
            for content in contents:
                await wait(content)
                await self.verifier.judged(content)
                dataset.verdicts.refuse(content)
                await self._checked.check(content)

    async def checked_path(self, content: Content) -> Path | None:
        """Where the file of a whole content stands, all of whose blocks were checked; None unless they were.

        The file may be evicted at any time. One that is open then can be read on.
        """
        file = await trio.to_thread.run_sync(self.checked_file, content, abandon_on_cancel=True)
        return None if file is None else self._dataset.cache.whole_path(content)

    def checked_file(self, content: Content) -> WholeFile | None:
        """The same, opened: it is read on where the cache evicts it. Call it in a thread."""
        return self._checked.open(content) if self._checked.may_have(content) else None

    async def _keep_up(self) -> None:
        """What a mount does at intervals, too: it sees what others delete and condemn, and notes what is used."""
        cache, evictor = self._dataset.cache, self._dataset.make_evictor()
        work = (cache.forget_deleted, self._dataset.index.refresh, cache.flush, cache.note_uses, evictor.keep_reserve)
        while True:
            await trio.sleep(_UPKEEP_SECONDS)
            await self.verifier.refresh()
            for one in work:
                await trio.to_thread.run_sync(one, abandon_on_cancel=True)


def _waves(ranges: Iterable[ByteRange]) -> list[list[ByteRange]]:
    """The ranges in their order, in groups of about `_WAVE_BYTES` of whole blocks."""
    waves, count_bytes = [list[ByteRange]()], 0
    for one in ranges:
        taken_bytes = len(blocks_of(one)) * BLOCK_BYTES
        if waves[-1] and count_bytes + taken_bytes > _WAVE_BYTES:
            waves.append([])
            count_bytes = 0
        waves[-1].append(one)
        count_bytes += taken_bytes
    return waves
