"""What changed between two dataset versions: `vbnfs.Difference`."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbnfs.access.differences import FileRow, Report, Total
from vbnfs.amounts import files as files_text
from vbnfs.amounts import size
from vbnfs.tables.frames import of_rows

if TYPE_CHECKING:
    from vbnfs.tables.changes import TableChanges


class Difference:
    """Files, and rows and columns of tables, that a dataset version has otherwise than another one.

    Sizes are in bytes; one that S3 does not say is missing.

    >>> difference = vbnfs.Dataset().diff()
    >>> difference.old, difference.new, difference.tables["project_metadata/units.csv"].changed_rows
    ('0.4.0', '0.5.0', 1)
    >>> difference.files["change"].to_dict()
    {'project_metadata/units.csv': 'changed'}
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __repr__(self) -> str:
        return (
            f"<vbnfs.Difference {self.old} to {self.new}: {files_text(len(self.files))},"
            f" {size(self.fetch_bytes)} to fetch>"
        )

    @property
    def old(self) -> str:
        """The older version's name.

        >>> vbnfs.Dataset().diff(tables=False).old
        '0.4.0'
        """
        return self._report.old.version

    @property
    def new(self) -> str:
        """The newer version's name.

        >>> vbnfs.Dataset().diff(tables=False).new
        '0.5.0'
        """
        return self._report.new.version

    @property
    def fetch_bytes(self) -> int | None:
        """How much of all of the newer version is not in the cache; None where a size is not known.

        >>> vbnfs.Dataset().diff(tables=False).fetch_bytes > 0
        True
        """
        return self._report.fetch_bytes

    @property
    def totals(self) -> pd.DataFrame:
        """How much each `change` is of: `files`, `old_size_bytes`, `new_size_bytes`, `fetch_bytes`.

        >>> vbnfs.Dataset().diff(tables=False).totals["files"].sum().item()
        7
        """
        return _frame(Total, self._report.totals, index="change")

    @property
    def files(self) -> pd.DataFrame:
        """The files that are not the same in both, a row each, by `new_path`.

        Columns: `change`, `old_path`, `old_size_bytes`, `new_size_bytes`, and `fetch_bytes`, which is what of the new
        one is not in the cache.

        >>> vbnfs.Dataset().diff(tables=False).files["change"].to_dict()
        {'project_metadata/units.csv': 'changed'}
        """
        return _frame(FileRow, self._report.files, index="new_path")

    @property
    def tables(self) -> "dict[str, TableChanges]":
        """What changed in the project's tables, by path; without those that could not be read: see `problems`.

        >>> vbnfs.Dataset().diff().tables["project_metadata/units.csv"].changed_rows
        1
        """
        return {table.path: table.changes for table in self._report.tables if table.changes is not None}

    @property
    def problems(self) -> dict[str, str]:
        """Why tables could not be compared, by path.

        >>> vbnfs.Dataset().diff().problems
        {}
        """
        return {table.path: table.problem for table in self._report.tables if table.problem is not None}

    def as_json(self) -> dict[str, Any]:
        """All of it as values of JSON: as `vbnfs diff --json` writes it.

        >>> vbnfs.Dataset().diff(tables=False).as_json()["files"][0]["new_path"]
        'project_metadata/units.csv'
        """
        return self._report.as_json(with_files=True)


def _frame(row: type[FileRow] | type[Total], rows: Sequence[FileRow | Total], *, index: str) -> pd.DataFrame:
    names = [field.name for field in fields(row)]
    return of_rows(({name: getattr(one, name) for name in names} for one in rows), names, index=index)
