"""Whole files against the manifest: when the last block of a file is on the disk, all of them are hashed.

A block's checksum shows that the disk returns what was written. It cannot show that what was written is what was
released: bytes can be damaged on their way here, in a reply that is right in all its figures. The blake2b of the
whole file, which the manifest has, shows that. Where it does not match, reads of the file are refused, its blocks are
deleted, and the file is fetched anew, from each of its sources once. If its hash is wrong each time, S3 has other
bytes, and the file stays refused until a person asks for another try. So nothing is fetched again without end.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet, DigestStore
from vbnfs.cache.verdict import Verdict, fingerprint_of, is_good, mismatch_text, most_mismatches
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cache.whole_file import Seal
from vbnfs.errors import WrongBlockError
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.hashing import Hasher, Hashes
from vbnfs.reading.mirrors import Mirrors

log = structlog.get_logger()

_HASHED_IN_A_ROW: Final = 3  # where other processes fetch a file anew while it is hashed here
_GATHER_SECONDS: Final = 1.0  # blocks come by the hundred; the files that they complete are checked once


class Verifier:
    """Verifies contents of which it gets notice, one at a time, behind readers.

    `on_mismatch` is called with the id of a content whose bytes are wrong, and may be in the kernel's memory.
    `on_hashed` gets each content that was found good, and the seal that its file had all the while. `without_pauses`
    and `on_hashed_bytes`: see `Hasher`.
    """

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        cache: BlockCache,
        source: BlockSource,
        verdicts: Verdicts,
        digests: DigestStore,
        *,
        metrics: Metrics,
        mirrors: Mirrors | None = None,
        on_mismatch: Callable[[str], None] = lambda content_id: None,
        on_hashed: Callable[[Content, Seal], None] = lambda content, seal: None,
        without_pauses: bool = False,
        on_hashed_bytes: Callable[[int], None] = lambda count_bytes: None,
    ) -> None:
        self._mirrors = mirrors
        self._cache = cache
        self._source = source
        self._verdicts = verdicts
        self._digests = digests
        self._metrics = metrics
        self._on_mismatch = on_mismatch
        self._on_hashed = on_hashed
        self._hasher = Hasher(cache, source, digests, without_pauses=without_pauses, on_hashed_bytes=on_hashed_bytes)
        self._noticed: dict[str, Content] = {}
        self._has_noticed = trio.Event()
        self._opened: set[Content] = set()
        self._awaited: dict[str, trio.Event] = {}  # by content id

    def notice(self, content: Content) -> None:
        """Check a content soon: blocks of it have come."""
        self._noticed[content.content_id] = content
        self._has_noticed.set()

    def notice_opened(self, content: Content) -> None:
        """Check a content soon, but once only: perhaps another process has completed it."""
        if content not in self._opened:
            self._opened.add(content)
            self.notice(content)

    async def judged(self, content: Content) -> None:
        """Check a content soon, and return when that is done, or cannot be done now. `run` has to run."""
        self.notice(content)
        await self._awaited.setdefault(content.content_id, trio.Event()).wait()

    async def run(self) -> None:
        """Verify what is noticed, until cancelled."""
        while True:
            await self._has_noticed.wait()
            await trio.sleep(_GATHER_SECONDS)
            noticed, self._noticed, self._has_noticed = self._noticed, {}, trio.Event()
            for content in noticed.values():
                try:
                    await self._check(content)
                except Exception as error:  # fetching anew failed, or a defect: go on with the other contents
                    reason = str(error) or repr(error)
                    log.warning("file cannot be verified now", object=str(content.source), reason=reason)
                    self._opened.discard(content)  # the next time that it is opened
                if (awaited := self._awaited.pop(content.content_id, None)) is not None:
                    awaited.set()

    async def refresh(self) -> None:
        """Learn which mismatches other processes have found."""
        found = await trio.to_thread.run_sync(self._verdicts.refresh)
        if self._mirrors is not None:
            found |= await self._mirrors.refresh()
        # The process that found one fetches the file anew, unless it has ended before: so the next open checks it.
        self._opened = {content for content in self._opened if content.content_id not in found}
        for content_id in found:
            await self._forget(content_id)

    async def verify(self, content: Content, *, fetch: bool) -> Verdict | None:
        """Hash all blocks and judge; None where blocks are missing that are not to be fetched, or there is no hash.

        A mismatch makes reads fail and drops the blocks. Raises a `StorageError` if fetching fails.
        """
        if content.file_hash is None:
            return None
        for _ in range(_HASHED_IN_A_ROW):
            before = await trio.to_thread.run_sync(self._verdicts.last, content)
            seal = await self._settled_seal(content)
            try:
                hashes = await self._hasher.hash(content, fetch=fetch)
            except WrongBlockError:
                if (given_up := await trio.to_thread.run_sync(self._give_up, content, before)) is None:
                    raise
                return given_up
            # Else wrong blocks would come to the disk behind their verdict.
            await self._source.writer.written(content)
            if hashes is not None and await self._is_a_mirrors_fault(content, hashes):
                continue
            verdict = None if hashes is None else await self._judge(content, hashes, before=before, seal=seal)
            if verdict is not None or hashes is None:
                return verdict
        return None

    async def fetch(self, content: Content) -> None:
        """Have all of a content fetched that is missing, also where there is no hash. Raises a `StorageError`."""
        await self._hasher.hash(content, fetch=True)

    async def _settled_seal(self, content: Content) -> Seal | None:
        """The seal of what is hashed from now on, when any change from then on shows."""
        seal = await trio.to_thread.run_sync(self._cache.seal, content)
        if seal is None or not (seconds := seal.settles_in_seconds):
            return seal
        await trio.sleep(seconds)
        return await trio.to_thread.run_sync(self._cache.seal, content)

    async def _complete(self, content: Content, verdict: Verdict, seal: Seal | None) -> None:
        """Have a good file be whole; its seal is kept if it is still the one that it had before it was hashed."""
        if await trio.to_thread.run_sync(self._cache.seal, content) != seal:
            seal = None
        if seal is not None:
            await trio.to_thread.run_sync(self._verdicts.store_seal, content, verdict, seal.text)
        is_whole = await trio.to_thread.run_sync(self._cache.complete, content)
        if is_whole and seal is not None:
            self._on_hashed(content, seal)

    def _give_up(self, content: Content, before: Verdict | None) -> Verdict | None:
        """A block of a file that is refused was asked of each source, and is wrong at all of them: as is the file.

        None where that is not proven, or the file was not refused.
        """
        known = self._digests.of(content)
        if before is None or is_good(content, before) or known is None or not known.are_proven:
            return None
        verdict = replace(before, mismatches=most_mismatches(content))
        self._verdicts.keep(content, verdict)
        return verdict

    async def _check(self, content: Content) -> None:
        bad = self._verdicts.bad(content)
        if bad is not None and bad.mismatches >= most_mismatches(content):
            return
        if bad is None:
            fingerprint = await trio.to_thread.run_sync(self._fingerprint, content)
            good = await trio.to_thread.run_sync(self._verdicts.good, content)
            is_judged = content.file_hash is None or (good is not None and good.fingerprint == fingerprint)
            if fingerprint is not None and is_judged:
                await trio.to_thread.run_sync(self._cache.complete, content)
            if fingerprint is None or is_judged:
                return
        verdict = await self.verify(content, fetch=bad is not None)
        while verdict is not None and 0 < verdict.mismatches < most_mismatches(content):
            verdict = await self.verify(content, fetch=True)

    def _fingerprint(self, content: Content) -> str | None:
        return fingerprint_of(self._cache.records(content))

    async def _judge(
        self, content: Content, hashes: Hashes, *, before: Verdict | None, seal: Seal | None
    ) -> Verdict | None:
        """Give a verdict on bytes that were fetched after `before`. None if the cache has others by now.

        `seal` is that of the file before it was hashed.
        """
        known = before.source if before is not None and before.found_hash == hashes.whole else ""
        origin = self._source.origin_of(content, known=known)
        found = Verdict(hashes.whole, hashes.fingerprint, _now(), source=origin)
        proven = await trio.to_thread.run_sync(self._keep_digests, content, hashes)
        if proven is not None and self._mirrors is not None:
            keep, work = self._source.writer.keep, self._hasher.with_pause
            await self._mirrors.hand_over(content, proven, cache=self._cache, keep=keep, work=work)
        judge = partial(self._verdicts.judge, content, found, before=before, cache=self._cache)
        verdict = await trio.to_thread.run_sync(judge)
        if not is_good(content, found):  # readers may have been given these bytes, whatever there is now
            await self._forget(content.content_id)
        if verdict is None:
            return None
        if is_good(content, verdict):
            self._metrics.verified_files += 1
            log.info("file verified", object=str(content.source), blake2b=verdict.found_hash)
            await self._complete(content, verdict, seal)
        else:
            self._metrics.mismatched_files += 1
            log.error("file does not match its manifest", reason=mismatch_text(content, verdict))
        return verdict

    async def _is_a_mirrors_fault(self, content: Content, hashes: Hashes) -> bool:
        """Whether bytes that are wrong came from a mirror or a site cache, in part at least: these are deleted then.

        The file is not refused: the dataset's bucket has not been asked for them.
        """
        if self._mirrors is None or hashes.whole == content.file_hash:
            return False
        found = Verdict(hashes.whole, hashes.fingerprint, _now(), mismatches=1, source="mirror")
        if not await trio.to_thread.run_sync(self._mirrors.reject, content, found):
            return False
        self._metrics.mismatched_files += 1
        await self._forget(content.content_id)
        return True

    def _keep_digests(self, content: Content, hashes: Hashes) -> DigestSet | None:
        """What the hash proves: these are the blocks of the released file (they are returned), or they are not."""
        assert content.file_hash is not None
        if hashes.digests is None:
            return self._digests.proven(content.file_hash) if hashes.whole == content.file_hash else None
        found = DigestSet(content.file_hash, content.size_bytes, hashes.digests)
        if hashes.whole != content.file_hash:
            self._digests.disprove(found)
            return None
        self._digests.keep_proven(found)
        return found

    async def _forget(self, content_id: str) -> None:
        """Drop the bytes of a content that is bad from all memory, the kernel's included."""
        self._source.forget(content_id)
        await trio.to_thread.run_sync(self._cache.forget_deleted)
        await trio.to_thread.run_sync(self._on_mismatch, content_id)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
