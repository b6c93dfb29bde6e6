"""How objects are cut into blocks, what a block is checked by, and in what pieces its bytes come.

The network and the disk both go by these; neither imports the other.
"""

import hashlib
from typing import Final

import xxhash

from vbnfs.objects import ByteRange

BLOCK_BYTES: Final = 256 << 10
CHECKSUM_BYTES: Final = 16
DIGEST_BYTES: Final = 16
PIECE_BYTES: Final = 8 * BLOCK_BYTES  # a body comes in pieces of at most this
MOST_WAITING_BYTES: Final = 2 * PIECE_BYTES  # of a GET, received and not taken yet; then its transfer is paused

_ABSENT: Final = bytes(CHECKSUM_BYTES)


def blocks_of(byte_range: ByteRange) -> range:
    """The numbers of the blocks that a range touches; empty for an empty range."""
    if not byte_range:
        return range(0)
    return range(byte_range.start // BLOCK_BYTES, -(-byte_range.stop // BLOCK_BYTES))


def checksum(identity: str, index: int, data: bytes | memoryview) -> bytes:
    """XXH3-128 of block `index` of what `identity` names, seeded with both. It is never all zeros."""
    seed = xxhash.xxh3_64_intdigest(identity.encode()) + index
    digest = xxhash.xxh3_128_digest(data, seed=seed % (1 << 64))
    return digest if digest != _ABSENT else b"\1" * CHECKSUM_BYTES


def digest(data: bytes | memoryview) -> bytes:
    """The blake2b-128 of a block's bytes (RFC 7693): nobody finds other bytes that have it, unlike a checksum."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
