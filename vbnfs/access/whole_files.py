"""Reading whole files of a dataset through the cache, each held against its hash."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from vbnfs.access.content_readers import ContentReaders
from vbnfs.access.versions import Versions
from vbnfs.blocks import blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import BadReplyError, ChangedError, OfflineError
from vbnfs.objects import ByteRange, Content

_PIECE_BYTES: Final = 4 << 20  # a sequential reader of such pieces has several GETs ahead of it

ReadWhole = Callable[[DataFile], Awaitable[bytes]]
Progress = Callable[[DataFile, int, int], None]  # a file, how many of its bytes are read, and its size


def _without_a_word(file: DataFile, done_bytes: int, size_bytes: int) -> None:
    """No progress is shown."""


@asynccontextmanager
async def whole_files(versions: Versions, *, progress: Progress = _without_a_word) -> AsyncIterator["WholeFiles"]:
    """What reads whole files through the cache, while entered. `progress` is called as bytes come."""
    async with versions.dataset.fetching() as (source, services):
        yield WholeFiles(ContentReaders(versions, source, nursery=services), progress=progress)


class WholeFiles:
    """Reads files of a dataset's versions by `readers`. Raises a `StorageError`."""

    def __init__(self, readers: ContentReaders, *, progress: Progress = _without_a_word) -> None:
        self._readers, self._progress = readers, progress

    async def __call__(self, file: DataFile) -> bytes:
        """All bytes of a file. Raises also where they do not have the manifest's `file_hash`."""
        try:
            return await self._whole(file)
        except ChangedError:  # a size that a reply contradicts is asked for again, once
            if await self._readers.content_anew(file) is None:
                raise
        return await self._whole(file)

    async def start(self, file: DataFile, count_bytes: int) -> bytes:
        """The first bytes of a file; nothing says yet that they are those of the manifest's."""
        content = await self._content(file, count_bytes)
        return bytes(await self._readers.reader(content, advises=False).read(0, count_bytes))

    async def _whole(self, file: DataFile) -> bytes:
        content, data = await self._content(file), bytearray()
        reader = self._readers.reader(content)
        while len(data) < content.size_bytes:
            data += await reader.read(len(data), _PIECE_BYTES)
            self._progress(file, len(data), content.size_bytes)
        return await trio.to_thread.run_sync(_checked, file, data)  # of large ones it takes a fifth of a second

    async def _content(self, file: DataFile, count_bytes: int | None = None) -> Content:
        """The content to read, of which so many bytes are wanted; None: all.

        Raises at once where S3 is not reached and the cache lacks them: without retries.
        """
        content, versions = await self._readers.content(file), self._readers.versions
        if versions.release.is_offline:
            dataset = versions.dataset
            work = partial(_missing, dataset.cache, content, count_bytes)
            if await trio.to_thread.run_sync(work, abandon_on_cancel=True):
                remedy = "leave --offline out" if dataset.config.offline else None
                raise OfflineError(f"{file.version}: not cached, and the bucket is not reached", remedy=remedy)
        return content


def _checked(file: DataFile, data: bytearray) -> bytes:
    """The bytes of a file. Raises `BadReplyError` for others."""
    if file.file_hash not in {None, hashlib.blake2b(data).hexdigest()}:
        raise BadReplyError(f"{file.version}: its bytes do not have the file_hash that the manifest has")
    return bytes(data)


def _missing(cache: BlockCache, content: Content, count_bytes: int | None) -> list[int]:
    """The blocks of the first bytes of a content that the cache lacks."""
    wanted = ByteRange(0, content.size_bytes if count_bytes is None else count_bytes)
    return cache.missing(content, blocks_of(wanted.clip(content.size_bytes)))
