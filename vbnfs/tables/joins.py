"""Rows of one table that rows of another one refer to, by the ids that the two have in common."""

import pandas as pd

from vbnfs.errors import UsageError
from vbnfs.tables.columns import is_id, key_of


def shared_id(table: pd.DataFrame, other: pd.DataFrame) -> str | None:
    """The column by which two tables belong together: an id of one's rows that the other has, too.

    Units name their probe, for example, and probes their session. Where neither names the other's rows, it is an id
    that both name: behavior sessions and units have the ecephys session in common. None where there is none.
    """
    for key, names in ((key_of(table), other.columns), (key_of(other), table.columns)):
        if key is not None and key in names:
            return key
    return next((str(name) for name in table.columns if is_id(name) and name in other.columns), None)


def having(
    table: pd.DataFrame, other: pd.DataFrame, wanted: "pd.Series[bool]", *, names: tuple[str, str]
) -> "pd.Series[bool]":
    """For each row of `table`, whether one of the `wanted` rows of `other` belongs to it.

    `names` are those of the two tables, for messages. Raises `UsageError` for tables that have no id in common.
    """
    by = shared_id(table, other)
    if by is None:
        raise UsageError(f"{names[0]} and {names[1]} have no id in common, by which their rows would belong together")
    ids = other.loc[wanted, by].dropna()
    return table[by].isin(ids)
