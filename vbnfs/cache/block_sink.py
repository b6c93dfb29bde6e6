"""A cache as the sink of a GET: whole blocks that come are stored at their place, without the event loop."""

from collections.abc import Sequence

import structlog

from vbnfs.blocks import BLOCK_BYTES, DIGEST_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.file_store import have_digests
from vbnfs.cache.stored_blocks import block_range
from vbnfs.objects import ByteRange, Content, OpenStore, Sink, StorePlan

log = structlog.get_logger()


class BlockSink(Sink):
    """See `objects.Sink`: for blocks of one content, which come to `cache`.

    A block that does not have its digest is not stored: it is handed on as bytes, and judged where they are.
    """

    def __init__(self, cache: BlockCache, content: Content, digests: DigestSet | None) -> None:
        self._cache = cache
        self._content = content
        self._digests = digests
        self._stored: set[int] = set()  # numbers of blocks; a range that is asked for twice brings some twice
        self.stored_bytes = 0

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        """See `objects.Sink`."""
        first = start // BLOCK_BYTES
        try:
            are_right = self._digests is None or have_digests(first, parts, self._digests.of_block)
            kept_bytes = self._cache.put(self._content, first, *parts) if are_right else 0
        except Exception:  # a defect; it must not end the thread that stores everything
            log.exception("unexpected failure of a write", object=str(self._content.source))
            return False
        if kept_bytes:
            self._count(start, start + kept_bytes)
        return kept_bytes > 0

    def opened(self, byte_range: ByteRange) -> OpenStore | None:
        """See `objects.Sink`."""
        try:
            files = self._cache.for_storing(self._content)
        except Exception:  # a defect
            log.exception("unexpected failure to open a content", object=str(self._content.source))
            return None
        if files is None:
            return None
        blocks = blocks_of(byte_range)
        digests = None
        if self._digests is not None:
            digests = self._digests.digests[blocks.start * DIGEST_BYTES : blocks.stop * DIGEST_BYTES]
        plan = StorePlan(
            self._content.content_id, self._content.size_bytes, blocks.start, digests, files.files.are_shared
        )
        return OpenStore(plan, files.files[:2], files)

    def note_stored(self, start: int, stop: int) -> None:
        """See `objects.Sink`."""
        if new_bytes := self._count(start, stop):
            self._cache.note_kept(self._content, new_bytes)

    def _count(self, start: int, stop: int) -> int:
        """Count what is stored now. Returns how many bytes of it were not counted before."""
        new = set(blocks_of(ByteRange(start, stop))) - self._stored
        new_bytes = sum(len(block_range(self._content, index)) for index in new)
        self._stored |= new
        self.stored_bytes += new_bytes
        return new_bytes
