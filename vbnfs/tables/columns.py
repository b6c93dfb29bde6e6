"""The columns of a table: their kinds of values, which of them is the id, which names are near a wrong one."""

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pandas.api.types import is_bool_dtype, is_numeric_dtype

from vbnfs.errors import UsageError
from vbnfs.suggestions import hint, near

if TYPE_CHECKING:
    import pandas as pd

FILE_ID: Final = "file_id"  # numbers the files of a version: the same row may have another number in another version


class Kind(enum.Enum):
    """What the cells of a column have that are not empty; as messages say it."""

    NUMBERS = "numbers"
    TRUTHS = "True and False"
    TEXT = "text"
    NOTHING = "no values"


class UnknownColumnError(UsageError):
    """A table has no column of this `name`. The message has the names that are `nearest` to it.

    As all errors it can be made of a message alone: so it can be pickled, and comes out of other processes.
    """

    def __init__(self, message: str, *, name: str = "", nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.nearest = nearest


def kind_of(column: "pd.Series[Any]") -> Kind:
    """The kind of a column. One without a value fits everything."""
    values = column.dropna()
    if not len(values):
        return Kind.NOTHING
    if is_bool_dtype(values.dtype) or (values.dtype == object and set(map(type, values)) == {bool}):
        return Kind.TRUTHS
    return Kind.NUMBERS if is_numeric_dtype(values.dtype) else Kind.TEXT


def key_of(*tables: "pd.DataFrame") -> str | None:
    """The column that identifies rows, in each of some versions of a table; None where there is none.

    It is the first one ending in `_id` that is filled in every row, and differently in each.
    """
    first, *others = tables
    for name in first.columns:
        if is_id(name) and all(name in other.columns for other in others):
            columns = [table[name] for table in tables]
            if all(column.is_unique and column.notna().all() for column in columns):
                return str(name)
    return None


def is_id(name: str) -> bool:
    """Whether a column has ids by which rows of tables refer to one another."""
    return name.endswith("_id") and name != FILE_ID


def unknown_column(name: str, table: str, names: Sequence[str]) -> UnknownColumnError:
    """The error for a column that a table lacks."""
    nearest = near(name, names)
    return UnknownColumnError(f"{table} has no column {name}{hint(name, names)}", name=name, nearest=nearest)
