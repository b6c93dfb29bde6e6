"""Sets: what is known of the blocks of one file, by the file's hash, as it is stored and handed on.

    offset      bytes
    0           8       the letters of the kind of set
    8           4       the size of a block
    12          8       the size of the file
    20          64      the file's hash, blake2b-512
    84          12      what else the kind has in its head
    96          ...     what it has of each block
    then        32      blake2b-256 of all that stands before

Numbers are little-endian. Several sets stand one behind the other in a file. docs/digests.md and
docs/structure-index.md have the kinds.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final, Protocol

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import SetError
from vbnfs.objects import may_have_size

HEAD_BYTES: Final = 96
SEAL_BYTES: Final = 32
MORE_BYTES: Final = 12
_NUMBERS: Final = slice(8, 20)
_HASH: Final = slice(20, 84)
_READ_BYTES: Final = 1 << 20  # at a time: a length that is wrong must not take memory


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of set: the eight letters that it begins with, and what messages call what it has."""

    letters: bytes
    name: str
    error: type[SetError]


@dataclass(frozen=True, slots=True)
class Head:
    """What every set says of its file. `more` are the bytes that are the kind's own."""

    file_hash: str
    size_bytes: int
    more: bytes = bytes(MORE_BYTES)

    @property
    def blocks(self) -> int:
        """How many blocks the file has."""
        return -(-self.size_bytes // BLOCK_BYTES)


class BlockSet(Protocol):
    """A set of any kind."""

    @property
    def file_hash(self) -> str:
        """The hash of the file that it is about."""
        ...

    def encode(self) -> bytes:
        """The set as it is stored and exported."""
        ...


class Imported(Enum):
    """What became of a set that was imported."""

    NEW = "new"
    KNOWN = "known"
    REFUSED = "refused"  # another one is proven


def encode_set(kind: Kind, head: Head, body: bytes) -> bytes:
    """A set as bytes."""
    numbers = BLOCK_BYTES.to_bytes(4, "little") + head.size_bytes.to_bytes(8, "little")
    start = kind.letters + numbers + bytes.fromhex(head.file_hash) + head.more
    return start + body + _seal(start, body)


def read_set_of(kind: Kind, file: BinaryIO, body_bytes: Callable[[Head], int]) -> tuple[Head, bytes] | None:
    """The next set of a file, and the bytes of its blocks, so many as its head says; None at the file's end.

    Raises the kind's error for bytes that are no such set, `OSError`.
    """
    start = _read(file, HEAD_BYTES)
    if not start:
        return None
    if len(start) < HEAD_BYTES or not start.startswith(kind.letters):
        raise kind.error(f"no {kind.name} begin there")
    numbers = start[_NUMBERS]
    block_bytes, size_bytes = int.from_bytes(numbers[:4], "little"), int.from_bytes(numbers[4:], "little")
    if block_bytes != BLOCK_BYTES:
        raise kind.error(f"{kind.name} of blocks of {block_bytes:,} bytes, instead of {BLOCK_BYTES:,}")
    head = Head(start[_HASH].hex(), size_bytes, start[_HASH.stop :])
    body = _read(file, body_bytes(head))
    if _read(file, SEAL_BYTES) != _seal(start, body):
        raise kind.error("cut short, or damaged")
    if not may_have_size(head.file_hash, size_bytes):
        raise kind.error(f"{size_bytes:,} bytes cannot have this hash")
    return head, body


def _read(file: BinaryIO, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (part := file.read(min(count - len(data), _READ_BYTES))):
        data += part
    return bytes(data)


def _seal(start: bytes, body: bytes) -> bytes:
    whole = hashlib.blake2b(start, digest_size=SEAL_BYTES)
    whole.update(body)
    return whole.digest()
