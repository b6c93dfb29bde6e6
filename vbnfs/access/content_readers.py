"""Finding the contents of a dataset's files, and making their readers: for all that reads without a mount.

async with dataset.fetching() as (source, services):
readers = ContentReaders(versions, source, nursery=services)
content = await readers.content(file)
data = await readers.reader(content).read(offset, count_bytes)
"""

from typing import Final

import trio

from vbnfs.access.versions import Versions
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import OfflineError
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import check_possible
from vbnfs.reading.local_reads import LocalReader
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.walks import Walks


class ContentReaders:
    """Of the files of `versions`, by way of `source`. Its tasks run in `nursery`, which outlives all reads.

    `versions` may be set to those that the same dataset has later.

    `with_walks`: the structure of HDF5 files is read ahead of programs, where the settings allow that.
    """

    def __init__(
        self, versions: Versions, source: BlockSource, *, nursery: trio.Nursery, with_walks: bool = False
    ) -> None:
        self.versions = versions
        self.source: Final = source
        self._dataset = dataset = versions.dataset
        self._prefetcher = Prefetcher(dataset.cache, source, nursery=nursery)
        self._walks: Walks | None = None
        if with_walks and dataset.config.hdf5 and not dataset.config.offline:
            parts = (dataset.cache, source, dataset.verdicts, dataset.index)
            self._walks = Walks(*parts, metrics=dataset.metrics, nursery=nursery)

    async def content(self, file: DataFile) -> Content:
        """The content of a file. Raises a `StorageError` where its size cannot be found out."""
        versions, named = self.versions, self.versions.named.of(file)
        if versions.release.is_offline:
            [content] = versions.contents([file]).values()
            if content is None:
                raise OfflineError(f"{file.version}: its size is not known yet, and the bucket is not reached")
        else:
            content = named.with_attributes(await self._dataset.catalog.sizes.fetch(named))
        check_possible(content)
        return content

    async def content_anew(self, file: DataFile) -> Content | None:
        """The content with the size that S3 has by now, after a reply has contradicted that; None if it is the same.

        Raises a `StorageError`.
        """
        if not await self._dataset.catalog.sizes.recheck(self.versions.named.of(file)):
            return None
        return await self.content(file)

    def reader(self, content: Content, *, advises: bool = True) -> FileReader:
        """A reader of a content. With `advises` its reads say what will be read next."""
        dataset = self._dataset
        parts = (dataset.cache, self.source, self._prefetcher, dataset.verdicts)
        return FileReader(content, *parts, walks=self._walks if advises else None, advises=advises)

    def local_reader(self, content: Content) -> LocalReader:
        """A reader of what is here of a content, for any thread."""
        return LocalReader(content, self._dataset.cache, self.source, self._dataset.verdicts)

    def close(self) -> None:
        """No file will be read any more."""
        if self._walks is not None:
            self._walks.close()
