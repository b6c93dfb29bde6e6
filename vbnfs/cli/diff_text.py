"""How `vbnfs diff` looks: the sums first, then the tables, then every file, in 100 columns.

Sizes are short, as those of `ls -h`, so that the longest path of the real dataset fits behind them; '-' is what is
not there, '?' what is not known.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from vbnfs.access.differences import FileRow, Report, Side, TableRow, Total
from vbnfs.cli import render

if TYPE_CHECKING:
    from vbnfs.tables.changes import TableChanges

_COLUMNS: Final = 100
_IDS_SHOWN: Final = 3


def print_report(report: Report, *, with_files: bool) -> None:
    """The report on standard output."""
    render.print_line(_side("old", report.old))
    render.print_line(_side("new", report.new))
    if not report.files:
        render.print_line("")
        render.print_line("the two versions have the same files")
        return
    _print_totals(report)
    if report.tables:
        render.print_line("")
        render.print_line("tables that changed:")
        for line in (line for table in report.tables for line in _table(table)):
            render.print_line(line)
    if with_files:
        render.print_line("")
        headers = ("change", "old ", "new ", "fetch ", "file")
        render.print_table(headers, (_file(row) for row in report.files))


def _side(name: str, side: Side) -> str:
    return f"{name}  {side.version:<8} {side.files:>6,} files {render.size(side.size_bytes):>10}  {side.manifest}"


def _print_totals(report: Report) -> None:
    render.print_line("")
    headers = ("", "files ", "old ", "new ", "fetch ")
    new = report.new
    whole = (f"all of {new.version}", f"{new.files:,}", "-", _size(new.size_bytes), _size(report.fetch_bytes))
    render.print_table(headers, [*map(_total, report.totals), whole])


def _total(total: Total) -> Sequence[str]:
    has_old, has_new = total.change != "created", total.change != "deleted"
    return (
        total.change,
        f"{total.files:,}",
        _size(total.old_size_bytes) if has_old else "-",
        _size(total.new_size_bytes) if has_new else "-",
        _size(total.fetch_bytes) if has_new else "-",
    )


def _file(row: FileRow) -> Sequence[str]:
    return (
        row.change,
        "-" if row.old_path is None else _size(row.old_size_bytes),
        "-" if row.new_path is None else _size(row.new_size_bytes),
        "-" if row.new_path is None else _size(row.fetch_bytes),
        " -> ".join(dict.fromkeys(path for path in (row.old_path, row.new_path) if path is not None)),
    )


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else render.short_size(size_bytes)


def _table(table: TableRow) -> Iterator[str]:
    yield f"  {table.path}"
    if table.problem is not None:
        yield f"    {'problem':<8} {table.problem}"  # which names an object: never broken
    if table.changes is not None:
        yield from _changes(table.changes)


def _changes(changes: "TableChanges") -> Iterator[str]:
    rows = [
        _rows(changes.added_rows, "added", changes.added_ids),
        _rows(changes.removed_rows, "removed", changes.removed_ids),
        _rows(changes.changed_rows, "changed", changes.changed_ids),
    ]
    matched_by = f", by {changes.key}" if changes.key else ", compared as wholes"
    yield from _wrapped("rows", f"{changes.old_rows:,} -> {changes.new_rows:,}{matched_by}: {_joined(rows)}")
    columns = [f"{name} added" for name in changes.added_columns]
    columns += [f"{name} removed" for name in changes.removed_columns]
    columns += [f"{name} changed in {count:,}" for name, count in changes.changed_columns.items()]
    yield from _wrapped("columns", f"{changes.old_columns:,} -> {changes.new_columns:,}: {_joined(columns)}")


def _rows(count: int, verb: str, ids: Sequence[object]) -> str:
    if not count or not ids:
        return f"{count:,} {verb}" if count else ""
    shown = ", ".join(map(str, ids[:_IDS_SHOWN]))
    return f"{count:,} {verb} ({shown}{', ...' if count > _IDS_SHOWN else ''})"


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part) or "the same"


def _wrapped(name: str, text: str) -> list[str]:
    first = f"    {name:<8} "
    return textwrap.wrap(
        render.escape(text),
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,  # names stay whole, to be found and copied
        break_on_hyphens=False,
    )
