"""Which files of a dataset version another one changed, and what of that is cached: `vbnfs diff`, and Python's.

comparison of the manifests (dataset/compare.py)  +  sizes  +  what the cache has  +  the tables' contents
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from vbnfs.access.versions import Versions
from vbnfs.access.whole_files import ReadWhole
from vbnfs.amounts import size
from vbnfs.dataset.compare import Comparison, FileChange, Kind, allensdk_text, compare
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.errors import DatasetError, StorageError
from vbnfs.objects import Content

if TYPE_CHECKING:
    from vbnfs.access.project_tables import TableReader
    from vbnfs.tables.changes import TableChanges

_WORTH_A_WORD_BYTES: Final = 16 << 20

Contents = Mapping[str, Content | None]  # by content id; None: the size is not known
Note = Callable[[str], None]
OpenReader = Callable[[Versions], AbstractAsyncContextManager[ReadWhole]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two versions. `size_bytes` counts equal contents once; None where S3 gave no size."""

    version: str
    manifest: str
    files: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that is not the same in both. None stands for what is not there, and for a size that is not known.

    `fetch_bytes` is what of the new one is not cached.
    """

    change: str
    old_path: str | None
    new_path: str | None
    old_size_bytes: int | None
    new_size_bytes: int | None
    fetch_bytes: int | None


@dataclass(frozen=True, slots=True)
class Total:
    """All files to which the same happened. In `fetch_bytes` equal contents count once."""

    change: str
    files: int
    old_size_bytes: int | None
    new_size_bytes: int | None
    fetch_bytes: int | None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table that changed: how, or the problem because of which that is not known.

    `is_read` is False where its bytes could not be had.
    """

    path: str
    changes: "TableChanges | None"
    problem: str | None = None
    is_read: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer. `fetch_bytes` is what of all of the new version is not cached."""

    old: Side
    new: Side
    fetch_bytes: int | None
    totals: tuple[Total, ...]
    tables: tuple[TableRow, ...]
    files: tuple[FileRow, ...]

    def as_json(self, *, with_files: bool) -> dict[str, Any]:
        """The report with its fields' names."""
        document = asdict(self)
        return document if with_files else {name: part for name, part in document.items() if name != "files"}

    @property
    def unread(self) -> list[str]:
        """What to report of tables whose bytes could not be had."""
        return [f"{table.path}: {table.problem}" for table in self.tables if not table.is_read]


async def make_report(
    versions: Versions, old: str | None, new: str, *, read: OpenReader | None, note: Note
) -> Report:
    """Compare two versions, named as in `Release.choose`; None: the one before `new`.

    `read` opens what reads tables; None: they are not compared. `note` gets what a user who waits should know.
    Raises a `VbnfsError`; but not for a table's sake.
    """
    bucket = versions.dataset.config.bucket
    work = partial(compare, *two_manifests(versions, old, new), bucket=bucket)
    comparison = await trio.to_thread.run_sync(work)
    await versions.learn_sizes(file for change in comparison.changes for file in _files(change))
    tables = [] if read is None else await _tables(versions, _changed_tables(comparison), read, note)
    # After the tables were fetched, of which nothing is missing now.
    return await trio.to_thread.run_sync(_report, versions, comparison, tables)


async def table_changes(versions: Versions, old: str, new: str, *, read: OpenReader, note: Note) -> list[TableRow]:
    """What changed in the tables alone: see `make_report`."""
    work = partial(compare, *two_manifests(versions, old, new), bucket=versions.dataset.config.bucket)
    return await _tables(versions, _changed_tables(await trio.to_thread.run_sync(work)), read, note)


async def allensdk_report(versions: Versions, old: str | None, new: str) -> str:
    """AllenSDK's text. Raises a `DatasetError`."""
    return allensdk_text(*two_manifests(versions, old, new))


def two_manifests(versions: Versions, old: str | None, new: str) -> tuple[Manifest, Manifest]:
    """The manifests of two versions, named as in `make_report`. Raises a `DatasetError`."""
    newer = versions.manifest(new)
    if old is not None:
        return versions.manifest(old), newer
    older = [m for m in versions.release.manifests if m.dataset_version < newer.dataset_version]
    if not older:
        raise DatasetError(f"there is no older dataset version than {newer.dataset_version} to compare it with")
    return older[-1], newer


def _files(change: FileChange) -> list[DataFile]:
    return [file for file in (change.old, change.new) if file is not None]


def _report(versions: Versions, comparison: Comparison, tables: Sequence[TableRow]) -> Report:
    old, new = (versions.contents(manifest.files) for manifest in (comparison.old, comparison.new))
    missing = _missing(versions, new)
    of_kind: dict[Kind, list[_Measured]] = {kind: [] for kind in Kind}
    for change in comparison.files:
        of_kind[change.kind].append(_measured(versions, change, old, new))
    return Report(
        old=_side(comparison.old, old),
        new=_side(comparison.new, new),
        fetch_bytes=_sum(missing.values()),
        totals=tuple(_total(kind, measured, missing) for kind, measured in of_kind.items()),
        tables=tuple(tables),
        files=tuple(_row(one, missing) for kind in Kind if kind is not Kind.SAME for one in of_kind[kind]),
    )


def _missing(versions: Versions, contents: Contents) -> dict[str, int | None]:
    """By content id, how many bytes are not cached; None where the size is not known."""
    here = versions.dataset.cache.cached_bytes_of(content for content in contents.values() if content is not None)
    return {name: None if c is None else c.size_bytes - here[c.content_id] for name, c in contents.items()}


def _side(manifest: Manifest, contents: Contents) -> Side:
    sizes = (None if c is None else c.size_bytes for c in contents.values())
    return Side(str(manifest.dataset_version), manifest.file_name, len(manifest.files), _sum(sizes))


class _Measured(NamedTuple):
    """A file of both versions: its sizes, and the content id of the new one. None for what is not there, or known."""

    change: FileChange
    old_size_bytes: int | None
    new_size_bytes: int | None
    new_id: str | None


def _measured(versions: Versions, change: FileChange, old: Contents, new: Contents) -> _Measured:
    was, now = (None if file is None else versions.named.of(file).content_id for file in (change.old, change.new))
    return _Measured(change, _size(old, was), _size(new, now), now)


def _size(contents: Contents, content_id: str | None) -> int | None:
    content = None if content_id is None else contents[content_id]
    return None if content is None else content.size_bytes


def _total(kind: Kind, measured: Sequence[_Measured], missing: Mapping[str, int | None]) -> Total:
    return Total(
        change=kind,
        files=len(measured),
        old_size_bytes=_sum(one.old_size_bytes for one in measured if one.change.old is not None),
        new_size_bytes=_sum(one.new_size_bytes for one in measured if one.change.new is not None),
        fetch_bytes=_sum(missing[one] for one in {one.new_id for one in measured} if one is not None),
    )


def _row(one: _Measured, missing: Mapping[str, int | None]) -> FileRow:
    return FileRow(
        change=one.change.kind,
        old_path=_path(one.change.old),
        new_path=_path(one.change.new),
        old_size_bytes=one.old_size_bytes,
        new_size_bytes=one.new_size_bytes,
        fetch_bytes=None if one.new_id is None else missing[one.new_id],
    )


def _path(file: DataFile | None) -> str | None:
    return None if file is None else "/".join(file.path)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None if one of them is not known."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _changed_tables(comparison: Comparison) -> list[FileChange]:
    return [change for change in comparison.changes if change.is_table and change.kind is Kind.CHANGED]


async def _tables(
    versions: Versions, changed: Sequence[FileChange], open_reader: OpenReader, note: Note
) -> list[TableRow]:
    """What changed in the tables. Reads all of them: one after the other, they are large in memory."""
    from vbnfs.access.project_tables import TableReader  # noqa: PLC0415 - pandas only where it is needed

    if not changed:
        return []
    contents = versions.contents(file for change in changed for file in _files(change))
    to_fetch = _sum(_missing(versions, contents).values())
    if to_fetch is not None and to_fetch > _WORTH_A_WORD_BYTES and not versions.release.is_offline:
        note(f"fetching {size(to_fetch)} of tables to compare them; --no-tables leaves that out")
    async with open_reader(versions) as read:
        reader = TableReader(versions, read, note)
        return [await _table(change, reader) for change in changed]


async def _table(change: FileChange, read: "TableReader") -> TableRow:
    from vbnfs.tables.changes import NEW, OLD, compare_frames  # noqa: PLC0415 - the same

    path = "/".join(change.place)
    assert change.old is not None
    assert change.new is not None
    try:
        old, new = await read(change.old, OLD), await read(change.new, NEW)
        return TableRow(path, await trio.to_thread.run_sync(compare_frames, old, new))
    except StorageError as error:
        return TableRow(path, None, str(error), is_read=False)
    except DatasetError as error:
        return TableRow(path, None, str(error))
