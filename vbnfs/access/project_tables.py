"""The project's tables of one dataset version, through the cache: read, checked against their hashes, parsed once.

async with project_tables(versions, manifest, note=print) as tables:
    units = await tables.load("units")
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Final

import pandas as pd
import trio

from vbnfs.access.kept_tables import KeptTables
from vbnfs.access.versions import Versions
from vbnfs.access.whole_files import Progress, ReadWhole, WholeFiles, whole_files
from vbnfs.dataset.manifest import DataFile, Manifest, files_by_id, tables_of
from vbnfs.errors import OfflineError, TablesError
from vbnfs.suggestions import near
from vbnfs.tables.names import KNOWN
from vbnfs.tables.reading import has_parquet, read_csv, read_header

_LARGE_BYTES: Final = 1 << 20  # from here on a table is kept parsed
_WORTH_A_BAR_BYTES: Final = 8 << 20
_HEADER_BYTES: Final = 64 << 10

Note = Callable[[str], None]


@asynccontextmanager
async def project_tables(
    versions: Versions,
    manifest: Manifest,
    *,
    note: Note,
    progress: Progress = lambda file, done_bytes, size_bytes: None,
) -> AsyncIterator["ProjectTables"]:
    """The tables of a version, while entered.

    `note` gets what a user should know, `progress` how far large tables are read.
    """

    def report(file: DataFile, done_bytes: int, size_bytes: int) -> None:
        if size_bytes >= _WORTH_A_BAR_BYTES:
            progress(file, done_bytes, size_bytes)

    async with whole_files(versions, progress=report) as files:
        yield ProjectTables(versions, manifest, files, note)


class TableReader:
    """Reads tables: parsed ones that are kept, else by `read`, which gives a file's bytes. Large ones are kept then.

    `note` gets what a user should know.
    """

    def __init__(self, versions: Versions, read: ReadWhole, note: Note) -> None:
        self._versions = versions
        self._read = read
        self._note = note
        self._kept = KeptTables(versions.dataset.catalog.folder)
        self._is_noted = False

    async def __call__(self, file: DataFile, name: str | None = None) -> pd.DataFrame:
        """A table. Raises a `StorageError`, or `DatasetError` for what is no table, which begins with `name`."""
        if (kept := await self.kept(file)) is not None:
            return kept
        data = await self._read(file)
        table = await trio.to_thread.run_sync(partial(read_csv, data, name=name or "/".join(file.path)))
        if len(data) >= _LARGE_BYTES:
            del data
            await self._keep(file, table)
        return table

    async def kept(self, file: DataFile) -> pd.DataFrame | None:
        """A table that is kept parsed; None if it is not."""
        if file.file_hash is None:
            return None
        return await trio.to_thread.run_sync(self._kept.read, file.file_hash)

    async def _keep(self, file: DataFile, table: pd.DataFrame) -> None:
        if not has_parquet():
            if not self._is_noted:
                self._note("large tables are parsed each time; pip install 'vbnfs[tables]' lets them be kept parsed")
            self._is_noted = True
        elif file.file_hash is not None:
            manifests = self._versions.release.manifests
            wanted = {one.file_hash for manifest in manifests for one in manifest.files if one.file_hash is not None}
            await trio.to_thread.run_sync(partial(self._kept.write, file.file_hash, table, wanted=wanted))


class ProjectTables:
    """The tables of `manifest`. Methods raise a `StorageError`, or `DatasetError` for what is no table."""

    def __init__(self, versions: Versions, manifest: Manifest, files: WholeFiles, note: Note) -> None:
        self.versions: Final = versions
        self.manifest: Final = manifest
        self.files: Final = tables_of(manifest)  # by the table's name
        self._read = files
        self._table = TableReader(versions, files, note)
        self._loaded: dict[str, pd.DataFrame] = {}
        self._headers: dict[str, list[str]] = {}

    @cached_property
    def data_files(self) -> Mapping[str, DataFile]:
        """The version's data files by the id that tables have of them (`file_id`)."""
        return files_by_id(self.manifest)

    def name_of(self, asked: str) -> str:
        """The name of a table, also as commands have it. Raises `TablesError`."""
        for name in (asked, *KNOWN.get(asked, ())):
            if name in self.files:
                return name
        nearest = near(asked, self.files)
        hint = f"near it: {', '.join(nearest)}" if nearest else "'vbnfs tables' lists those that there are"
        raise TablesError(f"dataset version {self.manifest.dataset_version} has no table {asked}; {hint}")

    async def columns(self, name: str) -> list[str]:
        """The names of a table's columns. Its beginning is fetched, if need be."""
        if name in self._loaded:
            return list(self._loaded[name].columns)
        if name not in self._headers:
            self._headers[name] = await self._header(name)
        return self._headers[name]

    async def _header(self, name: str) -> list[str]:
        file = self.files[name]
        try:
            return read_header(await self._read.start(file, _HEADER_BYTES), name="/".join(file.path))
        except OfflineError:  # of a table that is kept parsed, the file may be gone
            if (kept := await self._table.kept(file)) is None:
                raise
            self._loaded[name] = kept
            return list(kept.columns)

    async def load(self, name: str) -> pd.DataFrame:
        """A table, the same one each time: it is not to be changed."""
        if name not in self._loaded:
            self._loaded[name] = await self._table(self.files[name])
        return self._loaded[name]
