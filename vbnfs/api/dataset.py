"""`vbnfs.Dataset`: the dataset that the settings name."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vbnfs.api.connection import Connection
from vbnfs.api.files import File
from vbnfs.api.remote_file import RemoteFile
from vbnfs.api.version import Version
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError
from vbnfs.tables.columns import near


class Dataset:
    """A versioned dataset on S3, read through the cache that mounts and commands use, too.

    `name` is that of a dataset in the settings. Settings are given by their names in docs/settings.md, as text or as
    Python values: `Dataset(cache_dir="/data/cache", offline=True)`. Those of the file and of the environment hold as
    everywhere.

    S3 is asked at the first use. Objects can be used by any thread, also where an event loop runs, and pickled; a
    child process opens the dataset for itself. Raises `UsageError` for a setting that is wrong.
    """

    def __init__(self, name: str | None = None, *, config_file: str | Path | None = None, **settings: object) -> None:
        for unknown in settings.keys() - SETTING_BY_NAME.keys():
            nearest = near(unknown, SETTING_BY_NAME)
            hint = f"; near it: {', '.join(nearest)}" if nearest else "; docs/settings.md lists them"
            raise UsageError(f"there is no setting {unknown}{hint}")
        given = {key: _text(value) for key, value in settings.items() if value is not None}
        given |= {} if name is None else {"dataset": name}
        file = None if config_file is None else Path(config_file)
        self._connection = Connection(load_config(command_line=given, config_file=file))

    @property
    def config(self) -> Config:
        """The settings that hold."""
        return self._connection.config

    @property
    def versions(self) -> Sequence[str]:
        """The versions that there are, the newest last."""
        return [str(version) for version in self._connection.value.versions.release.versions]

    @property
    def latest(self) -> Version:
        """The newest version."""
        return self.version()

    @property
    def problems(self) -> Sequence[str]:
        """What is to be known about the versions, in words: that S3 was not reached, that a manifest is refused."""
        return self._connection.value.versions.problems

    def version(self, name: str | None = None) -> Version:
        """A version by its name, as `0.5.0`; None: the one of the settings, else the newest.

        Raises `DatasetError`, which names those that there are.
        """
        wanted = name or self.config.dataset_version
        return Version(self._connection, self._connection.value.versions.manifest(wanted))

    def file(self, path: str) -> File:
        """A file by its path below a version's folder: `v0.5.0/project_metadata/units.csv`, or of the newest version.

        Raises `FileNotFoundError`.
        """
        first, _, rest = path.strip("/").partition("/")
        if first.startswith("v") and first[1:] in self.versions:
            return self.version(first[1:]).file(rest)
        return self.version().file(path)

    def open(self, path: str) -> RemoteFile:
        """The file at a path, opened: see `file` and `RemoteFile`."""
        return self.file(path).open()

    def close(self) -> None:
        """Close what this process has open. The next use opens it again."""
        self._connection.close()

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, tuple[Connection]]:
        return _of, (self._connection,)

    def __repr__(self) -> str:
        where = self.config.endpoint_url or self.config.region
        return f"<vbnfs.Dataset {self.config.project} in {self.config.bucket}, {where}>"


def _of(connection: Connection) -> Dataset:
    dataset = Dataset.__new__(Dataset)
    dataset._connection = connection
    return dataset


def _text(value: object) -> str:
    """A setting as the command line has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
