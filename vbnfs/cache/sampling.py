"""A sample of the blocks in a cache directory, read and checked: whether what is stored can still be relied on.

A cache of hundreds of gigabytes takes hours to read. A disk that loses bytes, or a program that has changed files of
the cache, shows in some hundred blocks from all over it as well. Nothing is deleted: a reader that comes to a
damaged block has it fetched again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_checks import BadBlockError
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import DATA, FORMAT
from vbnfs.cache.inventory import CachedContent
from vbnfs.host.places import Place
from vbnfs.objects import ByteRange

_LONGEST_SECONDS: Final = 3.0
_MOST_BLOCKS: Final = 512  # 128 MiB
_MOST_DAMAGED: Final = 16  # of which no more need be known


@dataclass(frozen=True, slots=True)
class Sample:
    """How many blocks of how many contents were read, and how many of them are damaged or cannot be read."""

    blocks: int = 0
    contents: int = 0
    damaged: int = 0


def take_sample(directory: Place, contents: Sequence[CachedContent], *, most_blocks: int = _MOST_BLOCKS) -> Sample:
    """Read blocks of the contents that `scan` found, as many of each as of the others. Waits for the disk.

    A file that is cut short, or cannot be opened, counts as a damaged block.
    """
    chosen = _spread([one for one in contents if one.path.startswith(f"{FORMAT}/")], most_blocks)
    of_each = max(1, most_blocks // len(chosen)) if chosen else 0
    end = time.monotonic() + _LONGEST_SECONDS
    blocks = read = damaged = 0
    for one in chosen:
        if time.monotonic() > end or damaged >= _MOST_DAMAGED:
            break
        with suppress(FileNotFoundError):  # evicted meanwhile
            states = list(_are_good(directory / one.path, one.content_id, of_each))
            blocks, read, damaged = blocks + len(states), read + bool(states), damaged + states.count(False)
    return Sample(blocks, read, damaged)


def _spread(items: Sequence[CachedContent], most: int) -> Sequence[CachedContent]:
    """At most so many, from all over."""
    step = max(1, -(-len(items) // most))
    return items[::step]


def _are_good(place: Place, identity: str, most: int) -> Iterator[bool]:
    """Whether each of some blocks of a content is good. Raises `FileNotFoundError` for what is gone."""
    try:
        size_bytes = (place / DATA).stat().st_size
        file = ContentFile.open(place, identity=identity, data_bytes=size_bytes, may_map=False, may_write=False)
    except FileNotFoundError:
        raise
    except OSError:
        yield False
        return
    if file is None:
        yield False  # its two files do not go together
        return
    recorded = list(file.recorded())
    for index in recorded[:: max(1, -(-len(recorded) // most))]:
        yield _is_good(file, index, size_bytes)


def _is_good(file: ContentFile, index: int, size_bytes: int) -> bool:
    start = index * BLOCK_BYTES
    try:
        file.read_checked(ByteRange(start, min(start + BLOCK_BYTES, size_bytes)), may_write=False)
    except (BadBlockError, OSError):
        return False
    return True
