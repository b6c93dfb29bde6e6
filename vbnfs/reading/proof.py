"""Arriving blocks against their digests, off the event loop.

A digest takes 0.3 ms a block. A piece has up to eight blocks, and is checked by one call of a thread. These threads
are few and of their own: they never wait for a disk, and a disk that hangs does not hold them up.
"""

from collections.abc import Sequence
from typing import Final

import trio

from vbnfs.blocks import digest
from vbnfs.cache.digests import DigestStore, KnownDigests
from vbnfs.objects import Content
from vbnfs.reading.fetches import Bytes

_THREADS: Final = 4


class Proof:
    """Checks blocks against what `store` has."""

    def __init__(self, store: DigestStore) -> None:
        self._store = store
        self._threads = trio.CapacityLimiter(_THREADS)

    async def of(self, content: Content) -> KnownDigests | None:
        """The digests of a content's blocks; None if none are known."""
        try:
            return self._store.of_nowait(content)
        except KeyError:
            pass
        try:
            return await trio.to_thread.run_sync(self._store.of, content, abandon_on_cancel=True)
        except RuntimeError:  # no thread to be had: unchecked, as without digests
            return None

    def doubt(self, content: Content) -> None:
        """Do without what was imported of a content."""
        if content.file_hash is not None:
            self._store.doubt(content.file_hash)

    async def digests_of(self, blocks: Sequence[Bytes]) -> list[bytes]:
        """The digest of each block."""

        def work() -> list[bytes]:
            return [digest(block) for block in blocks]

        try:
            return await trio.to_thread.run_sync(work, limiter=self._threads)
        except RuntimeError:  # no thread to be had
            return work()
