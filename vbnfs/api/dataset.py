"""`vbnfs.Dataset`: the dataset that the settings name."""

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, SupportsInt, Unpack

import pandas as pd

from vbnfs.api.arguments import path_text, version_name
from vbnfs.api.choosing import Files, Lfp, wanted_of
from vbnfs.api.citation import Citation
from vbnfs.api.connection import Connection
from vbnfs.api.difference import Difference
from vbnfs.api.files import File
from vbnfs.api.messages import in_python, python_messages
from vbnfs.api.progress import ShowProgress
from vbnfs.api.remote_file import RemoteFile
from vbnfs.api.settings import Settings, texts_of, with_names
from vbnfs.api.version import Session, Version
from vbnfs.api.working_sets import bring, cite_record, compare, pin_name, pins, unpin, verify_files
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.dataset.names import LATEST, MANIFESTS

_FOLDER: Final = re.compile(r"v\d.*")  # of a version


class Dataset:
    """A versioned dataset on S3, read through the cache that mounts and commands use, too.

    `name` is that of a dataset in the settings. Settings are given by their names in docs/settings.md, as text or as
    Python values: `Dataset(cache_dir="/data/cache", cache_size="500G", offline=True)`. Others that are often wanted:
    `dataset_version`, `endpoint_url` (another server), `mirror`, `cache_also` (a lab's cache), `limit_rate`. Those of
    the settings file (`config_file`, or the usual one) and of the environment hold as everywhere.

    `latest` and `version("0.5.0")` have tables and files, `session(id)` has a session's, `open(path)` opens any file.
    S3 is asked at the first use. Objects can be used by any thread, also where an event loop runs, and pickled; a
    child process opens the dataset for itself. Raises `UsageError` for a setting that is wrong.

    >>> dataset = vbnfs.Dataset()
    >>> dataset.versions
    ['0.4.0', '0.5.0']
    >>> with dataset.session(1044385384).h5() as file:
    ...     file["units/spike_times"].shape
    (1000,)
    """

    @with_names
    def __init__(
        self, name: str | None = None, *, config_file: str | Path | None = None, **settings: Unpack[Settings]
    ) -> None:
        given = texts_of(settings) | ({} if name is None else {"dataset": name})
        file = None if config_file is None else Path(config_file).expanduser()
        with python_messages():
            self._connection = Connection(load_config(command_line=given, config_file=file), given)

    @classmethod
    def on(cls, connection: Connection) -> "Dataset":
        """A dataset on what another one has open; vbnfs's own."""
        dataset = cls.__new__(cls)
        dataset._connection = connection
        return dataset

    @property
    def config(self) -> Config:
        """The settings that hold: bytes, seconds and paths, by the names in docs/settings.md.

        >>> vbnfs.Dataset(memory_limit="64M").config.memory_limit_bytes
        67108864
        """
        return self._connection.config

    @property
    def versions(self) -> Sequence[str]:
        """The versions that there are, the newest last.

        >>> vbnfs.Dataset().versions
        ['0.4.0', '0.5.0']
        """
        return [str(version) for version in self._connection.value.versions.release.versions]

    @property
    def latest(self) -> Version:
        """The newest version; that of the settings, if they name one.

        >>> vbnfs.Dataset().latest.name
        '0.5.0'
        """
        return self.version()

    @property
    def problems(self) -> Sequence[str]:
        """What is to be known about the versions, in words: that S3 was not reached, that a manifest is refused.

        >>> vbnfs.Dataset().problems
        []
        """
        return [in_python(problem) for problem in self._connection.value.versions.problems]

    def version(self, name: str | None = None) -> Version:
        """A version by its name, `0.5.0` or `v0.5.0`; None: the one of the settings, else the newest.

        Raises `DatasetError`, which names those that there are.

        >>> vbnfs.Dataset().version("0.4.0")
        <vbnfs.Version 0.4.0: 7 files>
        """
        named = self.config.dataset_version if name is None else name
        wanted = None if named is None else version_name(named)
        with python_messages():
            return Version(self._connection, self._connection.value.versions.manifest(wanted))

    def file(self, path: str | PathLike[str]) -> File:
        """A file by its path, as `vbnfs://` and mounts have it: `v0.5.0/project_metadata/units.csv`, `latest/...`.

        Without a version it is one of the newest. Raises `FileNotFoundError`, and `DatasetError` for a version that
        there is not.

        >>> vbnfs.Dataset().file("v0.4.0/project_metadata/units.csv").dataset_version
        '0.4.0'
        """
        place = path_text(path).removeprefix("vbnfs://").strip("/").removeprefix(f"{MANIFESTS}/")
        first, _, rest = place.partition("/")
        if first == LATEST:
            return self.version().file(rest)
        if _FOLDER.fullmatch(first):
            return self.version(first[1:]).file(rest)
        return self.version().file(place)

    def open(self, path: str | PathLike[str]) -> RemoteFile:
        r"""The file at a path, opened: see `file` and `RemoteFile`.

        >>> with vbnfs.Dataset().open("project_metadata/units.csv") as file:
        ...     file.readline()
        b'unit_id,ecephys_session_id,ecephys_channel_id,snr\n'
        """
        return self.file(path).open()

    def session(self, session_id: SupportsInt | str) -> Session:
        """A session of the newest version, by its id: see `Version.session`. Raises `KeyError`.

        >>> vbnfs.Dataset().session(1044385384).probes
        ['probeA']
        """
        return self.version().session(session_id)

    def prefetch(
        self,
        files: Files = (),
        *,
        sessions: str | None = None,
        behavior_only: str | None = None,
        having: Mapping[str, str] | None = None,
        lfp: Lfp = "no",
        progress: ShowProgress = None,
    ) -> pd.DataFrame:
        """Bring files of the newest version into the cache, as a whole and checked: see `Version.prefetch`.

        >>> vbnfs.Dataset().prefetch(sessions="all")["outcome"].unique().tolist()
        ['good']
        """
        chosen = wanted_of(files, None, sessions, behavior_only, having, lfp)
        return bring(self._connection, chosen, None, progress=progress)

    def pin(
        self,
        name: str,
        files: Files = (),
        *,
        sessions: str | None = None,
        behavior_only: str | None = None,
        having: Mapping[str, str] | None = None,
        lfp: Lfp = "no",
        note: str | None = None,
        progress: ShowProgress = None,
    ) -> pd.DataFrame:
        """Fetch files of the newest version, and keep them: no process evicts what the pin `name` holds.

        `vbnfs pin --update` moves it to later versions. `note`: what it is for. The rest is as in `Version.prefetch`.
        Raises `PinError` for a pin that holds something else.

        >>> vbnfs.Dataset().pin("novel", sessions="experience_level == 'Novel'")["outcome"].unique().tolist()
        ['good']
        >>> vbnfs.Dataset().unpin("novel")
        """
        chosen = wanted_of(files, None, sessions, behavior_only, having, lfp)
        return bring(self._connection, chosen, None, pin=pin_name(name), note=note, progress=progress)

    def unpin(self, *names: str) -> None:
        """Let go of what pins hold. No file is deleted; others may take its room. Raises `PinError`.

        >>> dataset = vbnfs.Dataset()
        >>> _ = dataset.pin("tables", ["project_metadata"])
        >>> dataset.unpin("tables")
        """
        unpin(self._connection, [pin_name(name) for name in names])

    @property
    def pins(self) -> pd.DataFrame:
        """The pins of the cache, a row each, by `name`.

        `files`, `size_bytes`, and how much of that is here (`here_bytes`, `whole_files`); `newer_files` and
        `gone_files` are those that the `newest` version has otherwise, or not; `note`, `made` (UTC), and the
        `dataset_version`.

        >>> dataset = vbnfs.Dataset()
        >>> _ = dataset.pin("units", ["project_metadata/units.csv"], note="for the figure")
        >>> dataset.pins.loc["units", ["note", "dataset_version", "newest"]].tolist()
        ['for the figure', '0.5.0', '0.5.0']
        >>> dataset.unpin("units")
        >>> len(dataset.pins)
        0
        """
        return pins(self._connection)

    def verify(self, *, fetch: bool = False, progress: ShowProgress = None) -> pd.DataFrame:
        """Hash all files that are completely in the cache, of all versions; with `fetch`, all files that there are.

        Returns what became of each: see `Version.verify`.

        >>> _ = vbnfs.Dataset().prefetch(["project_metadata/units.csv"])
        >>> vbnfs.Dataset().verify()["outcome"].unique().tolist()
        ['good']
        """
        return verify_files(self._connection, (), is_fetched=fetch, progress=progress)

    def diff(self, old: str | None = None, new: str | None = None, *, tables: bool = True) -> Difference:
        """What changed from a version to a newer one. `new` None: the newest; `old` None: the one before `new`.

        `tables`: those that changed are fetched, and compared by row and column. Raises `DatasetError`.

        >>> vbnfs.Dataset().diff("0.4.0", "0.5.0")
        <vbnfs.Difference 0.4.0 to 0.5.0: 1 file, ... to fetch>
        """
        return compare(self._connection, old, LATEST if new is None else new, with_tables=tables)

    def cite(self, record: str | Path) -> Citation:
        """What is to be said of the files that a record names, which `vbnfs mount --record FILE` has written.

        For chosen files see `Version.cite` and `Session.cite`. Raises `RecordError`.

        >>> vbnfs.Dataset().cite("no-record")
        Traceback (most recent call last):
        vbnfs.errors.RecordError: no-record: the record cannot be read: No such file or directory
        """
        return cite_record(self.config, Path(record))

    def close(self) -> None:
        """Close what this process has open. The next use opens it again.

        >>> dataset = vbnfs.Dataset()
        >>> dataset.close()
        """
        self._connection.close()

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, tuple[Connection]]:
        return Dataset.on, (self._connection,)

    def __repr__(self) -> str:
        where = self.config.endpoint_url or self.config.region
        return f"<vbnfs.Dataset {self.config.project} in {self.config.bucket}, {where}>"
