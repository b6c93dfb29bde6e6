"""How found rows look: a table for people, CSV, JSON, Parquet."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from vbnfs.access.row_files import BESIDE
from vbnfs.cli import render
from vbnfs.errors import TablesError
from vbnfs.host.atomic import output_file
from vbnfs.tables.columns import Kind, kind_of
from vbnfs.tables.reading import with_whole_numbers, write_parquet

_MOST_ROWS: Final = 200  # for people, unless --limit says otherwise
_WHEN_NOTHING: Final = "'vbnfs tables COLUMN' lists the values that a column has"
_ROWS_AT_ONCE: Final = 4096  # whose cells are Python's objects at a time
_MOST_COLUMNS: Final = 8  # of a table that is not known
_BYTES: Final = "_bytes"  # how the names of columns end that have bytes
# What people see first of the tables that are known.
_SHOWN: Final[Mapping[str, Sequence[str]]] = {
    "ecephys_sessions": ("ecephys_session_id", "mouse_id", "sex", "experience_level", "unit_count"),
    "behavior_sessions": ("behavior_session_id", "mouse_id", "sex", "session_number", "session_type"),
    "probes": ("ecephys_probe_id", "ecephys_session_id", "name", "has_lfp_data", "unit_count"),
    "channels": (
        *("ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id", "probe_channel_number"),
        *("structure_acronym", "unit_count"),
    ),
    "units": (
        *("unit_id", "ecephys_session_id", "ecephys_probe_id", "structure_acronym", "snr", "firing_rate"),
        "quality",
    ),
}

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Form:
    """In which form rows are wanted: for people, if in none of the three. `has_columns`: columns were named.

    `mode` is that of a file that is written.
    """

    is_csv: bool
    is_json: bool
    parquet: Path | None
    has_columns: bool
    mode: int

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads it."""
        return not self.is_csv and not self.is_json and self.parquet is None


def show_rows(rows: pd.DataFrame, form: Form, *, name: str, is_limited: bool, note: Note) -> None:
    """Rows of the table `name`, in a form. Raises `TablesError` where Parquet cannot be written."""
    rows = with_whole_numbers(rows)
    if form.is_csv:
        _write_csv(rows)
    elif form.is_json:
        render.print_json_rows(_records(rows))
    elif form.parquet is not None:
        _write_parquet(rows, form.parquet, form.mode)
    else:
        _print_rows(rows, form, name=name, is_limited=is_limited, note=note)


def _write_csv(rows: pd.DataFrame) -> None:
    """A terminal gets control characters as escapes, all else the bytes as they are."""
    if not sys.stdout.isatty():
        rows.to_csv(sys.stdout, index=False)  # by and by: there may be hundreds of megabytes
        return
    for line in rows.to_csv(index=False).removesuffix("\n").split("\n"):
        render.print_line(line)


def _records(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows by the names of their columns, as JSON has values; what it has not, and empty cells, are None."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows.iloc[start : start + _ROWS_AT_ONCE]
        columns = {str(name): list(map(as_json, part[name].tolist())) for name in part.columns}
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def as_json(value: Any) -> Any:
    """A cell's value as JSON has it."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float) else str(value)


def _write_parquet(rows: pd.DataFrame, file: Path, mode: int) -> None:
    data = write_parquet(rows)
    try:
        with output_file(file, mode=mode) as out:
            out.write(data)
    except OSError as error:
        raise TablesError(f"{file}: cannot be written: {error.strerror or error}") from error
    render.print_line(f"{file}  {len(rows):,} rows, {render.size(len(data))}")


def _print_rows(rows: pd.DataFrame, form: Form, *, name: str, is_limited: bool, note: Note) -> None:
    columns = list(rows.columns) if form.has_columns else columns_for_people(list(rows.columns), name)
    shown = rows if is_limited else rows.head(_MOST_ROWS)
    headers = [f"{column} " if kind_of(rows[column]) is Kind.NUMBERS else column for column in columns]
    cells = [[_cell(column, value) for value in shown[column].tolist()] for column in columns]
    render.print_table(headers, zip(*cells, strict=True))
    hints = [f"{len(columns)} of {len(rows.columns)} columns: '--columns all' shows all"]
    hints = hints if len(columns) < len(rows.columns) else []
    hints += [f"the first {len(shown):,} are shown: --limit, --csv"] if len(shown) < len(rows) else []
    hints = [_WHEN_NOTHING] if rows.empty else hints
    note("; ".join([f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", *hints]))


def columns_for_people(columns: Sequence[str], name: str) -> list[str]:
    """Of the columns of a table those that fit on a screen, and what the cache has of each row's files."""
    own = [column for column in columns if column not in BESIDE]
    shown = [column for column in _SHOWN.get(name, ()) if column in own] or own[:_MOST_COLUMNS]
    return [*shown, *(column for column in columns if column in BESIDE)]


def _cell(column: str, value: Any) -> str:
    if as_json(value) is None:
        return "-"
    if column.endswith(_BYTES) and isinstance(value, int):
        return render.size(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
