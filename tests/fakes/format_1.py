"""Segments as an earlier vbnfs wrote them: the first format of the cache."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, checksum
from vbnfs.cache.stored_blocks import block_range
from vbnfs.objects import Content

SEGMENT_BLOCKS: Final = 1024
TABLE_BYTES: Final = SEGMENT_BLOCKS * CHECKSUM_BYTES


def write_segments(
    directory: Path, content: Content, data: bytes | Mapping[int, bytes], *, blocks: Iterable[int], scope: str = "aws"
) -> list[Path]:
    """Write blocks of a content into a cache directory; `data` is all of its bytes, or those of each block."""
    paths: dict[Path, None] = {}
    for index in blocks:
        number, local = divmod(index, SEGMENT_BLOCKS)
        name = f"{content.content_id}.{number}"
        path = directory / "blocks-v1" / scope / content.content_id[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = block_range(content, index)
        block = data[index] if isinstance(data, Mapping) else data[part.start : part.stop]
        length = min(SEGMENT_BLOCKS * BLOCK_BYTES, content.size_bytes - number * SEGMENT_BLOCKS * BLOCK_BYTES)
        path.touch(mode=0o600)
        with open(path, "r+b") as file:
            file.truncate(TABLE_BYTES + length)
            file.seek(TABLE_BYTES + local * BLOCK_BYTES)
            file.write(block)
            file.seek(local * CHECKSUM_BYTES)
            file.write(checksum(name, local, block))
        paths[path] = None
    return list(paths)
