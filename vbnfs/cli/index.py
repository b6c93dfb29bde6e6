"""What `vbnfs index` does: files walked for their structure, and what is known of it (docs/structure-index.md).

`build` works on the cache directory, as `verify` does: whether something is mounted makes no difference. A mount uses
what it finds at once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.published_index import PublishedIndexes
from vbnfs.access.tree_files import Place, asked_files
from vbnfs.access.versions import Versions
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.structure_index import RECORDED, KnownStructure, StructureIndex
from vbnfs.cache.structure_sets import KIND, MOST_BLOCKS, StructureSet, read_set, walked_set
from vbnfs.cli.render import files, size
from vbnfs.cli.running import load_aloud, run
from vbnfs.cli.sets import Ware
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import DatasetError, IndexFileError, StorageError, with_remedy
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Structure
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.content_walk import Walked, walk_content

INDEX: Final[Ware[StructureSet]] = Ware(
    name=KIND.name,
    command="vbnfs index",
    made_by="vbnfs index build",
    contradicted="they are about files of other sizes",
    error=IndexFileError,
    store_of=StructureIndex,
    read_set=read_set,
)

INDEXED: Final = "indexed"
KNOWN: Final = "known"  # it was walked before
PART: Final = "in part"  # not all of the structure could be walked
NO_HDF5: Final = "no HDF5"
NO_HASH: Final = "no hash"
FAILED: Final = "failed"

_AT_ONCE: Final = 8  # files: each waits for its waves one after the other
_BOUNDS: Final = Bounds(fetched_bytes=(MOST_BLOCKS + 1) * BLOCK_BYTES, index_bytes=BLOCK_BYTES, seconds=120.0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file. `blocks` have its structure, together `structure_bytes`; `detail` is a reason."""

    path: str
    outcome: str
    size_bytes: int | None = None
    blocks: int | None = None
    structure_bytes: int | None = None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding with its fields' names."""
        return asdict(self)


Show = Callable[[Finding], None]


def build(where: Place, *, show: Show) -> tuple[Finding, ...]:
    """Walk the files at `where`, all of the dataset without paths, and record their structure.

    `show` is called with each finding as it is made. Raises `DatasetError` for paths without files, a `StorageError`
    if it cannot be found out what there is.
    """
    return run(partial(_build, where, show))


async def _build(where: Place, show: Show) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    async with open_dataset(where.config) as dataset:
        nodes = _data_nodes(where, await load_aloud(dataset, max_age_seconds=where.max_age_seconds))
        await dataset.catalog.sizes.fetch_all(node.content for node in nodes.values())
        async with dataset.fetching() as (source, _):
            work, turns = Walker(dataset, source), trio.CapacityLimiter(_AT_ONCE)

            async def walk(path: str, node: DataNode) -> None:
                async with turns:
                    found = await work.finding(path, node)
                findings.append(found)
                show(found)

            async with trio.open_nursery() as nursery:
                for path, node in nodes.items():
                    nursery.start_soon(walk, path, node)
    return tuple(findings)


def _data_nodes(where: Place, versions: Versions) -> dict[str, DataNode]:
    """The different files of the dataset at paths of the tree, by a name of each. Raises a `VbnfsError`."""
    asked = asked_files(versions, where.paths)
    found = {
        node.inode: (name, node) for nodes in asked.values() for name, node in nodes if isinstance(node, DataNode)
    }
    if not found:
        raise DatasetError(f"{' '.join(where.paths)}: no file of a dataset is there, so there are no {KIND.name}")
    return dict(found.values())


class Walker:
    """Walks files, and records what it finds of their structure."""

    def __init__(self, dataset: Dataset, source: BlockSource) -> None:
        self._dataset = dataset
        self._source = source

    async def finding(self, path: str, node: DataNode) -> Finding:
        """What became of a file of a tree."""
        try:
            content = node.content.with_attributes(await self._dataset.catalog.sizes.fetch(node.content))
        except StorageError as error:
            return Finding(path, FAILED, detail=with_remedy(error))
        return await self.of_content(path, content)

    async def of_content(self, path: str, content: Content) -> Finding:
        """What became of a content, which is the file at `path`."""
        if content.file_hash is None:
            return Finding(path, NO_HASH, content.size_bytes, detail="the manifest has no hash of it")
        known = await trio.to_thread.run_sync(self._dataset.index.of, content)
        if known is not None and known.is_proven:
            return _found(path, KNOWN, known.found)
        walked = await walk_content(self._dataset.cache, self._source, content, bounds=_BOUNDS, wanted=Wanted())
        if walked.failure is not None:
            return Finding(path, FAILED, content.size_bytes, detail=with_remedy(walked.failure))
        return await trio.to_thread.run_sync(self._record, path, content, walked)

    def _record(self, path: str, content: Content, walked: Walked) -> Finding:
        structure = walked.structure
        is_hdf5 = structure.root is not None
        waves, beside, is_whole = (walked.waves, walked.beside, walked.has_all) if is_hdf5 else ((), (), True)
        found = walked_set(content.file_hash or "", content.size_bytes, waves, beside, is_whole=is_whole)
        if found is None:
            return Finding(path, PART, content.size_bytes, detail=_reasons(structure))
        if (reason := self._dataset.index.record(found)) is not None:
            detail = f"the index in the cache cannot be written: {reason}"
            return Finding(path, FAILED, content.size_bytes, detail=detail)
        if not is_hdf5:
            return _found(path, NO_HDF5, found)
        if found.is_whole:
            return _found(path, INDEXED, found)
        return _found(path, PART, found, detail=_reasons(structure))


def _found(path: str, outcome: str, found: StructureSet, *, detail: str = "") -> Finding:
    if not found.blocks:
        outcome = NO_HDF5
    return Finding(path, outcome, found.size_bytes, len(found.blocks), found.count_bytes, detail)


def _reasons(structure: Structure) -> str:
    return ", ".join(f"{count:,} x {reason}" for reason, count in structure.unparsed.items())


def summary(findings: Sequence[Finding]) -> str:
    """A line: how many files were walked, and what their structure takes."""
    counts = Counter(finding.outcome for finding in findings)
    structure_bytes = sum(finding.structure_bytes or 0 for finding in findings)
    done = counts[INDEXED] + counts[KNOWN]
    rest = "".join(f", {count:,} {name}" for name, count in counts.items() if name not in {INDEXED, KNOWN})
    return f"{done:,} of {files(len(findings))} indexed, whose structure is {size(structure_bytes)}{rest}"


def check(findings: Sequence[Finding]) -> None:
    """Raise `IndexFileError` if files could not be walked at all."""
    failed = [finding for finding in findings if finding.outcome == FAILED]
    if failed:
        raise IndexFileError(
            f"{len(failed)} of {files(len(findings))} not indexed, such as {failed[0].path}: {failed[0].detail}"
        )


# What is known


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of the structure of a file. `origin`: who says so; `cached_bytes` of its blocks are here."""

    path: str
    size_bytes: int
    blocks: tuple[int, ...]
    structure_bytes: int
    cached_bytes: int
    is_whole: bool
    origin: str

    def as_json(self) -> dict[str, Any]:
        """The row with its fields' names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the files that were asked for: of `files` of them nothing is if they have no row.

    `notes` say what has to be known of that.
    """

    rows: tuple[Row, ...]
    files: int
    notes: Sequence[str]

    def summary(self) -> str:
        """A line: of how many files something is known, and from where."""
        counts = Counter(row.origin for row in self.rows)
        origins = ", ".join(f"{count:,} {origin}" for origin, count in sorted(counts.items()))
        return f"{len(self.rows):,} of {files(self.files)} in the index{f': {origins}' if origins else ''}"


def known(where: Place) -> Known:
    """What is known of the files at `where`, of all in the dataset without paths. Raises a `VbnfsError`."""
    return run(partial(_known, where))


async def _known(where: Place) -> Known:
    async with open_dataset(where.config) as dataset:
        versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
        nodes = _data_nodes(where, versions)
        others = PublishedIndexes(where.config, dataset.link, dataset.catalog, dataset.index)
        await trio.to_thread.run_sync(others.restore)
        await others.refresh()
        contents = {
            path: node.content.with_attributes(attributes)
            for path, node in nodes.items()
            if (attributes := dataset.catalog.sizes.get(node.content)) is not None
        }
        rows = await trio.to_thread.run_sync(_rows, dataset, contents)
    return Known(rows, len(nodes), [*versions.problems, *others.problems])


def _rows(dataset: Dataset, contents: Mapping[str, Content]) -> tuple[Row, ...]:
    found = ((path, content, dataset.index.of(content)) for path, content in contents.items())
    return tuple(_row(dataset, path, content, one) for path, content, one in found if one is not None)


def _row(dataset: Dataset, path: str, content: Content, known: KnownStructure) -> Row:
    one = known.found
    missing = set(dataset.cache.missing(content, one.blocks))
    cached = StructureSet(one.file_hash, one.size_bytes, tuple(set(one.blocks) - missing)).count_bytes
    origin = "not walked to its end" if known.origin == RECORDED and not one.is_whole else known.origin
    return Row(path, one.size_bytes, one.blocks, one.count_bytes, cached, one.is_whole, origin)
