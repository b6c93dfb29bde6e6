"""Verifying files, folders or versions against the manifests' hashes: what `vbnfs verify` and Python's `verify` do.

It works on the cache directory, which mounts share. Whether something is mounted makes no difference. Mounts learn of
the verdicts within a few seconds.

Before anything is fetched, the room for it is checked. Files are fetched ahead of those that are hashed (or by a
mount: access/filling.py). At the end the disk is read once more: a file that was good when it was hashed is called
good only if those very blocks are still there.

`prefetch` and `pin` do the same (fetching.py), but for what they choose: they take files whose bytes were judged
before, and those that no manifest has a hash of, as they are. Of some they want a portion: where that leaves a file
incomplete, each block is checked as it comes, where its digest is known.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.filling import Progress, Wait, filling, held_while_fetched
from vbnfs.access.opening import make_cache
from vbnfs.access.room import VERIFYING, Need, check_room, limit_of, need_of
from vbnfs.access.tree_files import NO_HASH_TEXT, Asked, Place, why_unverifiable
from vbnfs.amounts import size
from vbnfs.blocks import Portion
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.cache_disk import why_no_block, why_no_room
from vbnfs.cache.reserve import Reserve, space_of
from vbnfs.cache.verdict import Verdict, fingerprint_of, is_good, mismatch_text
from vbnfs.cache.whole_file import Seal
from vbnfs.dataset.tree import DataNode, Node
from vbnfs.errors import CacheError, ChangedError, NotVerifiedError, StorageError, with_remedy
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.verification import Verifier

GOOD: Final = "good"  # and on the disk
PART: Final = "in part"  # all that is wanted of it is on the disk; the rest of it is not
NOT_KEPT: Final = "not kept"  # it was good, or all of it came, but not all of its blocks are on the disk
MISMATCH: Final = "mismatch"
INCOMPLETE: Final = "not complete"
FAILED: Final = "failed"
NO_HASH: Final = "no hash"  # of a file of the dataset
NO_FILE: Final = "no file"  # of the dataset
ABSENT: Final = "absent"  # a file of which it is known that it was in the dataset; no version has it

_FAILURES: Final = frozenset({FAILED, NOT_KEPT, MISMATCH, INCOMPLETE})
CANNOT_BE: Final = frozenset({NO_HASH, NO_FILE})  # verified, by anybody


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file. `outcome` is one of the words above, `detail` the reason where there is one."""

    path: str
    outcome: str
    size_bytes: int | None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding with its fields' names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found out. `barren` are the paths that were asked for and have nothing that can be verified."""

    findings: tuple[Finding, ...]
    barren: tuple[str, ...] = ()


Show = Callable[[Finding], None]
ShowProgress = Callable[[Progress], Awaitable[None]]  # until it is cancelled
Watch = Callable[[Progress], object]  # gets it once, and sees it change
Files = Sequence[tuple[str, Node]]  # by name, each once


async def verify(
    work: "Work",
    asked: Asked,
    *,
    is_asked: bool,
    fetch: bool,
    show: Show,
    bar: ShowProgress,
    watch: Watch = lambda progress: None,
) -> Outcome:
    """Verify files of the dataset, as they are asked for by paths; without `is_asked`, all that is complete.

    `show` is called with each finding as it is made, and again where the end makes another of it. `bar` has how much
    was fetched, and `watch` how much was hashed where nothing is fetched. Raises a `StorageError` if it cannot be
    found out what there is, `CacheError` where what is to be fetched has no room.
    """
    shown = show if is_asked else _unless_lacking(show)
    every = (file for found in asked.values() for file in found)
    files = list({node.inode: (path, node) for path, node in every}.values())
    if fetch:
        found = await work.fetch_all(files, show=shown, show_again=show, bar=bar)
    else:
        found = await work.check_files(files, show=shown, watch=watch)
        await trio.to_thread.run_sync(work.check_again, found, show)
    return _outcome(asked, found, is_asked=is_asked)


def check(outcome: Outcome, *, with_reason: bool = False) -> None:
    """Raise `NotVerifiedError` unless all that was asked for is good, but for what no manifest has a hash of.

    `with_reason`: its message has what became of the first such file, which was shown to no person.
    """
    bad = [finding for finding in outcome.findings if finding.outcome not in {GOOD, PART, *CANNOT_BE}]
    problems = [f"{len(bad)} of {len(outcome.findings)} files not verified and kept"] if bad else []
    problems += [f"nothing in {path} can be verified" for path in outcome.barren]
    if bad and with_reason:
        problems.append(f"{bad[0].path}: {bad[0].detail or bad[0].outcome}")
    if problems:
        raise NotVerifiedError("; ".join(problems))


def _unless_lacking(show: Show) -> Show:
    """Where no path was named, files that are not cached are not reported."""
    return lambda finding: None if finding.outcome in {INCOMPLETE, NO_HASH} else show(finding)


def _outcome(asked: Asked, found: Mapping[int, Finding], *, is_asked: bool) -> Outcome:
    if not is_asked:
        return Outcome(tuple(one for one in found.values() if one.outcome not in {INCOMPLETE, NO_HASH}))
    outcomes = {path: {found[node.inode].outcome for _, node in files} for path, files in asked.items()}
    return Outcome(tuple(found.values()), tuple(path for path, seen in outcomes.items() if seen <= CANNOT_BE))


@asynccontextmanager
async def working(where: Place, dataset: Dataset, *, trusts: bool = False) -> AsyncIterator["Work"]:
    """What a mount has between its files and S3; what was fetched is on the disk when this is left."""
    await trio.to_thread.run_sync(dataset.verdicts.refresh)
    async with dataset.fetching() as (source, _):
        yield Work(where, dataset, source, trusts=trusts)


class Work:
    """Verifies one file after the other.

    `trusts`: a file that was judged before, and has the same blocks as then, is not hashed again; one of which no
    manifest has a hash is fetched, too. `on_mismatch` and `on_hashed`: see `Verifier`.
    """

    def __init__(
        self,
        where: Place,
        dataset: Dataset,
        source: BlockSource,
        *,
        trusts: bool,
        on_mismatch: Callable[[str], None] = lambda content_id: None,
        on_hashed: Callable[[Content, Seal], None] = lambda content, seal: None,
    ) -> None:
        self._where, self._dataset, self._trusts = where, dataset, trusts
        self._catalog, self._cache, self._verdicts = dataset.catalog, dataset.cache, dataset.verdicts
        self._source, self._digests = source, dataset.digests
        parts = (self._cache, source, self._verdicts, self._digests)
        self._verifier = Verifier(
            *parts,
            metrics=dataset.metrics,
            mirrors=dataset.mirrors,
            on_mismatch=on_mismatch,
            on_hashed=on_hashed,
            without_pauses=True,
            on_hashed_bytes=self._note_hashed,
        )
        self._hashing = Progress()
        self._parts: Mapping[str, Portion] = {}  # of files that are not wanted as a whole, by content id
        self._good: dict[int, tuple[Content, Verdict]] = {}  # by inode: what was good when it was hashed

    async def contents_of(self, files: Files) -> list[Content]:
        """The contents of files, in this order; without those of which no size can be had."""
        named = [node.content for _, node in files if isinstance(node, DataNode)]
        await self._catalog.sizes.fetch_all(named)
        known = [(content, self._catalog.sizes.get(content)) for content in named]
        return [content.with_attributes(attributes) for content, attributes in known if attributes is not None]

    async def fetch_all(self, files: Files, *, show: Show, show_again: Show, bar: ShowProgress) -> dict[int, Finding]:
        """A finding for each different file, by inode, all of which are fetched, if there is room for them."""
        contents = await self.contents_of([(path, node) for path, node in files if why_unverifiable(node) is None])
        need = await trio.to_thread.run_sync(need_of, self._cache, contents)
        portions = list(map(Portion.whole, contents))
        async with held_while_fetched(self._dataset, portions):
            wanted = {one.content_id for one in contents}
            await trio.to_thread.run_sync(check_room, self._where, need, VERIFYING, wanted)
            found = await self.fetch_and_check(files, portions, need, show=show, bar=bar)
            await trio.to_thread.run_sync(self.check_again, found, show_again)
            return found

    async def check_files(self, files: Files, *, show: Show, watch: Watch) -> dict[int, Finding]:
        """A finding for each different file, by inode. Nothing is fetched; `watch` gets how much was hashed."""
        found: dict[int, Finding] = {}
        progress = Progress(files=len(files), count_bytes=await trio.to_thread.run_sync(self._to_hash_bytes, files))
        self._hashing = progress
        watch(progress)
        for path, node in files:
            found[node.inode] = await self._finding(path, node)
            progress.done_files += 1
            show(found[node.inode])
        return found

    def _note_hashed(self, count_bytes: int) -> None:
        self._hashing.add(count_bytes)

    def _to_hash_bytes(self, files: Files) -> int:
        """How many bytes files have that are all here, as far as their sizes are known."""
        named = [node.content for _, node in files if isinstance(node, DataNode) and why_unverifiable(node) is None]
        known = [(one, self._catalog.sizes.get(one)) for one in named]
        contents = [one.with_attributes(attributes) for one, attributes in known if attributes is not None]
        lacking = {one.content for one in self._lacking(list(map(Portion.whole, contents)))}
        return sum(one.size_bytes for one in contents if one not in lacking)

    def _lacking(self, portions: Sequence[Portion]) -> list[Portion]:
        """Those of whose contents something is missing."""
        cache = self._cache
        pairs = ((portion, portion.content) for portion in portions)
        return [one for one, of in pairs if not cache.is_whole(of) and cache.cached_bytes(of) < of.size_bytes]

    async def fetch_and_check(
        self, files: Files, portions: Sequence[Portion], need: Need, *, show: Show, bar: ShowProgress
    ) -> dict[int, Finding]:
        """The same, of files of which these portions are fetched meanwhile."""
        found, progress = dict[int, Finding](), Progress(files=len(files), count_bytes=need.missing_bytes)
        self._parts = {one.content.content_id: one for one in portions if not one.is_whole}
        lacking = await trio.to_thread.run_sync(self._lacking, portions)
        async with trio.open_nursery() as showing:
            showing.start_soon(bar, progress)
            async with filling(self._dataset, self._source, lacking, progress) as wait:
                for path, node in files:
                    found[node.inode] = await self._finding(path, node, wait=wait)
                    progress.done_files += 1
                    if found[node.inode].outcome in _FAILURES:
                        progress.note_failure(found[node.inode].detail)
                    show(found[node.inode])
            showing.cancel_scope.cancel()
        return found

    def check_again(self, found: dict[int, Finding], show: Show) -> None:
        """Correct the findings of good files that the disk has lost since."""
        cache = make_cache(self._where.config, Metrics(), self._digests)  # sees what the names lead to now
        for inode, (content, verdict) in self._good.items():
            before = found[inode]
            if before.outcome == GOOD and not _is_kept(cache, content, verdict):
                found[inode] = Finding(before.path, NOT_KEPT, before.size_bytes, self._why_not_kept())
                show(found[inode])

    async def _finding(self, path: str, node: Node, *, wait: Wait | None = None) -> Finding:
        """`wait`: it is fetched, and this waits until it has come."""
        reason = why_unverifiable(node)
        if not isinstance(node, DataNode):
            is_manifest = bool(getattr(node, "source", None))
            return Finding(path, NO_HASH if is_manifest else NO_FILE, None, reason or "")
        try:
            content = node.content.with_attributes(await self._catalog.sizes.fetch(node.content))
        except StorageError as error:
            return Finding(path, FAILED, None, with_remedy(error))
        if reason is not None and not (self._trusts and wait is not None):
            return Finding(path, NO_HASH, content.size_bytes, reason)
        try:
            if wait is not None:
                await wait(content)
            return Finding(path, *await self._judge(node.inode, content, fetch=wait is not None))
        except StorageError as error:
            if isinstance(error, ChangedError) and await self._catalog.sizes.recheck(node.content):
                return await self._finding(path, node, wait=None if wait is None else _has_come)
            return Finding(path, FAILED, content.size_bytes, with_remedy(error))

    async def _judge(self, inode: int, content: Content, *, fetch: bool) -> tuple[str, int, str]:
        """Outcome, size and detail. Raises a `StorageError` where what is missing cannot be fetched."""
        part = self._parts.get(content.content_id)
        if part is not None and (taken := await self._take_part(part)) is not None:
            return taken
        if content.file_hash is None:
            return await self._take_unhashed(content)
        verdict = await trio.to_thread.run_sync(self._judged_before, content) if self._trusts else None
        if verdict is None:
            verdict = await self._verifier.verify(content, fetch=fetch)
        for _ in content.sources:  # what was cached may have been to blame, or one of the sources
            if fetch and verdict is not None and not is_good(content, verdict):
                verdict = await self._verifier.verify(content, fetch=True)
        if verdict is not None and is_good(content, verdict):
            self._good[inode] = content, verdict
            await self._source.writer.written(content)
            if await trio.to_thread.run_sync(_is_kept, self._cache, content, verdict):
                return GOOD, content.size_bytes, ""
            return NOT_KEPT, content.size_bytes, self._why_not_kept()
        bad = self._verdicts.bad(content)
        if bad is not None:
            return MISMATCH, content.size_bytes, mismatch_text(content, bad)
        return INCOMPLETE, content.size_bytes, "--fetch fetches what is missing"

    def _judged_before(self, content: Content) -> Verdict | None:
        """The verdict in favour of a whole file, if it is about the blocks that are there."""
        verdict = self._verdicts.good(content) if self._cache.is_whole(content) else None
        return verdict if verdict is not None and _is_kept(self._cache, content, verdict) else None

    async def _take_part(self, part: Portion) -> tuple[str, int, str] | None:
        """Of a portion: whether it is there; None where all of the file is. Raises a `StorageError`."""
        content = part.content
        missing = await trio.to_thread.run_sync(self._cache.missing, content, part.blocks)
        if missing:  # which could not be had; or it was not fetched ahead
            await self._source.get(content, missing, is_reader=False)
        await self._source.writer.written(content)
        if await trio.to_thread.run_sync(self._cache.missing, content, part.blocks):
            return NOT_KEPT, content.size_bytes, self._why_not_kept("it came")
        is_complete = await trio.to_thread.run_sync(self._cache.complete, content)
        return None if is_complete else (PART, content.size_bytes, "")

    async def _take_unhashed(self, content: Content) -> tuple[str, int, str]:
        """Of a file without a hash: whether all of it is there. Raises a `StorageError` where that cannot be had."""
        await self._verifier.fetch(content)
        await self._source.writer.written(content)
        if await trio.to_thread.run_sync(self._cache.complete, content):
            return NO_HASH, content.size_bytes, NO_HASH_TEXT
        return NOT_KEPT, content.size_bytes, self._why_not_kept("it came")

    def _why_not_kept(self, what: str = "its hash is right") -> str:
        failure, config = self._cache.failure, self._where.config
        with suppress(OSError, CacheError):
            directory = folder_at(config.cache_dir)
            space, reserve = space_of(directory), Reserve(directory, config.cache_reserve_bytes)
            reason = why_no_room(directory, reserve, space, failure or why_no_block(space))
            if reason is not None:
                return f"{what}, but {reason}"
        if failure is not None:
            return f"{what}, but the disk did not take it: {failure.strerror}"
        limit = size(limit_of(self._where.config))
        return f"{what}, but it has been evicted since: the cache may take {limit}"


async def _has_come(content: Content) -> None:
    """Of a content that is not fetched ahead: what is missing is fetched where it is needed."""


def _is_kept(cache: BlockCache, content: Content, verdict: Verdict) -> bool:
    """Whether the disk has the blocks that were judged. Reads their checksums."""
    return fingerprint_of(cache.records(content)) == verdict.fingerprint
