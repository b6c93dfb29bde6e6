"""Large tables that were parsed once, kept as Parquet beside the manifests, each under the hash of its CSV.

    datasets-v1/.../tables/<file_hash>      a stored file (dataset/stored_files.py): its digest, then Parquet

The hash names the bytes that were parsed, so what is kept never becomes wrong: equal tables of two dataset versions
are kept once, and a new version's is another file. All of it may be lost: then the CSV is parsed again. Methods read
and write the disk: call them from a thread.
"""

from collections.abc import Set
from contextlib import suppress
from typing import Final

import pandas as pd

from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.tables.reading import has_parquet, read_parquet, write_parquet

_FOLDER: Final = "tables"


class KeptTables:
    """The parsed tables of a dataset, below its `folder`."""

    def __init__(self, folder: StoredFolder) -> None:
        self._folder = StoredFolder(folder / _FOLDER)

    def read(self, file_hash: str) -> pd.DataFrame | None:
        """A table; None if it is not kept, is damaged, or pyarrow is missing."""
        data = self._folder.read(file_hash) if has_parquet() else None
        return None if data is None else read_parquet(data)

    def write(self, file_hash: str, table: pd.DataFrame, *, wanted: Set[str]) -> None:
        """Keep a table. Those that are not `wanted` any more, by their hashes, are deleted.

        Raises `TablesError` where pyarrow is missing. A disk that does not take it is no error.
        """
        self._folder.write(file_hash, write_parquet(table))
        with suppress(OSError), self._folder.directory.opened() as folder:
            names = {name for name in folder.names() if not name.startswith(".")}
            for name in names - wanted - {file_hash}:
                (self._folder / name).unlink(missing_ok=True)
