"""A copy of the dataset's objects that is asked first, and what keeps its bytes from being taken for the dataset's.

A mirror has objects by their keys; versions are the dataset's alone. A site cache, a proxy before the dataset's
bucket, has them by key and version id. Either is asked for contents with a hash, since nothing could prove the
others, and has little time: the dataset's bucket is there for what it does not bring.

A block that has its proven digest is the dataset's. All others are kept in `cache`, the mirror's own scope, until the
whole file's hash has matched (verification.py). The dataset's cache has that scope behind it, so mounts with this
mirror read it there. What it has wrong is said in `verdicts`, also of its own scope: they
refuse no read, but nothing of that content is asked of the mirror any more, unless each block can be proven.
"""

import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import structlog
import trio
from cachetools import LRUCache, TTLCache

from vbnfs.blocks import blocks_of, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet, KnownDigests
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import AccessDeniedError, BadReplyError, ObjectGoneError, StorageError, TransportError
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.objects import ByteRange, Content, ObjectClient, ObjectVersion, RangeRequest, Receive, Received
from vbnfs.reading.patience import Patience, Waiting

log = structlog.get_logger()

_WITHOUT_SECONDS: Final = 300.0  # a content that it does not have, or has wrong, is not asked of it
_SHORTEST_REST_SECONDS: Final = 2.0  # nothing is, after it failed; twice as long after each failure in a row
_LONGEST_REST_SECONDS: Final = 30.0
_MOST_REMEMBERED: Final = 4096
_HANDED_OVER_BLOCKS: Final = 8  # at a time
_OF_THE_OBJECT: Final = (ObjectGoneError, AccessDeniedError, BadReplyError)

Keep = Callable[[Content, int, bytes], bool]  # a block to the dataset's own scope; whether the disk took it
Work = Callable[[Callable[[], None]], Awaitable[None]]  # runs what waits for the disk


class Mirror:
    """Asks `client` for objects; `patience_seconds` is how long it may bring nothing to any of those who wait.

    `name` is for people. `has_versions`: it is a site cache, which has more time while it answers (patience.py).
    """

    def __init__(
        self,
        client: ObjectClient,
        cache: BlockCache,
        verdicts: Verdicts,
        *,
        name: str,
        patience_seconds: float,
        has_versions: bool = False,
    ) -> None:
        self.cache: Final = cache
        self.verdicts: Final = verdicts
        self.name: Final = name
        self.what: Final = "site cache" if has_versions else "mirror"
        self.blocks = 0  # that came from here
        self.problem: str | None = None  # why it failed; None once it has served again
        self._client = client
        self._has_versions = has_versions
        self._patience = Patience(patience_seconds, self._is_there if has_versions else None)
        self._without: TTLCache[str, None] = TTLCache(_MOST_REMEMBERED, _WITHOUT_SECONDS, trio.current_time)
        self._sent: LRUCache[str, bool] = LRUCache(_MOST_REMEMBERED)  # of what, though perhaps no disk took it
        self._rests_until = -math.inf
        self._rest_seconds = _SHORTEST_REST_SECONDS / 2
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)

    def may_have(self, content: Content, known: KnownDigests | None) -> bool:
        """Whether to ask it for blocks of a content. `known` are their digests."""
        if content.file_hash is None or content.content_id in self._without:
            return False
        if self._has_versions and not content.source.is_immutable:  # which it refuses, or may have as it was
            return False
        is_proven = known is not None and known.are_proven
        return not self.is_resting and (is_proven or self.verdicts.bad(content) is None)

    @property
    def is_resting(self) -> bool:
        """Whether it is not asked for anything, since it has failed."""
        return trio.current_time() < self._rests_until

    def source_of(self, content: Content) -> ObjectVersion:
        """The object that should have the content's bytes."""
        return content.source if self._has_versions else ObjectVersion(content.source.key, None)

    def has_time(self, since: float) -> bool:
        """See `Patience.has_time`."""
        return self._patience.has_time(since)

    async def get_range(self, content: Content, request: RangeRequest, receive: Receive, *, since: float) -> None:
        """See `ObjectClient.get_range`. Raises `TransportError` where it brings too little for too long.

        `since` when something waits for the bytes.
        """
        waiting, failure = Waiting(since), None

        async def receive_in_time(received: Received) -> None:
            self._sent[content.content_id] = True
            self._patience.heard()
            with waiting.receiving(len(received)):
                await receive(received)
            self._patience.heard()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._patience.end, waiting, nursery.cancel_scope)
            try:
                await self._client.get_range(request, receive_in_time)
            except Exception as error:  # which a nursery would wrap
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if waiting.ended is not None:
            raise TransportError(f"{request.version}: {waiting.ended}")
        self.problem, self._rest_seconds = None, _SHORTEST_REST_SECONDS / 2

    async def _is_there(self) -> bool:
        """Whether it takes connections."""
        try:
            await self._client.reach()
        except StorageError:
            return False
        return True

    def note_failure(self, content: Content, error: StorageError) -> None:
        """It did not bring what was asked for: do not ask it again soon, for this content or for any."""
        if isinstance(error, _OF_THE_OBJECT):
            self._without[content.content_id] = None
        else:
            now = trio.current_time()
            if now >= self._rests_until:  # else it is what was asked before it began to rest
                self._rest_seconds = min(2 * self._rest_seconds, _LONGEST_REST_SECONDS)
                self._rests_until = now + self._rest_seconds
        self.problem = str(error)
        about = {"mirror": self.name, "reason": str(error)}
        text = f"the {self.what} does not serve; asking the dataset's bucket"
        self._warn_once(text, key=str(type(error)), **about)

    def reject(self, content: Content, found: Verdict) -> bool:
        """A whole file proved wrong: delete what came from here. False if nothing did. Call it from a thread."""
        has_sent = self._sent.pop(content.content_id, False)
        if not has_sent and not self.cache.cached_bytes(content):
            return False
        text = f"the {self.what} has a file wrong"
        log.error(text, mirror=self.name, object=content.source.key, blake2b=found.found_hash)
        self.verdicts.keep(content, found)
        self.cache.drop(content)
        return True

    async def hand_over(
        self, content: Content, digests: DigestSet, *, cache: BlockCache, keep: Keep, work: Work
    ) -> None:
        """A file has its hash: what was sent of it, and `cache` lacks, is the dataset's now, each block proven.

        Blocks are copied by `keep`, and not renamed: at that moment another process may be writing to the files here
        what its mirror sends. Then what is here of the file is deleted, unless the disk takes no more.
        """
        are_kept: list[bool] = []
        indices = blocks_of(ByteRange(0, content.size_bytes))
        for first in indices[::_HANDED_OVER_BLOCKS]:
            window = range(first, min(first + _HANDED_OVER_BLOCKS, indices.stop))

            def copy(part: range = window) -> None:
                are_kept.append(self._copy(content, cache.missing_here(content, part), digests, keep))

            await work(copy)
        if all(are_kept):
            await work(partial(self.cache.drop, content))

    def _copy(self, content: Content, indices: Iterable[int], digests: DigestSet, keep: Keep) -> bool:
        """Whether the disk took all of those that are here and have their digests."""
        for index in indices:
            data = self.cache.checked_block(content, index)
            if data is not None and digest(data) == digests.of_block(index) and not keep(content, index, data):
                return False
        return True
