"""Which blocks of an open content were checked since it was opened, and against what: each when it is used first.

A checksum shows that a block is what was written there. A digest, where it is known (digests.py), shows that it is
what was released, wherever it comes from.
"""

from collections.abc import Iterable
from typing import Final

from vbnfs.blocks import checksum, digest
from vbnfs.cache.digests import DigestSet, contradiction


class BadBlockError(Exception):
    """A recorded block that cannot be used. A miss for the reader, and worth a counter."""


class DamagedBlockError(BadBlockError):
    """Its bytes cannot be read, or do not match its checksum."""


class WrongDigestError(BadBlockError):
    """Its bytes match its checksum, and are not those of the released file."""


class BlockChecks:
    """Of the content with this identity, which has `count` blocks; `where` it stands, for people.

    `wrong` are blocks that are not used though they are recorded.
    """

    def __init__(self, identity: str, where: str, count: int, digests: DigestSet | None = None) -> None:
        self.digests: Final = digests
        self.wrong: Final[set[int]] = set()
        self._identity = identity
        self._where = where
        self._are_checked = bytearray(count)

    def with_digests(self, digests: DigestSet | None) -> "BlockChecks":
        """Checks against these digests: the same, where nothing else is known now; else all begin anew."""
        if digests is self.digests or digests == self.digests:
            return self
        return BlockChecks(self._identity, self._where, len(self._are_checked), digests)

    def unchecked(self, indices: Iterable[int]) -> list[int]:
        """Those of the blocks that were not found good yet."""
        return [index for index in indices if not self._are_checked[index]]

    def check(self, index: int, data: bytes | memoryview, record: bytes) -> None:
        """Hold the bytes of a block against its record, and its digest. Raises `BadBlockError`."""
        self._are_checked[index] = 0
        if checksum(self._identity, index, data) != record:
            raise DamagedBlockError(f"{self._where}: block {index} does not match its checksum")
        if self.digests is not None and (found := digest(data)) != (wanted := self.digests.of_block(index)):
            raise WrongDigestError(contradiction(self._where, index, found=found, wanted=wanted))
        self._are_checked[index] = 1

    def unreadable(self, index: int) -> DamagedBlockError:
        """The disk has lost a block; where it is written anew it may take it."""
        self._are_checked[index] = 0
        return DamagedBlockError(f"{self._where}: block {index} cannot be read")
