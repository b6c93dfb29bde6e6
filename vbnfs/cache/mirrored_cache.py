"""The blocks of a dataset, and beside them those that a mirror sent and nothing has proven yet.

What this mount reads is in either; in the dataset's own scope first. `put` goes to that scope alone: what the mirror
sends is put into `mirrored`, the mirror's own scope, by the one that gets it. `take_over` brings such blocks into the
dataset's scope, one by one, each against its digest. They are copied, and not renamed: at that moment another process
may be writing to the mirror's files what its mirror sends.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

from vbnfs.blocks import blocks_of, digest
from vbnfs.cache.behind import Behind
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.inventory import CachedContent
from vbnfs.host.places import Place
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

Keep = Callable[[Content, int, bytes], bool]  # a block to the dataset's own scope; whether the disk took it


class MirroredCache(BlockCache):
    """A `BlockCache` of the dataset's scope that also reads what is in `mirrored`."""

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        mirrored: BlockCache,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
        behind: Behind | None = None,
    ) -> None:
        super().__init__(
            directory,
            scope=scope,
            metrics=metrics,
            check_every_read=check_every_read,
            is_local=is_local,
            behind=behind,
        )
        self.mirrored: Final = mirrored

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`."""
        found = super().read_nowait(content, byte_range)
        return self.mirrored.read_nowait(content, byte_range) if found is None else found

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`."""
        found = super().read(content, byte_range)
        return self.mirrored.read(content, byte_range) if found is None else found

    def missing(self, content: Content, indices: Iterable[int]) -> list[int]:
        """See `BlockCache`."""
        return self.mirrored.missing(content, super().missing(content, indices))

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """See `BlockCache`."""
        found = super().checked_block(content, index)
        return self.mirrored.checked_block(content, index) if found is None else found

    def records(self, content: Content) -> Iterator[bytes | None]:
        """See `BlockCache`."""
        own = list(super().records(content))
        if None not in own:
            return iter(own)
        both = zip_longest(own, self.mirrored.records(content))
        return (record if record is not None else mirrored for record, mirrored in both)

    def seal(self, content: Content) -> None:
        """None: blocks are read from two files."""

    def cached_bytes(self, content: Content) -> int:
        """See `BlockCache`."""
        return min(content.size_bytes, super().cached_bytes(content) + self.mirrored.cached_bytes(content))

    def allocated_bytes(self, content: Content) -> int:
        """See `BlockCache`."""
        return super().allocated_bytes(content) + self.mirrored.allocated_bytes(content)

    def take_stock(self, found: Sequence[CachedContent]) -> None:
        """See `BlockCache`."""
        super().take_stock(found)
        self.mirrored.take_stock(found)

    def take_changed(self) -> set[str]:
        """See `BlockCache`."""
        return super().take_changed() | self.mirrored.take_changed()

    def complete(self, content: Content) -> bool:
        """See `BlockCache`: of the blocks of the dataset's own scope."""
        return not self._lacks(content) and super().complete(content)

    def drop(self, content: Content) -> None:
        """See `BlockCache`."""
        super().drop(content)
        self.mirrored.drop(content)

    def flush(self) -> None:
        """See `BlockCache`."""
        super().flush()
        self.mirrored.flush()

    def forget_deleted(self) -> None:
        """See `BlockCache`."""
        super().forget_deleted()
        self.mirrored.forget_deleted()

    def publish_held(self) -> None:
        """See `BlockCache`."""
        super().publish_held()
        self.mirrored.publish_held()

    def note_opened(self, content: Content) -> None:
        """See `BlockCache`."""
        super().note_opened(content)
        self.mirrored.note_opened(content)

    def note_uses(self) -> None:
        """See `BlockCache`."""
        super().note_uses()
        self.mirrored.note_uses()

    def try_again(self) -> None:
        """See `BlockCache`."""
        super().try_again()
        self.mirrored.try_again()

    def take_over(self, content: Content, indices: Iterable[int], digests: DigestSet, keep: Keep) -> None:
        """Have those of the mirror's blocks be the dataset's that have the digests of the released file."""
        for index in super().missing(content, indices):
            data = self.mirrored.checked_block(content, index)
            if data is not None and digest(data) == digests.of_block(index) and not keep(content, index, data):
                return

    def end_taking_over(self, content: Content) -> None:
        """Delete what the mirror sent of a content, if the dataset's scope has all of it."""
        if not self._lacks(content):
            self.mirrored.drop(content)

    def _lacks(self, content: Content) -> bool:
        return bool(super().missing(content, blocks_of(ByteRange(0, content.size_bytes))))
