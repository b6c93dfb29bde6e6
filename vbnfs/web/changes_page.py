"""What changed between two versions, a page of files at a time (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.access.differences import FileRow, Report

_ROWS: Final = 200  # of a page


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """A page of the files that are asked for, of `count` in all. `change`: to which this happened alone; '': all."""

    rows: Sequence[FileRow]
    count: int
    page: int
    pages: int
    change: str
    words: str


def changed_files(report: Report, *, change: str = "", words: str = "", page: int = 1) -> ChangedFiles:
    """The files of a report to which `change` happened, with all `words` in their old or their new path.

    A change that there is not is passed over; a page that there is not is the nearest one.
    """
    change = change if any(total.change == change for total in report.totals) else ""
    wanted = words.casefold().split()
    found = [row for row in report.files if row.change == (change or row.change) and _has(row, wanted)]
    pages = max(1, -(-len(found) // _ROWS))
    page = min(max(1, page), pages)
    return ChangedFiles(found[(page - 1) * _ROWS : page * _ROWS], len(found), page, pages, change, words)


def _has(row: FileRow, words: Sequence[str]) -> bool:
    paths = f"{row.old_path or ''}\n{row.new_path or ''}".casefold() if words else ""
    return all(word in paths for word in words)
