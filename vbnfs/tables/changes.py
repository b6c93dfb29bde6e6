"""What changed in a metadata table.

Rows are identified by the table's key: the first column ending in `_id` whose values are unique in both versions.
Values are compared as pandas reads them: 0.10 is 0.1, and an empty cell is the same as NaN. A column that has numbers
in one version and text in the other is compared as numbers, where the text is a number.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from vbnfs.tables.columns import key_of
from vbnfs.tables.reading import read_csv

OLD: Final = "the old one"  # of two tables, as messages name it
NEW: Final = "the new one"

Id = int | float | str | bool


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The changes from an old table to a new one.

    `key` is the column that identifies rows. Without one (None), rows are compared as wholes, over the columns that
    both tables have: then no row counts as changed, and there are no ids. `changed_columns` has, for each column, the
    number of rows in both tables whose value differs.
    """

    key: str | None
    old_rows: int
    new_rows: int
    old_columns: int
    new_columns: int
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    changed_columns: Mapping[str, int]
    added_rows: int
    removed_rows: int
    changed_rows: int
    added_ids: tuple[Id, ...] = ()
    removed_ids: tuple[Id, ...] = ()
    changed_ids: tuple[Id, ...] = ()


def compare_tables(old_csv: bytes, new_csv: bytes) -> TableChanges:
    """Compare two versions of a table. Raises `DatasetError` if one of them is not a CSV table."""
    return compare_frames(read_csv(old_csv, name=OLD), read_csv(new_csv, name=NEW))


def compare_frames(old: pd.DataFrame, new: pd.DataFrame) -> TableChanges:
    """Compare two versions of a table as pandas has read them."""
    shared = [column for column in new.columns if column in old.columns]
    key = key_of(new, old)
    rows = _whole_rows(old[shared], new[shared]) if key is None else _keyed_rows(old, new, key, shared)
    return TableChanges(
        key=key,
        old_rows=len(old),
        new_rows=len(new),
        old_columns=len(old.columns),
        new_columns=len(new.columns),
        added_columns=tuple(column for column in new.columns if column not in shared),
        removed_columns=tuple(column for column in old.columns if column not in shared),
        **rows,
    )


def _keyed_rows(old: pd.DataFrame, new: pd.DataFrame, key: str, shared: list[str]) -> dict[str, Any]:
    if len(old) and len(new) and is_numeric_dtype(old[key]) != is_numeric_dtype(new[key]):
        # 1 and "1" are the same id. A column of a table without rows has no type.
        old, new = old.astype({key: str}), new.astype({key: str})
    old, new = old.set_index(key), new.set_index(key)
    added = new.index[~new.index.isin(old.index)]
    removed = old.index[~old.index.isin(new.index)]
    both = new.index[new.index.isin(old.index)]
    old, new = old.loc[both], new.loc[both]
    is_changed = pd.Series(False, index=both)
    counts: dict[str, int] = {}
    for column in shared:
        if column != key:
            differs = _differs(old[column], new[column])
            is_changed |= differs
            if count := int(differs.sum()):
                counts[column] = count
    changed = both[is_changed]
    return {
        "changed_columns": counts,
        **{"added_rows": len(added), "removed_rows": len(removed), "changed_rows": len(changed)},
        **{"added_ids": tuple(added.tolist()), "removed_ids": tuple(removed.tolist())},
        "changed_ids": tuple(changed.tolist()),
    }


def _differs(old: "pd.Series[Any]", new: "pd.Series[Any]") -> "pd.Series[bool]":
    """For each row, whether the values differ. Both have the same index."""
    neither = old.isna() & new.isna()
    if _is_number(old) or _is_number(new):
        old, new = _numbers(old), _numbers(new)
    else:
        old, new = old.astype(str), new.astype(str)
    return ~neither & (old != new)


def _is_number(values: "pd.Series[Any]") -> bool:
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def _numbers(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """The values as numbers; text that is not a number becomes NaN, which equals nothing."""
    return values if _is_number(values) else pd.to_numeric(values.astype(str), errors="coerce")


def _whole_rows(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    before, after = map(_count_rows, (old, new))
    counts = {"added_rows": (after - before).total(), "removed_rows": (before - after).total(), "changed_rows": 0}
    return {"changed_columns": {}, **counts}


def _count_rows(table: pd.DataFrame) -> Counter[tuple[str, ...]]:
    if not len(table.columns):  # of which pandas 1 gives no rows
        return Counter({(): len(table)})
    return Counter(table.astype(str).fillna("").itertuples(index=False, name=None))
