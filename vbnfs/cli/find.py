"""What `vbnfs sessions`, `probes`, `units` and `tables` find out, and how what is no row is shown."""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from vbnfs.access.finding import Asked, Finder
from vbnfs.access.project_tables import Note, ProjectTables, project_tables
from vbnfs.access.versions import Versions
from vbnfs.access.whole_files import Progress
from vbnfs.cli import render
from vbnfs.cli.found_rows import Form, as_json, show_rows
from vbnfs.errors import UsageError
from vbnfs.suggestions import near
from vbnfs.tables.values import ColumnValues, values_of

_COLUMNS: Final = 100


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the table `name`."""

    name: str
    rows: pd.DataFrame


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table, without its rows. `size_bytes` is None where S3 gave none, `cached_bytes` as it was before."""

    table: str
    path: str
    size_bytes: int | None
    cached_bytes: int
    columns: Sequence[str]


Found = Rows | Sequence[TableFacts] | Sequence[ColumnValues]


async def find_rows(versions: Versions, table: str, asked: Asked, *, note: Note, progress: Progress) -> Found:
    """Rows of a table, as commands name it. Raises a `VbnfsError`."""
    async with _tables(versions, note, progress) as tables:
        return Rows(tables.name_of(table), await Finder(tables).find(table, asked))


async def find_by_name(
    versions: Versions, name: str | None, asked: Asked, *, note: Note, progress: Progress
) -> Found:
    """Rows of a table, or the values of a column in all tables; without a name, which tables there are.

    Raises a `VbnfsError`.
    """
    async with _tables(versions, note, progress) as tables:
        if name in tables.files:
            return Rows(str(name), await Finder(tables).find(str(name), asked))
        if asked != Asked():
            raise UsageError("--query and its like are for the rows of a table: vbnfs tables units --query ...")
        return await _facts(tables) if name is None else await _values(tables, name)


def _tables(versions: Versions, note: Note, progress: Progress) -> AbstractAsyncContextManager[ProjectTables]:
    manifest = versions.manifest(versions.dataset.config.dataset_version)
    return project_tables(versions, manifest, note=note, progress=progress)


async def _facts(tables: ProjectTables) -> list[TableFacts]:
    return [await _facts_of(tables, name) for name in tables.files]


async def _facts_of(tables: ProjectTables, name: str) -> TableFacts:
    file, versions = tables.files[name], tables.versions
    [content] = versions.contents([file]).values()
    cached_bytes = 0 if content is None else versions.dataset.cache.cached_bytes(content)
    return TableFacts(name, "/".join(file.path), versions.size_bytes(file), cached_bytes, await tables.columns(name))


async def _values(tables: ProjectTables, column: str) -> list[ColumnValues]:
    columns = {name: await tables.columns(name) for name in tables.files}
    places = [name for name, names in columns.items() if column in names]
    if not places:
        names = dict.fromkeys([*columns, *(name for names in columns.values() for name in names)])
        nearest = near(column, names)
        hint = f"near it: {', '.join(nearest)}" if nearest else "'vbnfs tables' lists them"
        raise UsageError(f"no table and no column {column}; {hint}")
    return [values_of(await tables.load(name), column, name=name) for name in places]


# What is shown


def show(found: Found, asked: Asked, form: Form, *, note: Note) -> None:
    """What was found, in the form that is wanted. Raises a `VbnfsError`."""
    if isinstance(found, Rows):
        show_rows(found.rows, form, name=found.name, is_limited=asked.limit is not None, note=note)
    elif form.is_csv or form.parquet is not None:
        raise UsageError("--csv and --parquet are for the rows of a table: vbnfs tables units --csv")
    elif form.is_json:
        render.print_json([_as_json(one) for one in found])
    else:
        for one in found:
            _print_facts(one) if isinstance(one, TableFacts) else _print_values(one)


def _as_json(one: TableFacts | ColumnValues) -> dict[str, Any]:
    if isinstance(one, TableFacts):
        values = {"table": one.table, "path": one.path, "columns": list(one.columns)}
        return values | {"size_bytes": one.size_bytes, "cached_bytes": one.cached_bytes}
    counts = [{"value": as_json(value), "rows": rows} for value, rows in one.counts]
    numbers = {"rows": one.rows, "empty": one.empty, "distinct": one.distinct, "values": counts}
    ends = {"least": as_json(one.least), "most": as_json(one.most)}
    return {"table": one.table, "column": one.column, **numbers, **ends}


def _print_facts(table: TableFacts) -> None:
    render.print_line(
        f"{table.table}  {render.size(table.size_bytes)}, {render.size(table.cached_bytes)} of it cached"
    )
    for line in textwrap.wrap(", ".join(table.columns), _COLUMNS, initial_indent="  ", subsequent_indent="  "):
        render.print_line(line)


def _print_values(one: ColumnValues) -> None:
    empty = f", {one.empty:,} of them empty" if one.empty else ""
    ends = f", from {one.least} to {one.most}" if not one.counts and one.distinct else ""
    render.print_line(f"{one.table}  {one.distinct:,} values in {one.rows:,} rows{empty}{ends}")
    width = max((len(str(value)) for value, _ in one.counts), default=0)
    for value, rows in one.counts:
        render.print_line(f"  {value!s:<{width}}  {rows:>7,}")
