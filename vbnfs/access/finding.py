"""Finding rows of the project's tables: one way for the command line, Python, and whatever asks by a query.

    async with project_tables(versions, manifest, note=print) as tables:
        asked = Asked(query=parse_query("snr > 2"), having={"sessions": parse_query("sex == 'F'")})
        found = await Finder(tables).find("units", asked)

The language of queries stands in tables/query.py. A `UsageError` says what of a query is wrong, and where.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pandas as pd
import trio

from vbnfs.access.project_tables import ProjectTables
from vbnfs.access.row_files import RowFiles, bytes_beside, files_of_rows
from vbnfs.errors import DatasetError, StorageError, TablesError
from vbnfs.tables.columns import UnknownColumnError, key_of
from vbnfs.tables.joins import having
from vbnfs.tables.names import SESSIONS, short_name
from vbnfs.tables.query import Condition, QueryError
from vbnfs.tables.selection import check_columns, in_order, matching

KnownFiles = dict[str, list[RowFiles] | None]  # by table


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a table.

    `query`: which rows. `having`: of these the ones to which rows of other tables belong, queries by their names.
    `sort`: columns, see `in_order`. `columns`: those that are wanted; None: all. `limit`: how many rows at most.
    """

    query: Condition | None = None
    having: Mapping[str, Condition] = field(default_factory=dict)
    sort: Sequence[str] = ()
    columns: Sequence[str] | None = None
    limit: int | None = None


class Finder:
    """Finds rows in the tables of one dataset version. What the cache has is looked up once.

    `files` are those of rows that an earlier one has found, and get what this one finds: they never change.
    """

    def __init__(self, tables: ProjectTables, files: KnownFiles | None = None) -> None:
        self.tables: Final = tables
        self._rows: dict[str, pd.DataFrame] = {}
        self._files: KnownFiles = {} if files is None else files

    async def find(self, table: str, asked: Asked) -> pd.DataFrame:
        """The rows of a table that are asked for. Raises a `VbnfsError`."""
        name, wanted = await self.matching(table, asked)
        rows = await self.rows(name)
        check_columns(rows, asked.columns or (), name=name)
        found = in_order(rows[wanted], asked.sort, name=name)
        found = found if asked.limit is None else found.head(asked.limit)
        return (found if asked.columns is None else found[list(asked.columns)]).reset_index(drop=True)

    async def sessions(self, asked: Asked) -> list[tuple[int, RowFiles]]:
        """The sessions that are asked for, by their ids, and their files."""
        name, wanted = await self.matching(SESSIONS, asked)
        rows, files = await self.rows(name), await self.files(name)
        key = key_of(rows)
        if files is None or key is None:
            raise TablesError(f"{name} names no files of sessions")
        triples = zip(rows[key].tolist(), files, wanted.tolist(), strict=True)
        return [(int(session), one) for session, one, is_wanted in triples if is_wanted]

    async def matching(self, table: str, asked: Asked) -> tuple[str, "pd.Series[bool]"]:
        """A table's name, and for each of its rows whether it is asked for."""
        name = self.tables.name_of(table)
        others = {self.tables.name_of(other): condition for other, condition in asked.having.items()}
        rows = await self.rows(name)
        found = pd.Series(data=True, index=rows.index)
        if asked.query is not None:
            found &= await self._holds(name, asked.query)
        for other, condition in others.items():
            wanted = await self._holds(other, condition)
            found &= having(rows, await self.rows(other), wanted, names=(name, other))
        return name, found

    async def rows(self, name: str) -> pd.DataFrame:
        """A table, and what the cache has of each row's files beside it: see `row_files.BESIDE`."""
        if name not in self._rows:
            table, files = await self.tables.load(name), await self.files(name)
            if files is not None:
                beside = await trio.to_thread.run_sync(partial(bytes_beside, self.tables.versions, files))
                own = beside.columns.intersection(table.columns)  # the table's own columns of these names stay
                table = pd.concat([table, beside.drop(columns=own)], axis="columns")
            self._rows[name] = table
        return self._rows[name]

    async def files(self, name: str) -> list[RowFiles] | None:
        """The data files of each row; None for a table whose rows have none."""
        if name not in self._files:
            self._files[name] = await files_of_rows(self.tables, name)
        return self._files[name]

    async def _holds(self, name: str, condition: Condition) -> "pd.Series[bool]":
        try:
            return matching(await self.rows(name), condition, name=name)
        except UnknownColumnError as error:
            raise await self._with_place(name, error) from None
        except QueryError as error:
            raise QueryError(f"{name}: {error}") from None

    async def _with_place(self, name: str, error: UnknownColumnError) -> UnknownColumnError:
        """The same error, with the other tables that have the column."""
        places = list[str]()
        for other in self.tables.files:
            with suppress(StorageError, DatasetError):  # it is only for a better message
                places += [other] if other != name and error.name in await self.tables.columns(other) else []
        if places:
            short = short_name(places[0])
            option = f"--having {places[0]}" if short is None else f"--having-{short}"
            hint = f'; {" and ".join(places)} has it: {option} "..."'
        else:
            hint = f"; 'vbnfs tables' lists the columns, and text stands in quotes, as in '{error.name}'"
            hint = "" if error.nearest else hint
        return UnknownColumnError(f"{error}{hint}", name=error.name, nearest=error.nearest)
