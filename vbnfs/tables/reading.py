"""Tables as bytes: CSV, as a dataset publishes them, and Parquet, which is read ten times as fast.

Parquet needs pyarrow, which is the extra `tables`.
"""

import csv
import io
from importlib.util import find_spec
from typing import Final

import pandas as pd
from pandas.api.types import is_float_dtype

from vbnfs.errors import DatasetError, TablesError

_LARGEST_EXACT: Final = 2**53  # of the whole numbers that a double has without gaps


def read_csv(data: bytes, *, name: str) -> pd.DataFrame:
    """A table, as pandas reads it. Raises `DatasetError`, which begins with `name`."""
    try:
        # low_memory reads in parts, and the parts of a column can have different types.
        table = pd.read_csv(io.BytesIO(data), low_memory=False)
    except (ValueError, OverflowError) as error:  # pandas' own and UnicodeDecodeError are ValueErrors
        raise DatasetError(f"{name} cannot be read as CSV: {str(error).strip()}") from error
    if not table.index.equals(pd.RangeIndex(len(table))):  # of which the first fields are then the index
        raise DatasetError(f"{name} cannot be read as CSV: its rows have more fields than its header")
    return table


def read_header(data: bytes, *, name: str) -> list[str]:
    """The names of the columns, of a table or of its beginning. Raises `DatasetError`, which begins with `name`."""
    line = data.partition(b"\n")[0]
    try:
        return next(csv.reader([line.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{name} cannot be read as CSV: {error}") from error


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def read_parquet(data: bytes) -> pd.DataFrame | None:
    """What `write_parquet` wrote; None for anything else."""
    try:
        return pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except (ValueError, OSError, KeyError):  # pyarrow's own errors are of these classes
        return None


def write_parquet(table: pd.DataFrame) -> bytes:
    """A table as Parquet, without its index. Raises `TablesError` where pyarrow is missing."""
    if not has_parquet():
        raise TablesError("Parquet needs pyarrow: pip install 'vbnfs[tables]'; --csv needs nothing")
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def with_whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which columns of whole numbers and empty cells have whole numbers: pandas reads them as floats."""
    whole = {name: "Int64" for name in table.columns if _is_whole(table[name])}
    return table.astype(whole)


def _is_whole(column: "pd.Series[float]") -> bool:
    if not is_float_dtype(column.dtype) or not column.isna().any():
        return False
    values = column.dropna()
    return bool(len(values)) and bool(((values % 1 == 0) & (values.abs() < _LARGEST_EXACT)).all())
