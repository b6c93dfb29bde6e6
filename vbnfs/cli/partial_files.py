"""Blocks of files that another vbnfs's cache has not all of: taken into ours, each checked by its checksum.

A checksum shows damage and no malice, and a file's hash shows nothing before all of it is there. So only a cache is
taken from whose owner is believed (access/other_caches.py), and only what the same server sent to it. A block whose
digest is known has to have it, too; one that has not is left to S3.
"""

import errno
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.access.opening import scope_of
from vbnfs.access.other_caches import open_other, trusted_uids
from vbnfs.blocks import blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import FORMAT, PARTIAL
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.stored_blocks import StoredBlocks, block_range
from vbnfs.config.settings import Config
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

NO_RESERVE: Final = "its disk would have less free than --cache-reserve"
_BLOCKS_AT_ONCE: Final = 16
_FOLDERS: Final = 1  # the first two digits of the names


@dataclass(frozen=True, slots=True)
class PartialFile:
    """A content of which another cache has blocks, and the numbers of those that ours lacks."""

    path: Path
    content: Content
    blocks: tuple[int, ...]
    other: StoredBlocks

    @property
    def size_bytes(self) -> int:
        """The bytes of these blocks."""
        return sum(len(block_range(self.content, index)) for index in self.blocks)


def partial_files(
    directory: Path, config: Config, contents: Mapping[str, Content], cache: BlockCache, digests: DigestStore
) -> Iterator[PartialFile]:
    """What a cache directory has of `contents`, by id, and `cache` lacks. Raises `CacheError` for one of others.

    Its blocks are held against `digests`.
    """
    scope = scope_of(config)
    place = open_other(directory, trusted_uids(config))
    other = StoredBlocks(place, scope=scope, metrics=Metrics(), digests=digests)
    for parts, _, entries in (place / FORMAT / scope / PARTIAL).walk(depth=_FOLDERS):
        for name in sorted(entry.name for entry in entries if parts):
            content = contents.get(name)
            if content is None or cache.is_whole(content):
                continue
            indices = blocks_of(ByteRange(0, content.size_bytes))
            elsewhere = set(other.missing(content, indices))
            blocks = tuple(index for index in cache.missing(content, indices) if index not in elsewhere)
            yield PartialFile(other.places.of(name, PARTIAL).path, content, blocks, other)


def take_blocks(file: PartialFile, cache: BlockCache, evictor: Evictor) -> Generator[int]:
    """Take the blocks that match their checksums, and their digests where these are known.

    Gives how many bytes were looked at. Raises `OSError`.
    """
    done_bytes = 0
    for first in range(0, len(file.blocks), _BLOCKS_AT_ONCE):
        for index in file.blocks[first : first + _BLOCKS_AT_ONCE]:
            data = file.other.checked_block(file.content, index)
            done_bytes += len(block_range(file.content, index))
            if data is None:
                continue
            if not evictor.make_room(len(data)):
                raise OSError(errno.ENOSPC, NO_RESERVE)
            if not cache.put(file.content, index, data):
                evictor.not_written(len(data))
                raise cache.failure or OSError("unknown reason")
        yield done_bytes
    cache.flush()
