"""Reading whole files of a dataset through the cache, each held against its hash."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from vbnfs.access.versions import Versions
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import BadReplyError, ChangedError, OfflineError
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.prefetch import Prefetcher

_PIECE_BYTES: Final = 4 << 20  # a sequential reader of such pieces has several GETs ahead of it

ReadWhole = Callable[[DataFile], Awaitable[bytes]]


@asynccontextmanager
async def whole_files(versions: Versions) -> AsyncIterator[ReadWhole]:
    """A function that reads whole files through the cache, while entered.

    It raises a `StorageError`, also where the bytes do not have the manifest's `file_hash`.
    """
    dataset = versions.dataset
    async with dataset.fetching() as (source, services):
        prefetcher = Prefetcher(dataset.cache, source, nursery=services)

        async def read_as_known(file: DataFile) -> bytes:
            content = await _content(versions, file)
            reader = FileReader(content, dataset.cache, source, prefetcher, dataset.verdicts)
            return await _whole(file, content, reader)

        async def read(file: DataFile) -> bytes:
            try:
                return await read_as_known(file)
            except ChangedError:  # a size that a reply contradicts is asked for again, once
                if not await dataset.catalog.sizes.recheck(versions.named.of(file)):
                    raise
            return await read_as_known(file)

        yield read


async def _content(versions: Versions, file: DataFile) -> Content:
    """The content to read. Raises at once where S3 is not reached and the cache lacks bytes: without retries."""
    dataset = versions.dataset
    if versions.release.is_offline:
        [content] = versions.contents([file]).values()
        if content is None or dataset.cache.cached_bytes(content) < content.size_bytes:
            remedy = "leave --offline out" if dataset.config.offline else None
            raise OfflineError(f"{file.version}: not cached, and the bucket is not reached", remedy=remedy)
        return content
    named = versions.named.of(file)
    return named.with_attributes(await dataset.catalog.sizes.fetch(named))


async def _whole(file: DataFile, content: Content, reader: FileReader) -> bytes:
    data = bytearray()
    while len(data) < content.size_bytes:
        data += await reader.read(len(data), _PIECE_BYTES)
    if file.file_hash not in {None, hashlib.blake2b(data).hexdigest()}:
        raise BadReplyError(f"{file.version}: its bytes do not have the file_hash that the manifest has")
    return bytes(data)
