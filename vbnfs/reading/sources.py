"""From which of its sources a content is read, and that what comes is what was released, where that is known.

Manifests name several objects for one content. Each should hold its bytes. Where one is gone, forbidden, or another
object than was listed, the next one is asked, and the one that answered is remembered. A whole file that proved wrong
is fetched anew from the next source. From which source it proved good, the verdict on it says, to all processes.

Where the digests of a content's blocks are known, each block is checked as it comes (proof.py), before a reader or
the disk gets it. A wrong one is asked for again: of the next source, and of the first one on a new connection.
Digests that were imported are a claim: where two replies agree with one another, and not with the claim, the content
is read without it. What stores blocks as they come, and gives none of their bytes, has to check them itself.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from cachetools import LRUCache, TTLCache

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import KnownDigests, contradiction
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    WrongBlockError,
)
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectClient, ObjectVersion, RangeRequest, Received
from vbnfs.reading.fetches import BlockAssembler, Bytes
from vbnfs.reading.mirror import Mirror
from vbnfs.reading.mirrors import Mirrors
from vbnfs.reading.proof import Proof
from vbnfs.reading.storing import Sinks

_MOST_REMEMBERED: Final = 4096
_LATELY_SECONDS: Final = 5.0
_AGREEING: Final = 2  # replies, by which a claim is doubted
# Of the object, and not of the server or the way to it: another object may be had.
_OF_THE_OBJECT: Final = (ObjectGoneError, AccessDeniedError, BadReplyError)

# Adjacent blocks: their numbers, their bytes (None: the cache should have them, as something said that has received
# them), and where they are to be kept, if not in the dataset's own scope.
ReceiveBlocks = Callable[[range, list[Bytes] | None, BlockCache | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Where to ask. `is_anew`: on a new connection, since something on the way may be to blame.

    `kept_in`: where its blocks are kept, if not in the dataset's own scope.
    """

    source: ObjectVersion
    is_anew: bool = False
    mirror: Mirror | None = None
    kept_in: BlockCache | None = None


class _Rest:
    """The blocks that were not handed on to `receive` yet. `waits_since`: the last bytes of them came then."""

    def __init__(self, content: Content, indices: range, receive: ReceiveBlocks, note: Callable[[int], None]) -> None:
        self.content = content
        self.waits_since = trio.current_time()
        self._note = note
        self.indices = indices
        self.is_handing_on = False  # stays, where `receive` fails
        self._receive = receive

    @property
    def byte_range(self) -> ByteRange:
        """Where they stand in the object."""
        return ByteRange(
            block_range(self.content, self.indices[0]).start, block_range(self.content, self.indices[-1]).stop
        )

    def note(self, count_bytes: int) -> None:
        """So many more bytes have come."""
        self.waits_since = trio.current_time()
        self._note(count_bytes)

    async def hand_on(self, indices: range, blocks: list[Bytes] | None, kept_in: BlockCache | None) -> None:
        """Hand on the next ones."""
        self.is_handing_on = True
        await self._receive(indices, blocks, kept_in)
        self.is_handing_on = False
        self.indices = range(indices.stop, self.indices.stop)


class Sources:
    """Blocks of contents by `client`, from the sources that `verdicts` and what was met before speak for.

    `mirrors` are asked before all of them.
    """

    def __init__(
        self,
        client: ObjectClient,
        verdicts: Verdicts,
        proof: Proof,
        sinks: Sinks,
        *,
        metrics: Metrics,
        mirrors: Mirrors | None = None,
    ) -> None:
        self._client = client
        self._mirrors = mirrors
        self._verdicts = verdicts
        self._proof = proof
        self._sinks = sinks
        self._metrics = metrics
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)
        self._chosen: LRUCache[str, ObjectVersion] = LRUCache(_MOST_REMEMBERED)  # by content id
        self._answered: LRUCache[str, ObjectVersion] = LRUCache(_MOST_REMEMBERED)  # last
        # For which contents the verdict of all processes was read lately.
        self._recent: TTLCache[str, None] = TTLCache(_MOST_REMEMBERED, ttl=_LATELY_SECONDS, timer=trio.current_time)

    async def get_blocks(
        self,
        content: Content,
        indices: range,
        receive: ReceiveBlocks,
        note: Callable[[int], None] = lambda count_bytes: None,
    ) -> None:
        """Hand adjacent blocks to `receive`, in order, as they come, each of them checked where that can be.

        `note` gets how many bytes have come, as they do, before blocks are whole. Raises what the first source failed
        with, where none gives the rest.
        """
        rest = _Rest(content, indices, receive, note)
        while True:
            begun, known = rest.indices, await self._proof.of(content)
            at_mirrors = await self._ask_mirrors(rest, known)
            failures = await self._ask_all(rest, known) if rest.indices else []
            if not failures:
                return
            replies = [error for error in (*at_mirrors, *failures) if isinstance(error, WrongBlockError)]
            wrong = Counter(error.found for error in replies)
            if wrong and known is not None and not known.are_proven and max(wrong.values()) >= _AGREEING:
                self._doubt(content)
            elif not wrong or rest.indices == begun:  # else another block is wrong now
                raise failures[0]

    async def _ask_mirrors(self, rest: _Rest, known: KnownDigests | None) -> list[StorageError]:
        """Ask those that may have the content, while there is time. Returns why they gave not all of the rest."""
        failures = list[StorageError]()
        for mirror in () if self._mirrors is None else self._mirrors.to_ask(rest.content, known):
            if not mirror.has_time(rest.waits_since):
                break
            kept_in = None if known is not None and known.are_proven else mirror.cache
            attempt = _Attempt(mirror.source_of(rest.content), mirror=mirror, kept_in=kept_in)
            try:
                await self._ask(rest, attempt, known)
            except StorageError as error:
                if rest.is_handing_on:
                    raise
                mirror.note_failure(rest.content, error)
                failures.append(error)
            else:
                break
        return failures

    async def _ask_all(self, rest: _Rest, known: KnownDigests | None) -> list[StorageError]:
        """Ask one source after the other until one has given the rest. Returns the failures, if none has."""
        failures: list[StorageError] = []
        for attempt in _attempts(await self._in_order(rest.content), failures):
            try:
                await self._ask(rest, attempt, known)
            except _OF_THE_OBJECT as error:
                if rest.is_handing_on or not rest.indices or isinstance(error, NoBucketError):
                    raise
                failures.append(error)
            else:
                if rest.content.others:
                    self._chosen[rest.content.content_id] = self._answered[rest.content.content_id] = attempt.source
                return []
        return failures

    async def _ask(self, rest: _Rest, attempt: _Attempt, known: KnownDigests | None) -> None:
        """One GET of the rest. Raises `WrongBlockError` behind the good blocks before a wrong one."""
        content = rest.content
        assembler = BlockAssembler(content, rest.indices)

        async def receive(received: Received) -> None:
            rest.note(len(received))
            for indices, blocks in assembler.add(received):
                wrong = None
                if known is not None and blocks is not None:
                    wrong = await self._wrong(content, attempt, known, indices, blocks)
                good = indices if wrong is None else indices[: wrong[0]]
                if good:
                    await rest.hand_on(good, blocks and blocks[: len(good)], attempt.kept_in)
                    self._note_mirrored(attempt.mirror, len(good))
                if wrong is not None:
                    raise wrong[1]

        wanted, digests = rest.byte_range, None if known is None else known.digests
        async with self._sinks.of(content, wanted, kept_in=attempt.kept_in, digests=digests) as sink:
            request = RangeRequest(attempt.source, wanted, content.size_bytes, is_anew=attempt.is_anew, sink=sink)
            if attempt.mirror is None:
                await self._client.get_range(request, receive)
            else:
                await attempt.mirror.get_range(content, request, receive, since=rest.waits_since)

    def _note_mirrored(self, mirror: Mirror | None, blocks: int) -> None:
        if mirror is not None:
            mirror.blocks += blocks
            self._metrics.mirror_blocks += blocks

    async def _wrong(
        self, content: Content, attempt: _Attempt, known: KnownDigests, indices: range, blocks: list[Bytes]
    ) -> tuple[int, WrongBlockError] | None:
        """The place of the first wrong block among some adjacent ones, and what is wrong; None if all are good."""
        for place, found in enumerate(await self._proof.digests_of(blocks)):
            wanted = known.digests.of_block(indices[place])
            if found != wanted:
                self._metrics.wrong_blocks += 1
                text = contradiction(str(attempt.source), indices[place], found=found, wanted=wanted)
                error = WrongBlockError(text, found=found)
                self._warn_once("a block came wrong; fetching it again", key=str(attempt.source), reason=str(error))
                return place, error
        return None

    def _doubt(self, content: Content) -> None:
        """The replies speak against what was imported: then it is the whole file's hash that decides."""
        reason = "they contradict what the dataset's bucket sends; the whole file's hash decides"
        self._warn_once("imported digests are not used", object=str(content.source), reason=reason)
        self._proof.doubt(content)

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


def _attempts(sources: Sequence[ObjectVersion], failures: Sequence[StorageError]) -> Iterator[_Attempt]:
    """Where to ask, in order. `failures` are those until now: after a wrong block the first source is asked anew."""
    yield from map(_Attempt, sources)
    if any(isinstance(failure, WrongBlockError) for failure in failures):
        yield _Attempt(sources[0], is_anew=True)
