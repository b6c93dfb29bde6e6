"""What `vbnfs prefetch --record` does: the blocks that a record's ranges touch are found, and fetched.

A file that is complete then is checked by its hash. Of a part of a file each block is checked as it comes, where its
digest is known.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.filling import Progress, held_while_fetched
from vbnfs.access.versions import Versions
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cli.asked import Place
from vbnfs.cli.progress import Bar
from vbnfs.cli.render import files as files_text
from vbnfs.cli.render import size
from vbnfs.cli.room import FETCHING, Need, Room
from vbnfs.cli.running import load_aloud
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.verify import GOOD, NO_HASH, Finding, Outcome, Work, run_showing
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.read_records import MOST_LINE_BYTES, ReadFile, ReadRecord, parse_record
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import CacheError, RecordError, StorageError, with_remedy
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource

PART: Final = "part"  # of a file, which is on the disk
FAILED: Final = "failed"
UNKNOWN: Final = "not here"  # not of the dataset that the settings name
_GET_BLOCKS: Final = 32  # that are asked for together
_AT_ONCE: Final = 8  # of such


@dataclass(frozen=True, slots=True)
class Part:
    """The blocks of one file that a record names."""

    path: str
    named: NamedContent
    content: Content
    blocks: Sequence[int]

    @property
    def count_bytes(self) -> int:
        """How many bytes these blocks have."""
        return sum(_bytes_of(self.content, block) for block in self.blocks)

    def missing(self, dataset: Dataset) -> list[int]:
        """The blocks that the cache lacks."""
        return dataset.cache.missing(self.content, self.blocks)


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What a fetch by a record would do. `unknown` are files that this dataset does not have."""

    files: int
    size_bytes: int
    missing_bytes: int
    room_bytes: int
    free_bytes: int
    unknown: tuple[str, ...]
    of_other_datasets: int
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The plan with its fields' names."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> list[str]:
        """The plan in words."""
        what = f"{files_text(self.files)} were read, {size(self.size_bytes)} in blocks of 256 KiB"
        return [
            f"{what}; {size(self.missing_bytes)} to fetch",
            f"room: {size(self.room_bytes)} in the cache, {size(self.free_bytes)} free on its disk",
        ]

    def left_out_line(self) -> str | None:
        """What is not fetched; None if nothing is left out."""
        if not self.of_other_datasets:
            return None
        return f"{files_text(self.of_other_datasets)} of other datasets are left out"


def read_record(path: Path) -> ReadRecord:
    """The record in a file. Raises `RecordError`."""
    try:
        with path.open("rb") as file:
            return parse_record(_lines(file.readline), str(path))
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be read: {error.strerror}") from error


def _lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """Lines, of which a longer one than a record has comes in parts, which are none."""
    while line := readline(MOST_LINE_BYTES + 1):
        yield line


def run(
    where: Place,
    record: ReadRecord,
    show: Callable[[Finding], None],
    bar: Bar,
    announce: Callable[[RecordPlan], None],
) -> Outcome:
    """Fetch what a record names. `announce` gets the plan before. Raises a `VbnfsError`."""
    return run_showing(partial(_fetch, where, record, bar=bar, announce=announce), show)


def run_trial(where: Place, record: ReadRecord) -> RecordPlan:
    """What `run` would do."""
    return run_to_the_end(partial(_try, where, record))


async def _try(where: Place, record: ReadRecord) -> RecordPlan:
    async with open_dataset(where.config) as dataset:
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        parts, unknown = await _parts(versions, record)
        return await _plan(where, dataset, record, parts, unknown)


async def _fetch(
    where: Place,
    record: ReadRecord,
    show: Callable[[Finding], None],
    *,
    bar: Bar,
    announce: Callable[[RecordPlan], None],
) -> Outcome:
    async with open_dataset(where.config) as dataset:
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        parts, unknown = await _parts(versions, record)
        await trio.to_thread.run_sync(dataset.verdicts.refresh)
        sizes = {part.content.content_id: part.count_bytes for part in parts}
        async with held_while_fetched(dataset, [part.content for part in parts], sizes):
            plan = await _plan(where, dataset, record, parts, unknown)
            if plan.problem is not None:
                raise CacheError(f"{plan.problem}; nothing was {FETCHING.brought}")
            announce(plan)
            progress = Progress(files=len(parts), count_bytes=plan.missing_bytes)
            async with dataset.fetching() as (source, _), trio.open_nursery() as showing:
                showing.start_soon(bar.run, progress)
                fetching = _Fetching(dataset, source, Work(where, dataset, source, trusts=True), progress)
                findings = await fetching.all(parts, show)
                showing.cancel_scope.cancel()
    for path in unknown:
        findings.append(Finding(path, UNKNOWN, None, "no version of this dataset has it"))
        show(findings[-1])
    return Outcome(tuple(findings))


class _Fetching:
    """Parts of files on their way to the disk."""

    def __init__(self, dataset: Dataset, source: BlockSource, work: Work, progress: Progress) -> None:
        self._dataset, self._source, self._work, self._progress = dataset, source, work, progress
        self._room = trio.Semaphore(_AT_ONCE)

    async def all(self, parts: Sequence[Part], show: Callable[[Finding], None]) -> list[Finding]:
        """What became of each, in their order."""
        findings = list[Finding]()
        for inode, part in enumerate(parts):
            found = await self._one(part)
            if found.outcome == PART and await trio.to_thread.run_sync(self._dataset.cache.complete, part.content):
                node = DataNode(inode, part.named, (), 1)
                checked = await self._work.check_files([(part.path, node)], show=lambda finding: None)
                found = checked[inode]
            findings.append(found)
            show(found)
            self._progress.done_files += 1
        return findings

    async def _one(self, part: Part) -> Finding:
        missing = iter(await trio.to_thread.run_sync(part.missing, self._dataset))
        failures = list[StorageError]()
        async with trio.open_nursery() as nursery:
            while stretch := list(islice(missing, _GET_BLOCKS)):
                await self._room.acquire()
                nursery.start_soon(self._bring, part.content, stretch, failures)
        await self._source.writer.written(part.content)
        if failures:
            return Finding(part.path, FAILED, part.content.size_bytes, with_remedy(failures[0]))
        if left := await trio.to_thread.run_sync(part.missing, self._dataset):
            return Finding(part.path, FAILED, part.content.size_bytes, f"{len(left):,} blocks are not on the disk")
        return Finding(part.path, PART, part.content.size_bytes)

    async def _bring(self, content: Content, stretch: Sequence[int], failures: list[StorageError]) -> None:
        try:
            if not failures:
                await self._source.fetch(content, stretch, on_came=self._progress.add)
        except StorageError as error:
            failures.append(error)
        finally:
            self._room.release()


async def _parts(versions: Versions, record: ReadRecord) -> tuple[list[Part], list[str]]:
    """The blocks that the record of this dataset names, by file; and the paths of files that no version has."""
    config = versions.dataset.config
    wanted, unknown = dict[str, tuple[ReadFile, NamedContent, set[int]]](), list[str]()
    by_hash = {one.file_hash: one for one in versions.named.by_entry.values() if one.file_hash is not None}
    for file in record.of(config.bucket, config.project).files:
        if not file.ranges:  # opened, and not read
            continue
        named = versions.named.by_entry.get((file.version, file.file_hash)) or by_hash.get(file.file_hash or "")
        if named is None:
            unknown.append(file.path)
            continue
        _, _, blocks = wanted.setdefault(named.content_id, (file, named, set()))
        for pair in file.ranges:
            blocks.update(blocks_of(ByteRange(*pair)))
    await versions.dataset.catalog.sizes.fetch_all([named for _, named, _ in wanted.values()])
    parts = list[Part]()
    for file, named, blocks in wanted.values():
        attributes = versions.dataset.catalog.sizes.get(named)
        if attributes is None or attributes.size_bytes != file.size_bytes:
            unknown.append(file.path)
        else:
            parts.append(Part(file.path, named, named.with_attributes(attributes), sorted(blocks)))
    return parts, unknown


async def _plan(
    where: Place, dataset: Dataset, record: ReadRecord, parts: Sequence[Part], unknown: Sequence[str]
) -> RecordPlan:
    def missing_bytes() -> int:
        return sum(_bytes_of(part.content, block) for part in parts for block in part.missing(dataset))

    need = Need(sum(part.count_bytes for part in parts), await trio.to_thread.run_sync(missing_bytes))
    room = await trio.to_thread.run_sync(Room.of, where, {part.content.content_id for part in parts})
    config = where.config
    return RecordPlan(
        files=len(parts),
        size_bytes=need.whole_bytes,
        missing_bytes=need.missing_bytes,
        room_bytes=room.left_bytes,
        free_bytes=room.free_bytes,
        unknown=tuple(unknown),
        of_other_datasets=len(record.files) - len(record.of(config.bucket, config.project).files),
        problem=room.why_not(need, FETCHING),
    )


def _bytes_of(content: Content, block: int) -> int:
    return min(content.size_bytes, (block + 1) * BLOCK_BYTES) - block * BLOCK_BYTES


def check(outcome: Outcome) -> None:
    """Raise `RecordError` unless all that was read is on the disk."""
    bad = [one for one in outcome.findings if one.outcome not in {GOOD, PART, NO_HASH}]
    if bad:
        raise RecordError(
            f"{len(bad)} of {files_text(len(outcome.findings))} that were read are not here as they were"
        )


def summary(outcome: Outcome) -> str:
    """A line: how many files are here whole, and how many in part."""
    counts = {name: sum(one.outcome == name for one in outcome.findings) for name in (GOOD, PART)}
    left = len(outcome.findings) - sum(counts.values())
    rest = f", {left} others" if left else ""
    return f"{files_text(counts[GOOD])} complete and good, {counts[PART]} in part, as they were read{rest}"
