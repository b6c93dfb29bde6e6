"""The files of the sessions that a query matches, by a dataset version's own tables; and these tables.

`all` matches every session; then no table has to be read.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from vbnfs.dataset.kinds import BEHAVIOR, LFP, SESSION, kind_of
from vbnfs.dataset.manifest import DataFile, Manifest, tables_of
from vbnfs.errors import DatasetError

if TYPE_CHECKING:
    from vbnfs.access.project_tables import ProjectTables
    from vbnfs.access.row_files import RowFiles
    from vbnfs.tables.query import Condition

OpenTables = Callable[[Manifest], "AbstractAsyncContextManager[ProjectTables]"]  # of a version

ALL: Final = "all"
_RECORDED: Final = "sessions"  # what commands call the table, whatever dataset it is of
_WITHOUT_RECORDINGS: Final = "behavior_sessions"
_OPTIONS: Final[Mapping[str, str]] = {_RECORDED: "sessions", _WITHOUT_RECORDINGS: "behavior-only"}


async def files_matching(
    manifest: Manifest,
    open_tables: OpenTables,
    *,
    sessions: str | None,
    behavior_only: str | None,
    having: Mapping[str, str],
) -> list[DataFile]:
    """The tables and the files of the sessions that match, with and without recordings; none where none matches.

    None: nothing is asked for by that query. `having`: of the recorded ones those to which rows of other tables
    belong that match. Raises a `VbnfsError`.
    """
    found: list[DataFile] = []
    if sessions is not None:
        files = _of_kind(manifest, {SESSION, LFP}) if sessions == ALL and not having else None
        rows = [] if files else await _rows(manifest, open_tables, _RECORDED, sessions, having)
        found += files or [one for row in rows for one in row.all]
    if behavior_only is not None:
        files = _of_kind(manifest, {BEHAVIOR}) if behavior_only == ALL else None
        rows = [] if files else await _rows(manifest, open_tables, _WITHOUT_RECORDINGS, behavior_only, {})
        found += files or [row.own for row in rows if row.own is not None]
    return [*tables_of(manifest).values(), *found] if found else []


def _of_kind(manifest: Manifest, kinds: Iterable[str]) -> list[DataFile]:
    return [file for file in manifest.files if kind_of(file.path).kind in kinds]


async def _rows(
    manifest: Manifest, open_tables: OpenTables, table: str, query: str, having: Mapping[str, str]
) -> "list[RowFiles]":
    """The files of the rows that match; of `all`, of every row."""
    from vbnfs.access.finding import Asked, Finder  # noqa: PLC0415 - imports pandas

    others = {other: _parsed(text, f"having-{other}") for other, text in having.items()}
    asked = Asked(query=None if query == ALL else _parsed(query, _OPTIONS[table]), having=others)
    async with open_tables(manifest) as tables:
        finder = Finder(tables)
        name, wanted = await finder.matching(table, asked)
        if (files := await finder.files(name)) is None:
            raise DatasetError(f"{name}: the table names no files of its rows; name the files by their paths")
        return [one for one, is_wanted in zip(files, wanted.tolist(), strict=True) if is_wanted]


def _parsed(text: str, option: str) -> "Condition":
    """A query. Raises `QueryError`, which names the option that has it."""
    from vbnfs.tables.query import QueryError, parse_query  # noqa: PLC0415

    try:
        return parse_query(text)
    except QueryError as error:
        raise QueryError(f"--{option}: {error}") from None
