"""Filters that are chosen from a column's values, and how many rows each value would leave (pure).

A facet is a column with few different values. What is chosen is written as a query (query.py): so filters of a page,
of the command line and of Python are one language. Counts of a facet's values are those under all other filters
(Hearst, "Design Recommendations for Hierarchical Faceted Search Interfaces", 2006).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, Final

import pandas as pd

from vbnfs.tables.columns import FILE_ID, Kind, is_id, kind_of
from vbnfs.tables.query import Comparison, Literal, QueryError, parse_query
from vbnfs.tables.selection import matching

_MOST_VALUES: Final = 30
_FEW_VALUES: Final = 8  # that are shown although each row has another
_MOST_WORDS: Final = 8
_LISTED: Final = re.compile(r"'([^']+)'")  # what a text of a list has: "['VISp', 'CA1']"
_LIST: Final = re.compile(r"\[('[^']*'(, )?)*\]")

Chosen = Mapping[str, Sequence[str]]  # by column: literals, as a query has them


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a facet: as it is shown, as a query has it, and how many rows have it under the other filters."""

    text: str
    literal: str
    rows: int
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Facet:
    """A column, and its values, in order. `is_list`: its cells are lists, and a value is in one or more of them."""

    column: str
    values: Sequence[FacetValue]
    is_list: bool = False


def query_of(table: pd.DataFrame, chosen: Chosen) -> str | None:
    """What is chosen, as a query: one of the values of each column. None where nothing is.

    Raises `QueryError` for what is no value, `UnknownColumnError` for no column.
    """
    return joined(*(_condition(table, column, values) for column, values in chosen.items() if values))


def listed_in(text: str) -> list[str]:
    """The values in the text of a list: VISp and CA1 of "['VISp', 'CA1']"."""
    return _LISTED.findall(text)


def query_of_words(table: pd.DataFrame, words: str) -> str | None:
    """As a query: each of some words stands in a text of the row, with capitals or without. None without words.

    Only columns of text in which a word stands at all are asked for it. Raises `QueryError` where there are none.
    """
    named = [name for name in map(str, table.columns) if _can_be_asked(name)]
    texts = [name for name in named if kind_of(table[name]) is Kind.TEXT]
    if words.split() and not texts:
        raise QueryError(f"{words}: no column has text in which words could stand")
    return joined(*(_query_of_word(table, texts, word) for word in words.split()[:_MOST_WORDS]))


def _query_of_word(table: pd.DataFrame, texts: Sequence[str], word: str) -> str:
    def has(column: str) -> bool:
        return any(word.lower() in str(value).lower() for value in table[column].dropna().unique())

    places = [column for column in texts if has(column)] or texts[:1]
    return _either(f"{column}.str.contains({word!r}, case=False, regex=False)" for column in places)


def joined(*queries: str | None) -> str | None:
    """The query that all of some hold. None where there are none."""
    there = [query for query in queries if query]
    return " and ".join(f"({query})" if " or " in query else query for query in there) or None


def facets_of(table: pd.DataFrame, found: "pd.Series[bool]", chosen: Chosen, *, name: str) -> list[Facet]:
    """The facets of a table, in the order of its columns. `found` are rows that all other filters leave."""
    masks = {column: _mask(table, column, values, name=name) for column, values in chosen.items() if values}
    made = []
    for column in map(str, table.columns):
        values = _values(table[column]) if not _is_left_out(column) else None
        if values is None:
            continue
        others = found.copy()
        for other, mask in masks.items():
            others &= mask if other != column else True
        made.append(_facet(table[column], column, values, others, set(chosen.get(column, ()))))
    return made


def _facet(
    cells: "pd.Series[Any]", column: str, values: Sequence[Any], others: "pd.Series[bool]", chosen: set[str]
) -> Facet:
    left, is_list = cells[others], _is_list(cells)
    counts = _listed(left).value_counts() if is_list else left.value_counts()
    shown = [
        FacetValue(str(value), _literal(value), int(counts.get(value, 0)), _literal(value) in chosen)
        for value in values
    ]
    return Facet(column, shown, is_list)


def _values(cells: "pd.Series[Any]") -> Sequence[Any] | None:
    """The different values of a column that is a facet; None for one that is none."""
    if _is_list(cells):
        counts = _listed(cells).value_counts()  # there may be many: those of most rows come first
        return sorted(counts.index, key=lambda value: (-counts[value], value))
    there = cells.dropna()
    if kind_of(cells) is Kind.NUMBERS and not pd.api.types.is_integer_dtype(there.dtype):
        return None
    values = there.unique().tolist()
    if not 1 < len(values) <= (_FEW_VALUES if len(values) == len(there) else _MOST_VALUES):
        return None
    return sorted(values, key=lambda value: (str(type(value)), value))


def _is_left_out(column: str) -> bool:
    return is_id(column) or column == FILE_ID or not _can_be_asked(column)


def _can_be_asked(column: str) -> bool:
    """Whether a query can name a column."""
    return column.isidentifier() and not iskeyword(column)


def _is_list(cells: "pd.Series[Any]") -> bool:
    there = cells.dropna()
    if there.empty or _LIST.fullmatch(str(there.iloc[0])) is None:
        return False  # of most columns, without a look at the others of 319,000 cells
    return kind_of(cells) is Kind.TEXT and all(_LIST.fullmatch(str(cell)) for cell in there.unique())


def _listed(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """The values of all lists, each once for each list that has it."""
    found: list[str] = [value for cell in cells.dropna() for value in dict.fromkeys(listed_in(cell))]
    return pd.Series(found, dtype=object)


def _literal(value: Any) -> str:
    return repr(value)


def _mask(table: pd.DataFrame, column: str, values: Sequence[str], *, name: str) -> "pd.Series[bool]":
    return matching(table, parse_query(_condition(table, column, values)), name=name)


def _condition(table: pd.DataFrame, column: str, values: Sequence[str]) -> str:
    for value in values:
        _check(column, value)
    if column in table.columns and _is_list(table[column]):
        # Only a list with this text has it with its quotes.
        return _either(f"{column}.str.contains({value!r}, regex=False)" for value in values)
    return f"{column} == {values[0]}" if len(values) == 1 else f"{column} in [{', '.join(values)}]"


def _either(conditions: Iterable[str]) -> str:
    return " or ".join(conditions)


def _check(column: str, value: str) -> None:
    """Raise `QueryError` unless a text is one literal."""
    parsed = parse_query(f"{column} == {value}")
    if not (isinstance(parsed, Comparison) and isinstance(parsed.right, Literal) and parsed.operator == "=="):
        raise QueryError(f"{value}: no value of {column}")
