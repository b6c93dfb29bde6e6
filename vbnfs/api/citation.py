"""What is to be said in a paper about the data: `vbnfs.Citation`."""

from collections.abc import Sequence

import pandas as pd

from vbnfs.access.citing import CitedVersion, text_of
from vbnfs.amounts import files
from vbnfs.tables.frames import of_rows

_COLUMNS = ("dataset_version", "path", "hash", "size_bytes", "key", "version_id", "url")


class Citation:
    """Dataset versions and files, as text for a paper's methods: `print(citation)`, and as a frame.

    >>> citation = vbnfs.Dataset().latest.session(1044385384).cite()
    >>> print(citation.text)
    Data: visual-behavior-neuropixels, version 0.5.0 (s3://visual-behavior-neuropixels-data/...), 1 file, ...
    >>> list(citation.files.columns)
    ['dataset_version', 'hash', 'size_bytes', 'key', 'version_id', 'url']
    """

    def __init__(self, versions: Sequence[CitedVersion]) -> None:
        self._versions = tuple(versions)

    def __str__(self) -> str:
        return "\n".join(text_of(self._versions))

    def __repr__(self) -> str:
        return f"<vbnfs.Citation of {files(len(self.files))}: print() shows it>"

    @property
    def text(self) -> str:
        """A paragraph for each dataset version. It names one hash, by which the list of all files is known again.

        >>> print(vbnfs.Dataset().latest.session(1044385384).cite().text)
        Data: visual-behavior-neuropixels, version 0.5.0 (s3://visual-behavior-neuropixels-data/...), 1 file, ...
        """
        return "\n".join(version.paragraph() for version in self._versions)

    @property
    def list_hashes(self) -> dict[str, str]:
        """By dataset version the BLAKE2b-256 of the list of its files, 64 hex digits.

        >>> [len(one) for one in vbnfs.Dataset().latest.session(1044385384).cite().list_hashes.values()]
        [64]
        """
        return {version.dataset_version: version.list_hash for version in self._versions}

    @property
    def files(self) -> pd.DataFrame:
        """The files, by `path`: `dataset_version`, `hash`, `size_bytes`; of their object `key`, `version_id`, `url`.

        A hash is the blake2b of the manifest, 128 hex digits; None if that has none.

        >>> vbnfs.Dataset().latest.session(1044385384).cite().files["hash"].str.len().tolist()
        [128]
        """
        rows = (
            {**file.as_json(), "dataset_version": version.dataset_version, "size_bytes": file.size_bytes}
            for version in self._versions
            for file in version.files
        )
        return of_rows(rows, _COLUMNS, index="path")
