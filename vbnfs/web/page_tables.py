"""The project's tables for views: read once, those of the last versions kept in memory, and what changed in them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import pandas as pd

from vbnfs.access.differences import Report, TableRow, make_report, table_changes, two_manifests
from vbnfs.access.finding import Finder, KnownFiles
from vbnfs.access.project_tables import ProjectTables
from vbnfs.access.versions import Versions
from vbnfs.access.whole_files import ReadWhole, WholeFiles
from vbnfs.api.connection import Connection, Parts
from vbnfs.dataset.manifest import DatasetVersion, Manifest
from vbnfs.web.readings import Readings

_MOST_VERSIONS: Final = 2  # of which tables are kept: those of one take up to some hundred MB

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Open:
    """The tables of a version, and the files of their rows."""

    tables: ProjectTables
    files: KnownFiles = field(default_factory=dict)


class PageTables:
    """Tables by way of a connection. Thread-safe: all of it happens in the thread of the connection's event loop."""

    def __init__(self, connection: Connection, readings: Readings) -> None:
        self._connection = connection
        self._readings = readings
        self._open: dict[DatasetVersion, _Open] = {}  # the last one used last
        self._read: WholeFiles | None = None

    def rows(self, manifest: Manifest, name: str, *, is_awaited: bool = False) -> tuple[str, pd.DataFrame]:
        """A table's own name, and its rows with what the cache has of their files beside: `row_files.BESIDE`.

        Raises `StillReadingError` while it is being read, unless that `is_awaited`.
        """
        tables = self._connection.run(self._tables_of, manifest)
        own_name = tables.name_of(name)
        file = tables.files[own_name]
        self._readings.result(
            (manifest.dataset_version, own_name),
            f"{file.path[-1]} of {manifest.dataset_version}",
            [(file, tables.versions.size_bytes(file))],
            partial(self._connection.run, self._rows, manifest, own_name),
            is_awaited=is_awaited,
        )
        found: pd.DataFrame = self._connection.run(self._rows, manifest, own_name)
        return own_name, found

    def asked(self, manifest: Manifest, work: Callable[[Finder], Awaitable[Result]]) -> Result:
        """What `work` finds in a version's tables."""
        found: Result = self._connection.run(self._asked, manifest, work)
        return found

    def changes(self, old: str | None, new: str | None, *, with_tables: bool) -> Report:
        """What changed between two versions; see `make_report`. Raises `StillReadingError` while tables are read."""
        versions = self._connection.value.versions
        older, newer = two_manifests(versions, old, new or str(versions.release.versions[-1]))
        names = str(older.dataset_version), str(newer.dataset_version)
        tables = self._changed_tables(versions, older, newer) if with_tables else ()
        return replace(self._connection.run(_report, *names), tables=tables)

    def _changed_tables(self, versions: Versions, older: Manifest, newer: Manifest) -> tuple[TableRow, ...]:
        names = str(older.dataset_version), str(newer.dataset_version)
        before = {file.path: file for file in older.files if file.is_table}
        pairs = [(before[file.path], file) for file in newer.files if file.is_table and file.path in before]
        files = [file for pair in pairs if pair[0] != pair[1] for file in pair]
        return self._readings.result(
            names,
            f"Tables of {names[0]} and {names[1]}",
            [(file, versions.size_bytes(file)) for file in files],
            partial(self._connection.run, self._changes, *names),
        )

    async def _asked(self, parts: Parts, manifest: Manifest, work: Callable[[Finder], Awaitable[Result]]) -> Result:
        one = self._opened(parts, manifest)
        return await work(Finder(one.tables, one.files))

    async def _rows(self, parts: Parts, manifest: Manifest, name: str) -> pd.DataFrame:
        one = self._opened(parts, manifest)
        return await Finder(one.tables, one.files).rows(name)

    async def _tables_of(self, parts: Parts, manifest: Manifest) -> ProjectTables:
        return self._opened(parts, manifest).tables

    def _opened(self, parts: Parts, manifest: Manifest) -> _Open:
        version = manifest.dataset_version
        one = self._open.pop(version, None)
        if one is None:
            one = _Open(ProjectTables(parts.versions, manifest, self._whole(parts), lambda note: None))
        self._open[version] = one
        for old in list(self._open)[:-_MOST_VERSIONS]:
            if not self._readings.is_awaited(old):  # else pages of many versions would have them read again and again
                del self._open[old]
                self._readings.forget(old)
        return one

    def _whole(self, parts: Parts) -> WholeFiles:
        if self._read is None:
            self._read = WholeFiles(parts.files.readers, progress=self._readings.note)
        return self._read

    async def _changes(self, parts: Parts, old: str, new: str) -> tuple[TableRow, ...]:
        @asynccontextmanager
        async def read(versions: Versions) -> AsyncIterator[ReadWhole]:
            yield self._whole(parts)

        rows = await table_changes(parts.versions, old, new, read=read, note=lambda note: None)
        return tuple(map(_without_ids, rows))


async def _report(parts: Parts, old: str, new: str) -> Report:
    return await make_report(parts.versions, old, new, read=None, note=lambda note: None)


def _without_ids(row: TableRow) -> TableRow:
    """A page shows how many rows changed, and not which: that may be all of 300,000."""
    if row.changes is None:
        return row
    return replace(row, changes=replace(row.changes, added_ids=(), removed_ids=(), changed_ids=()))
