"""A file of a dataset version, before it is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbnfs.access.opening import url_of
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.extras import required
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.remote_file import RemoteFile
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile

if TYPE_CHECKING:
    import h5py
    import pynwb


@dataclass(frozen=True)
class File:
    """A file. It can be pickled, and compared; it holds nothing open.

    `connection` and `entry` are vbnfs's own. Methods raise `OSError` where S3 does not give what is needed.
    """

    connection: Connection = field(repr=False, compare=False)
    entry: DataFile = field(repr=False)
    dataset_version: str

    @property
    def path(self) -> str:
        """Its path in the dataset version, as `project_metadata/units.csv`."""
        return "/".join(self.entry.path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.entry.path[-1]

    @property
    def kind(self) -> str:
        """`sessions`, `LFP`, `behavior-only`, `tables` or `other`, by its name."""
        return kind_of(self.entry.path).kind

    @property
    def hash(self) -> str | None:
        """The blake2b of its bytes as the manifest has it, 128 hex digits; None if it has none."""
        return self.entry.file_hash

    @property
    def url(self) -> str:
        """Where any program can fetch it: its URL at S3, with the version id."""
        return url_of(self.connection.config, self.entry.version)

    @property
    def size(self) -> int:
        """How many bytes it has. S3 is asked where no listing has said it."""
        with as_os_errors(self.path):
            return self.connection.run(_size_bytes, self.entry)

    @property
    def cached_bytes(self) -> int:
        """How many of its bytes are in the cache."""
        with as_os_errors(self.path):
            return self.connection.run(_cached_bytes, self.entry)

    @property
    def local_path(self) -> Path | None:
        """Where all of it stands in the cache, checked; None unless it is whole, and checked by this process.

        With the setting `trust_cache` an earlier check counts. Open it soon: the cache may evict the file.
        """
        with as_os_errors(self.path):
            return self.connection.run(_local_path, self.entry)

    def open(self) -> RemoteFile:
        """The file, opened: to be read from, closed, and used by several threads."""
        return RemoteFile(self.connection, self.entry)

    def read_bytes(self) -> bytes:
        """All bytes of it."""
        with self.open() as file:
            return file.read()

    def prefetch(self) -> None:
        """Bring all of it into the cache: by a mount on the same cache if there is one."""
        with as_os_errors(self.path):
            self.connection.run(prefetch, [self.entry])

    def h5(self) -> "h5py.File":
        """The file, opened by h5py for reading: by its path in the cache if it has one, else through the cache.

        Raises `ImportError` where h5py is missing.
        """
        h5py: Any = required("h5py", "h5")
        path = self.local_path
        opened: h5py.File = h5py.File(self.open() if path is None else path, "r")
        return opened

    def nwb(self) -> "pynwb.NWBFile":
        """The file as pynwb reads it: what is large is read when it is used. It stays open as long as it is used.

        Raises `ImportError` where pynwb is missing.
        """
        pynwb: Any = required("pynwb", "nwb")
        reader = pynwb.NWBHDF5IO(file=self.h5(), mode="r", load_namespaces=True)
        found: pynwb.NWBFile = reader.read()
        return found


async def _size_bytes(parts: Parts, entry: DataFile) -> int:
    return (await parts.files.content(entry)).size_bytes


async def _cached_bytes(parts: Parts, entry: DataFile) -> int:
    return await parts.files.cached_bytes(await parts.files.content(entry))


async def _local_path(parts: Parts, entry: DataFile) -> Path | None:
    return await parts.files.checked_path(await parts.files.content(entry))


async def prefetch(parts: Parts, entries: Sequence[DataFile]) -> None:
    """Bring all of some files into the cache, in this order, and have them checked."""
    contents = [await parts.files.content(entry) for entry in entries]
    await parts.files.fill(contents)
