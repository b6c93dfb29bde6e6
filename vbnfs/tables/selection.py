"""Rows of a table that a query asks for (query.py), and columns and order of what is shown.

An empty cell equals nothing: of the comparisons only != holds for it, it is in no list, contains no text, and is not
True. That is how pandas has it (`DataFrame.query`), whatever the column's type.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from vbnfs.tables.columns import Kind, kind_of, unknown_column
from vbnfs.tables.patterns import LONGEST_TEXT, compiled, has_long_repeat
from vbnfs.tables.query import (
    Both,
    Column,
    Comparison,
    Condition,
    Either,
    Literal,
    Membership,
    Missing,
    Not,
    TextTest,
    Truth,
    Value,
    columns_of,
)

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def matching(table: pd.DataFrame, condition: Condition, *, name: str) -> "pd.Series[bool]":
    """For each row of a table, whether a condition holds. `name` is the table's, for messages.

    Raises `UnknownColumnError` for a column that it lacks, `QueryError` where a column has another kind of values.
    """
    for column in columns_of(condition):
        if column.name not in table.columns:
            raise unknown_column(column.name, name, list(table.columns))
    return _Evaluation(table).holds(condition)


def check_columns(table: pd.DataFrame, names: Sequence[str], *, name: str) -> None:
    """Raise `UnknownColumnError` for the first of some columns that a table lacks."""
    for column in names:
        if column not in table.columns:
            raise unknown_column(column, name, list(table.columns))


def in_order(table: pd.DataFrame, columns: Sequence[str], *, name: str) -> pd.DataFrame:
    """The rows by the values of columns, the first one first; one with a - before its name from large to small.

    Empty cells come last, and rows that are equal stay in their order. Raises `UnknownColumnError`.
    """
    names = [column.removeprefix("-") for column in columns]
    check_columns(table, names, name=name)
    if not names:
        return table
    ascending = [not column.startswith("-") for column in columns]
    return table.sort_values(by=names, ascending=ascending, kind="stable", na_position="last")


class _Evaluation:
    """A condition on the rows of one table."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self._kinds: dict[str, Kind] = {}

    def holds(self, condition: Condition) -> "pd.Series[bool]":
        match condition:
            case Both(parts):
                found = self._joined(operator.and_, parts)
            case Either(parts):
                found = self._joined(operator.or_, parts)
            case Not(inner):
                found = ~self.holds(inner)
            case Comparison():
                found = self._compared(condition)
            case Membership(column, values):
                wanted = [self._fitting(column, value) for value in values]
                found = self._values(column).isin(wanted) & self._values(column).notna()
            case Missing(column):
                found = self._values(column).isna()
            case TextTest():
                found = self._tested(condition)
            case Truth(column):
                found = self._true(column)
        return found

    def _joined(self, join: Callable[[Any, Any], Any], parts: Sequence[Condition]) -> "pd.Series[bool]":
        first, *others = parts
        found = self.holds(first)
        for part in others:
            found = join(found, self.holds(part))
        return found

    def _compared(self, comparison: Comparison) -> "pd.Series[bool]":
        left, sign, right = comparison.left, comparison.operator, comparison.right
        if isinstance(left, Literal):
            assert isinstance(right, Column)
            left, sign, right = right, _FLIPPED.get(sign, sign), left
        values = self._values(left)
        other = self._fitting(left, right) if isinstance(right, Literal) else self._comparable(left, right)
        is_there = values.notna()
        if isinstance(other, pd.Series):
            is_there &= other.notna()
            other = other[is_there]
        of_empty = sign == "!="
        if not is_there.any():  # a column without values has no type to compare
            return pd.Series(of_empty, index=values.index, dtype=bool)
        found: pd.Series[bool] = _OPERATORS[sign](values[is_there], other).astype(bool)
        return found.reindex(values.index, fill_value=of_empty)

    def _tested(self, test: TextTest) -> "pd.Series[bool]":
        values = self._values(test.column)
        if self._kind(test.column) not in {Kind.TEXT, Kind.NOTHING}:
            raise test.column.place.error(f"no text: this column has {self._kind(test.column).value}")
        texts = values.dropna().unique()
        if test.name == "contains":
            if test.is_pattern and has_long_repeat(test.text) and any(len(text) > LONGEST_TEXT for text in texts):
                reason = (
                    f"it has a text of more than {LONGEST_TEXT:,} characters: no *, + or {{}} is searched for there"
                )
                raise test.column.place.error(reason)
            finds = compiled(test.text, minds_case=test.minds_case, is_pattern=test.is_pattern).search
            return values.isin([text for text in texts if finds(text)])
        return values.isin([text for text in texts if getattr(text, test.name)(test.text)])

    def _true(self, column: Column) -> "pd.Series[bool]":
        if self._kind(column) not in {Kind.TRUTHS, Kind.NOTHING}:
            kind = self._kind(column).value
            raise column.place.error(f"not a condition: this column has {kind}; compare it, as in {column.name} > 2")
        values = self._values(column)
        return values.isin([True]) & values.notna()

    def _fitting(self, column: Column, literal: Literal) -> Value:
        """The literal's value. Raises `QueryError` where a column has values of another kind: none would be equal."""
        kind, given = self._kind(column), _kind_of_value(literal.value)
        if kind not in {given, Kind.NOTHING}:
            remedy = {Kind.NUMBERS: ": write a number", Kind.TEXT: ": write text in quotes"}.get(kind, "")
            raise literal.place.error(f"{column.name} has {kind.value}{remedy}")
        return literal.value

    def _comparable(self, left: Column, right: Column) -> "pd.Series[Any]":
        kinds = {self._kind(left), self._kind(right)} - {Kind.NOTHING}
        if len(kinds) > 1:
            reason = f"{left.name} has {self._kind(left).value}, and {right.name} {self._kind(right).value}"
            raise right.place.error(reason)
        return self._values(right)

    def _kind(self, column: Column) -> Kind:
        if column.name not in self._kinds:
            self._kinds[column.name] = kind_of(self._values(column))
        return self._kinds[column.name]

    def _values(self, column: Column) -> "pd.Series[Any]":
        return self._table[column.name]


def _kind_of_value(value: Value) -> Kind:
    if isinstance(value, bool):
        return Kind.TRUTHS
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBERS
