"""The data files that belong to the rows of a table, and how much of them the cache has.

A row's own file is the one whose id it has (`file_id`). Files of rows that refer to it belong to it as well: those of
its probes to a session, for example.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import trio

from vbnfs.access.project_tables import ProjectTables
from vbnfs.access.versions import Versions
from vbnfs.cache.pins import PinnedIds
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import DatasetError
from vbnfs.objects import Content
from vbnfs.tables.columns import FILE_ID, key_of

BESIDE: Final = ("files", "size_bytes", "cached_bytes", "whole_bytes", "pinned_bytes")
_OF_SESSIONS: Final = "session_id"  # how the ids of tables end whose rows may have files of others alone


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The files of a row: its own, if it has one, and by table those of rows that refer to it."""

    own: DataFile | None
    others: Mapping[str, Sequence[DataFile]]

    @property
    def all(self) -> tuple[DataFile, ...]:
        """All of them."""
        own = () if self.own is None else (self.own,)
        return (*own, *(file for files in self.others.values() for file in files))


async def files_of_rows(tables: ProjectTables, name: str) -> list[RowFiles] | None:
    """The files of each row of a table, in its order; None for a table whose rows have none."""
    table = await tables.load(name)
    key = key_of(table)
    if FILE_ID not in table.columns and (key is None or not key.endswith(_OF_SESSIONS)):
        return None
    others = {other: await tables.load(other) for other in await _referring(tables, name, key)}
    if FILE_ID not in table.columns and not others:
        return None
    return await trio.to_thread.run_sync(_rows, tables, table, key, others)


def _rows(
    tables: ProjectTables, table: pd.DataFrame, key: str | None, others: Mapping[str, pd.DataFrame]
) -> list[RowFiles]:
    by_key = {name: _by_key(tables, other, str(key)) for name, other in others.items()}
    own = [_file(tables, value) for value in table[FILE_ID]] if FILE_ID in table.columns else [None] * len(table)
    keys = [None] * len(table) if key is None else table[key].tolist()
    return [
        RowFiles(file, {other: found.get(value, []) for other, found in by_key.items()})
        for file, value in zip(own, keys, strict=True)
    ]


async def _referring(tables: ProjectTables, name: str, key: str | None) -> list[str]:
    """The other tables whose rows have files, and name a row of this one."""
    found = list[str]()
    for other in tables.files if key is not None else ():
        with suppress(DatasetError):  # what is no table says nothing
            found += [other] if other != name and {FILE_ID, key} <= set(await tables.columns(other)) else []
    return found


def _by_key(tables: ProjectTables, table: pd.DataFrame, key: str) -> dict[Any, list[DataFile]]:
    found: dict[Any, list[DataFile]] = {}
    for value, file_id in zip(table[key].tolist(), table[FILE_ID].tolist(), strict=True):
        if (file := _file(tables, file_id)) is not None and not pd.isna(value):
            found.setdefault(value, []).append(file)
    return found


def _file(tables: ProjectTables, file_id: Any) -> DataFile | None:
    """The file of this id; None for an empty cell, and for -999, which tables have where there is none."""
    try:
        return tables.data_files.get(str(int(float(file_id))))
    except (ValueError, TypeError, OverflowError):
        return None


def bytes_beside(versions: Versions, rows: Sequence[RowFiles]) -> pd.DataFrame:
    """For each row how many files belong to it, and bytes: of them, cached, in files that are complete, held by pins.

    Sizes are empty where S3 gave none. Equal files of a row count once. Reads the cache: call it from a thread.
    """
    contents = [versions.contents(one.all) for one in rows]
    counted = _Counted(versions, [one for found in contents for one in found.values() if one is not None])
    columns = zip(*map(counted.row, contents), strict=True) if rows else [()] * len(BESIDE)
    return pd.DataFrame({name: pd.array(values, dtype="Int64") for name, values in zip(BESIDE, columns, strict=True)})


class _Counted:
    """What the cache has of contents."""

    def __init__(self, versions: Versions, contents: Sequence[Content]) -> None:
        cache = versions.dataset.cache
        self._cached = cache.cached_bytes_of({one.content_id: one for one in contents}.values())
        self._whole = cache.whole_ids()
        self._pinned = PinnedIds(versions.dataset.config.cache_dir).now()

    def row(self, contents: Mapping[str, Content | None]) -> tuple[int | None, ...]:
        """The values of the columns `BESIDE`, for the contents of a row."""
        known = [one for one in contents.values() if one is not None]
        size_bytes = sum(one.size_bytes for one in known) if len(known) == len(contents) else None
        sums = [sum(counts) for counts in zip(*map(self._of, known), strict=True)] or [0, 0, 0]
        return len(contents), size_bytes, *sums

    def _of(self, content: Content) -> tuple[int, int, int]:
        """How many bytes of a content are cached; its size, if it is whole; and its size, if a pin holds it."""
        name, size_bytes = content.content_id, content.size_bytes
        return self._cached[name], size_bytes * (name in self._whole), size_bytes * (name in self._pinned)
