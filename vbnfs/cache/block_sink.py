"""A cache as the sink of a GET: whole blocks that come are stored at their place, without the event loop."""

from collections.abc import Sequence

import structlog

from vbnfs.blocks import BLOCK_BYTES, by_block, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet
from vbnfs.objects import Content

log = structlog.get_logger()


class BlockSink:
    """See `objects.Sink`: for blocks of one content, which come to `cache`.

    A block that does not have its digest is not stored: it is handed on as bytes, and judged where they are.
    """

    def __init__(self, cache: BlockCache, content: Content, digests: DigestSet | None) -> None:
        self._cache = cache
        self._content = content
        self._digests = digests
        self.stored_bytes = 0

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        """See `objects.Sink`."""
        first = start // BLOCK_BYTES
        try:
            is_stored = self._are_right(first, parts) and self._cache.put(self._content, first, *parts) > 0
        except Exception:  # a defect; it must not end the thread that stores everything
            log.exception("unexpected failure of a write", object=str(self._content.source))
            return False
        if is_stored:
            self.stored_bytes += sum(map(len, parts))
        return is_stored

    def _are_right(self, first: int, parts: Sequence[bytes]) -> bool:
        if self._digests is None:
            return True
        blocks = enumerate(by_block(parts), first)
        return all(digest(*block) == self._digests.of_block(index) for index, block in blocks)
