"""How objects are cut into blocks, what a block is checked by, and in what pieces its bytes come.

The network and the disk both go by these; neither imports the other.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import xxhash

from vbnfs.objects import ByteRange, Content

BLOCK_BYTES: Final = 256 << 10
CHECKSUM_BYTES: Final = 16
DIGEST_BYTES: Final = 16
PIECE_BYTES: Final = 4 * BLOCK_BYTES  # a body comes in pieces of at most this, or is stored so much at a time
MOST_WAITING_BYTES: Final = 2 * PIECE_BYTES  # of a GET, received and not taken yet; then its transfer is paused

_ABSENT: Final = bytes(CHECKSUM_BYTES)


def blocks_of(byte_range: ByteRange) -> range:
    """The numbers of the blocks that a range touches; empty for an empty range."""
    if not byte_range:
        return range(0)
    return range(byte_range.start // BLOCK_BYTES, -(-byte_range.stop // BLOCK_BYTES))


@dataclass(frozen=True, slots=True)
class Portion:
    """Blocks of a content, by number and in order: those that are wanted of it, all or some."""

    content: Content
    blocks: Sequence[int]

    @classmethod
    def whole(cls, content: Content) -> "Portion":
        """All of a content."""
        return cls(content, blocks_of(ByteRange(0, content.size_bytes)))

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the content."""
        return len(self.blocks) == -(-self.content.size_bytes // BLOCK_BYTES)

    @property
    def count_bytes(self) -> int:
        """How many bytes these blocks have: a content's last block may be shorter."""
        behind = (self.blocks[-1] + 1) * BLOCK_BYTES if self.blocks else 0
        return len(self.blocks) * BLOCK_BYTES - max(0, behind - self.content.size_bytes)


def by_block(parts: Sequence[bytes | memoryview]) -> list[list[bytes | memoryview]]:
    """Adjacent blocks in parts that were cut anywhere, as the parts of each block. Only the last may be shorter."""
    blocks: list[list[bytes | memoryview]] = []
    room = 0  # for more bytes of the last one
    for part in parts:
        left = part
        while left:
            if not room:
                blocks.append([])
                room = BLOCK_BYTES
            taken, left = (left, b"") if len(left) <= room else (memoryview(left)[:room], memoryview(left)[room:])
            blocks[-1].append(taken)
            room -= len(taken)
    return blocks


def checksum(identity: str, index: int, *parts: bytes | memoryview) -> bytes:
    """XXH3-128 of block `index` of what `identity` names, seeded with both. It is never all zeros."""
    hasher = xxhash.xxh3_128(seed=(xxhash.xxh3_64_intdigest(identity.encode()) + index) % (1 << 64))
    for part in parts:
        hasher.update(part)
    digest = hasher.digest()
    return digest if digest != _ABSENT else b"\1" * CHECKSUM_BYTES


def digest(*parts: bytes | memoryview) -> bytes:
    """The blake2b-128 of a block's bytes (RFC 7693): nobody finds other bytes that have it, unlike a checksum."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def bytes_of_blocks(size_bytes: int, blocks: Collection[int]) -> int:
    """How many bytes some blocks have of a content of this size: the last one may be shorter than the others."""
    last, beyond_bytes = divmod(size_bytes, BLOCK_BYTES)
    is_cut = beyond_bytes > 0 and last in blocks
    return len(blocks) * BLOCK_BYTES - (BLOCK_BYTES - beyond_bytes if is_cut else 0)
