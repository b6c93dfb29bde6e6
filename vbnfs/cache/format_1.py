"""Format 1 of the cache, `blocks-v1`: its blocks are taken over into the present format, and nothing else uses it.

    blocks-v1/<scope>/<2 hex>/<content id>.<segment number>

A segment has 1,024 records of 16 bytes, the checksum of the block with that number or zeros. Behind them stand the
blocks, each at its natural place. The checksum is seeded with `<content id>.<segment number>` and the block's number
in the segment. A block that matches its record is put into the cache. It is read from its end, and cut short as
its blocks are taken over, so that converting takes little room besides. No process of an earlier vbnfs may use it
then: one that is writing to it would make it long again, with zeros in place of blocks that it has verified.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, checksum
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import PRESENCE
from vbnfs.cache.inventory import FORMAT_1, CachedContent, scan
from vbnfs.cache.stored_blocks import block_range
from vbnfs.host.locks import could_lock
from vbnfs.host.places import Place, folder_at
from vbnfs.host.positioned import read_at
from vbnfs.objects import Content

_SEGMENT_BLOCKS: Final = 1024
_TABLE_BYTES: Final = _SEGMENT_BLOCKS * CHECKSUM_BYTES
_BLOCKS_AT_ONCE: Final = 16
_NO_RECORD: Final = bytes(CHECKSUM_BYTES)
_BESIDES: Final = (".size", ".claims", ".evicting")  # what stands beside segments


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a segment: the bytes that the cache has now, and whether the disk took all that were good."""

    taken_bytes: int
    is_done: bool


def is_there(directory: Place) -> bool:
    """Whether a cache directory has a folder of format 1."""
    try:
        with (directory / FORMAT_1).opened():
            return True
    except OSError:
        return False


def unused_text(directory: Path) -> str | None:
    """That a cache directory has files of format 1, which are not used, and what to do; None if it has none."""
    if not is_there(folder_at(directory)):
        return None
    remedy = f"'vbnfs clean --convert --cache-dir {shlex.quote(str(directory))}' takes them over"
    return f"files that an earlier vbnfs cached are not used: {remedy}"


def is_in_use(directory: Place, *, scope: str) -> bool:
    """Whether a process of an earlier vbnfs uses the segments of `scope`, as far as its lock shows (claims.py)."""
    try:
        descriptor = (directory / FORMAT_1 / scope / ".claims").open(os.O_RDONLY)
    except OSError:
        return False
    try:
        return not could_lock(descriptor, PRESENCE, 1)
    except OSError:  # no locks on this file system
        return False
    finally:
        os.close(descriptor)


def segments(directory: Place, *, scope: str) -> list[CachedContent]:
    """The segments that came from `scope`, the least recently used first: that order is kept by converting in it."""
    found = [one for one in scan(directory) if one.path.startswith(f"{FORMAT_1}/") and one.scope == scope]
    return sorted(found, key=lambda one: one.used_ns)


def scopes(directory: Place) -> list[str]:
    """The scopes of all segments."""
    return sorted({one.scope for one in scan(directory) if one.path.startswith(f"{FORMAT_1}/")})


def convert(
    directory: Place, segment: CachedContent, contents: Mapping[str, Content], cache: BlockCache
) -> Taken | None:
    """Take the good blocks of a segment over, and delete it; None if it is of none of `contents`, by content id.

    Where the cache does not take a block, the rest of the segment stays, and so it does when this is interrupted.
    Raises `OSError` for a segment that cannot be read or deleted.
    """
    content = contents.get(segment.content_id)
    if content is None:
        return None
    place, taken = directory / segment.path, 0
    number = int(segment.path.rpartition(".")[2])
    descriptor = place.open(os.O_RDWR)
    try:
        for first, blocks in _good_blocks(descriptor, content, number):
            count_bytes = sum(map(len, blocks))
            if cache.put(content, first, *blocks) != count_bytes:
                return Taken(taken, is_done=False)
            taken += count_bytes
    finally:
        os.close(descriptor)
    cache.flush()
    place.unlink(missing_ok=True)
    return Taken(taken, is_done=True)


def remove_rest(directory: Place) -> None:
    """Delete what is left of format 1 when it has no segments any more. Files that it did not make stay."""
    folders = [(FORMAT_1, *parts) for parts, _, _ in (directory / FORMAT_1).walk(depth=2)]
    for parts in sorted(folders, key=len, reverse=True):
        folder = directory / "/".join(parts)
        for name in _BESIDES:
            with suppress(OSError):
                (folder / name).unlink()
        with suppress(OSError), folder.parent.opened() as above:
            above.rmdir(folder.name)


def _good_blocks(descriptor: int, content: Content, number: int) -> Iterator[tuple[int, list[bytes]]]:
    """Runs of blocks that match their records, the last one first; each is cut off when the next one is asked for."""
    table = read_at(descriptor, _TABLE_BYTES, 0).ljust(_TABLE_BYTES, b"\0")
    first_of_segment = number * _SEGMENT_BLOCKS
    for start in reversed(range(0, _SEGMENT_BLOCKS, _BLOCKS_AT_ONCE)):
        run: list[bytes] = []
        for local in range(start, start + _BLOCKS_AT_ONCE):
            record = table[local * CHECKSUM_BYTES :][:CHECKSUM_BYTES]
            data = _good_block(descriptor, content, number, local, record)
            if data is not None:
                run.append(data)
            elif run:
                yield first_of_segment + local - len(run), run
                run = []
        if run:
            yield first_of_segment + start + _BLOCKS_AT_ONCE - len(run), run
        os.ftruncate(descriptor, min(os.fstat(descriptor).st_size, _TABLE_BYTES + start * BLOCK_BYTES))


def _good_block(descriptor: int, content: Content, number: int, local: int, record: bytes) -> bytes | None:
    length = len(block_range(content, number * _SEGMENT_BLOCKS + local))
    if record == _NO_RECORD or not length:
        return None
    data = read_at(descriptor, length, _TABLE_BYTES + local * BLOCK_BYTES)
    identity = f"{content.content_id}.{number}"
    return data if len(data) == length and checksum(identity, local, data) == record else None
