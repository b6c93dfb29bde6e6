"""From which of its sources a content is read.

Manifests name several objects for one content. Each should hold its bytes. Where one is gone, forbidden, or another
object than was listed, the next one is asked, and the one that answered is remembered. A whole file that proved wrong
is fetched anew from the next source. From which source it proved good, the verdict on it says, to all processes.
"""

from typing import Final

import trio
from cachetools import LRUCache, TTLCache

from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import AccessDeniedError, BadReplyError, NoBucketError, ObjectGoneError
from vbnfs.objects import ByteRange, Content, ObjectClient, ObjectVersion, RangeRequest, Receive
from vbnfs.rest import Rest

_MOST_REMEMBERED: Final = 4096
_LATELY_SECONDS: Final = 5.0
# Of the object, and not of the server or the way to it: another object may be had.
_OF_THE_OBJECT: Final = (ObjectGoneError, AccessDeniedError, BadReplyError)


class Sources:
    """Ranges of contents by `client`, from the sources that `verdicts` and what was met before speak for."""

    def __init__(self, client: ObjectClient, verdicts: Verdicts) -> None:
        self._client = client
        self._verdicts = verdicts
        self._chosen: LRUCache[str, ObjectVersion] = LRUCache(_MOST_REMEMBERED)  # by content id
        self._answered: LRUCache[str, ObjectVersion] = LRUCache(_MOST_REMEMBERED)  # last
        # For which contents the verdict of all processes was read lately.
        self._recent: TTLCache[str, None] = TTLCache(_MOST_REMEMBERED, ttl=_LATELY_SECONDS, timer=trio.current_time)

    async def get_range(self, content: Content, byte_range: ByteRange, receive: Receive) -> None:
        """See `ObjectClient.get_range`. Raises what the first source failed with, where none gives the range."""
        rest, failure = Rest(byte_range, receive), None
        for source in await self._in_order(content):
            try:
                request = RangeRequest(source, rest.byte_range, content.size_bytes)
                await self._client.get_range(request, rest.receive)
            except _OF_THE_OBJECT as error:
                if rest.is_handing_on or not rest.byte_range or isinstance(error, NoBucketError):
                    raise
                failure = failure or error
            else:
                if content.others:
                    self._chosen[content.content_id] = self._answered[content.content_id] = source
                return
        assert failure is not None  # there is a source
        raise failure

    def first(self, content: Content) -> ObjectVersion:
        """The source that is asked first, as far as is known without the disk."""
        bad = self._verdicts.bad(content)
        if bad is not None:  # the one after the one that was wrong
            names = [str(source) for source in content.sources]
            wrong = names.index(bad.source) if bad.source in names else 0
            return content.sources[(wrong + 1) % len(names)]
        chosen: ObjectVersion | None = self._chosen.get(content.content_id)
        return chosen if chosen in content.sources else content.source

    def origin(self, content: Content, *, known: str) -> str:
        """The source that answered last; where none has been asked, the `known` one, or that which is asked first."""
        answered: ObjectVersion | None = self._answered.get(content.content_id)
        return str(answered) if answered in content.sources else known or str(self.first(content))

    def forget(self, content_id: str) -> None:
        """What was read of a content is wrong: nothing speaks for the source that it was read from."""
        self._chosen.pop(content_id, None)
        self._recent.pop(content_id, None)

    async def _in_order(self, content: Content) -> tuple[ObjectVersion, ...]:
        if not content.others:
            return content.sources
        if content.content_id not in self._recent:
            self._recent[content.content_id] = None
            good = await trio.to_thread.run_sync(self._verdicts.good, content)
            for source in content.sources:
                if good is not None and str(source) == good.source:
                    self._chosen[content.content_id] = source
        first = self.first(content)
        return (first, *(source for source in content.sources if source != first))
