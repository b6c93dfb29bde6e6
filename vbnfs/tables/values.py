"""The values that a column has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

_MOST_VALUES: Final = 50  # that are listed one by one


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """What a column of a table has: `counts` rows of each value, the most frequent first, where there are few.

    Otherwise `counts` is empty. `least` and `most` are None where values have no order, or there are none.
    """

    table: str
    column: str
    rows: int
    empty: int
    distinct: int
    counts: Sequence[tuple[Any, int]]
    least: Any = None
    most: Any = None


def values_of(table: pd.DataFrame, column: str, *, name: str) -> ColumnValues:
    """The values of a column of the table `name`."""
    values = table[column].dropna()
    counted = values.value_counts()
    counts = list(counted.items()) if len(counted) <= _MOST_VALUES else []
    counts.sort(key=lambda pair: (-pair[1], str(pair[0])))
    least, most = (values.min(), values.max()) if len(values) else (None, None)
    return ColumnValues(name, column, len(table), len(table) - len(values), len(counted), counts, least, most)
