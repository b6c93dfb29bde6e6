"""Sessions: found by the values of columns, by areas and by a query; how much of each is cached; what is picked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from vbnfs.access.row_files import BESIDE
from vbnfs.errors import TablesError, UsageError
from vbnfs.tables.columns import key_of
from vbnfs.tables.facets import Facet, facets_of, joined, query_of, query_of_words
from vbnfs.tables.query import parse_query
from vbnfs.tables.selection import in_order, matching

PAGE_ROWS: Final = 100
CHOSEN: Final = "f."  # how the names of an address's query begin that choose values of a column
# What is shown of the tables that are known; of others the first ones.
_SHOWN: Final = (
    *("date_of_acquisition", "mouse_id", "sex", "age_in_days", "genotype", "experience_level", "image_set"),
    *("session_type", "session_number", "unit_count", "probe_count"),
)
_MOST_COLUMNS: Final = 9
_FACETS: Final = (  # in this order, before all others
    *("experience_level", "structure_acronyms", "genotype", "sex", "image_set", "session_number", "session_type"),
)
_OF_SESSIONS: Final = "session_id"  # how the column ends that has their ids
_OPEN: Final = 3  # facets that are shown without being asked for


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for. `chosen` are literals by column; `page` counts from 1.

    `words`: each of them is to stand in a text of the row.
    """

    version: str | None
    chosen: Mapping[str, Sequence[str]]
    words: str
    query: str
    sort: str
    page: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session: its id, what is shown of its columns, and bytes: of its files, cached, whole, pinned."""

    session_id: int
    cells: Sequence[str]
    size_bytes: int | None
    cached_bytes: int
    whole_bytes: int
    pinned_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: a page of rows, of `count` in all, whose ids are `session_ids`. `problem`: the query is wrong.

    `query` is all that is asked, as the commands take it.
    """

    columns: Sequence[str]
    rows: Sequence[SessionRow]
    count: int
    pages: int
    facets: Sequence[tuple[Facet, bool]]
    query: str | None
    size_bytes: int
    cached_bytes: int
    session_ids: Sequence[int]
    problem: str | None = None


def asked_of(pairs: Sequence[tuple[str, str]]) -> Asked:
    """What the query of an address asks. Names that are not known are passed over."""
    given, chosen = dict(pairs), dict[str, list[str]]()
    for name, value in pairs:
        if name.startswith(CHOSEN):
            chosen.setdefault(name.removeprefix(CHOSEN), []).append(value)
    page = given.get("page", "")
    return Asked(
        version=given.get("version") or None,
        chosen=chosen,
        words=_seen(given.get("words", "")),
        query=_seen(given.get("query", "")),
        sort=given.get("sort", ""),
        page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < len("100000") else 1,
    )


def _seen(text: str) -> str:
    """What is seen of a text: it is copied into shells, and a link can have any character in it."""
    return "".join(one if one.isprintable() else " " for one in text).strip()


def find(table: pd.DataFrame, asked: Asked, *, name: str) -> Found:
    """The sessions of a table that are asked for. What is wrong with a query is said in the answer.

    Raises `TablesError` for a table that has no ids of sessions.
    """
    own_columns = _own_columns(table)
    try:
        own_text, query = _queries(table, asked)
        found = in_order(table[_mask(table, query, name)], [asked.sort] if asked.sort else [], name=name)
        facets = facets_of(own_columns, _mask(table, own_text, name), asked.chosen, name=name)
    except UsageError as error:
        facets = facets_of(own_columns, _mask(table, None, name), {}, name=name)
        return Found([], [], 0, 1, _in_turn(facets), asked.query, 0, 0, [], str(error))
    return _page(found, table, asked, facets, query, name)


def ids_of(table: pd.DataFrame, asked: Asked, *, name: str) -> list[int]:
    """The ids of the sessions that are asked for.

    Raises `UsageError` for what is wrong with a query, and `TablesError` as `find` does.
    """
    _, query = _queries(table, asked)
    return [int(value) for value in table[_key(table, name)][_mask(table, query, name)]]


def _queries(table: pd.DataFrame, asked: Asked) -> tuple[str | None, str | None]:
    """What is asked but for chosen values, and all of it."""
    own = joined(query_of_words(_own_columns(table), asked.words), asked.query)
    return own, joined(own, query_of(table, asked.chosen))


def _mask(table: pd.DataFrame, query: str | None, name: str) -> "pd.Series[bool]":
    everything = pd.Series(data=True, index=table.index)
    return matching(table, parse_query(query), name=name) if query else everything


def _own_columns(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in BESIDE if name in table.columns])


def _page(
    found: pd.DataFrame, table: pd.DataFrame, asked: Asked, facets: Sequence[Facet], query: str | None, name: str
) -> Found:
    key = _key(table, name)
    columns = _columns(table, key)
    pages = max(1, -(-len(found) // PAGE_ROWS))
    first = (min(asked.page, pages) - 1) * PAGE_ROWS
    rows = found.iloc[first : first + PAGE_ROWS]
    sums = {name: int(found[name].fillna(0).sum()) if name in found else 0 for name in BESIDE}
    return Found(
        columns=[key, *columns],
        rows=[_row(values, key, columns) for values in rows.to_dict("records")],
        count=len(found),
        pages=pages,
        facets=_in_turn(facets),
        query=query,
        size_bytes=sums["size_bytes"],
        cached_bytes=sums["cached_bytes"],
        session_ids=[int(value) for value in found[key]],
    )


def _key(table: pd.DataFrame, name: str) -> str:
    """The column that identifies sessions. Raises `TablesError` where none has numbers that do."""
    key = key_of(table)
    is_of_numbers = key is not None and (table.empty or pd.api.types.is_integer_dtype(table[key].dtype))
    if key is None or not key.endswith(_OF_SESSIONS) or not is_of_numbers:
        raise TablesError(
            f"{name} has no column of session ids, another number in each row: 'vbnfs tables' lists its columns"
        )
    return key


def _columns(table: pd.DataFrame, key: str) -> list[str]:
    names = [name for name in map(str, table.columns) if name != key and name not in BESIDE]
    known: list[str] = [name for name in _SHOWN if name in names]
    return (known or names)[:_MOST_COLUMNS]


def _row(values: Mapping[Any, Any], key: str, columns: Sequence[str]) -> SessionRow:
    numbers = {name: values.get(name) for name in BESIDE}
    size_bytes = numbers["size_bytes"]
    return SessionRow(
        session_id=int(values[key]),
        cells=[text_of(values[name]) for name in columns],
        size_bytes=None if size_bytes is None or pd.isna(size_bytes) else int(size_bytes),
        cached_bytes=int(numbers["cached_bytes"] or 0),
        whole_bytes=int(numbers["whole_bytes"] or 0),
        pinned_bytes=int(numbers["pinned_bytes"] or 0),
    )


def text_of(value: Any) -> str:
    """A cell as it is shown: nothing for an empty one, whole numbers as such."""
    if pd.isna(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_turn(facets: Sequence[Facet]) -> list[tuple[Facet, bool]]:
    """The facets that are asked for most are first; each with whether it is shown open."""
    known = {name: place for place, name in enumerate(_FACETS)}
    turned = sorted(facets, key=lambda facet: known.get(facet.column, len(known)))
    return [
        (facet, place < _OPEN or any(value.is_chosen for value in facet.values)) for place, facet in enumerate(turned)
    ]
