"""A file of a dataset version, before it is opened."""

import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbnfs.access.opening import url_of
from vbnfs.access.paths_in_use import PathsInUse
from vbnfs.access.wanted import Wanted
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.extras import required
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import ShowProgress
from vbnfs.api.remote_file import RemoteFile
from vbnfs.api.working_sets import bring
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile, DatasetVersion
from vbnfs.dataset.names import MANIFESTS

if TYPE_CHECKING:
    import h5py
    import pynwb


@dataclass(frozen=True, repr=False)
class File:
    """A file. It can be pickled, and compared; it holds nothing open.

    `connection` and `entry` are vbnfs's own. Methods raise `OSError` where S3 does not give what is needed.

    >>> file = vbnfs.Dataset().latest.file("units.csv")
    >>> file
    <vbnfs.File v0.5.0/project_metadata/units.csv>
    >>> file.name, file.kind, file.size, len(file.hash)
    ('units.csv', 'tables', 116, 128)

    `dataset_version` is the version that it was found in, as `0.5.0`.
    """

    connection: Connection = field(compare=False)
    entry: DataFile
    dataset_version: str

    def __repr__(self) -> str:
        return f"<vbnfs.File {DatasetVersion(self.dataset_version).folder}/{self.path}>"

    @property
    def path(self) -> str:
        """Its path in the dataset version, as `project_metadata/units.csv`.

        >>> vbnfs.Dataset().latest.file("units.csv").path
        'project_metadata/units.csv'
        """
        return "/".join(self.entry.path)

    @property
    def place(self) -> str:
        """Where it is in a mount, in whichever version: `manifests/v0.5.0/project_metadata/units.csv`.

        >>> vbnfs.Dataset().latest.file("units.csv").place
        'manifests/v0.5.0/project_metadata/units.csv'
        """
        return f"{MANIFESTS}/{DatasetVersion(self.dataset_version).folder}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of its path.

        >>> vbnfs.Dataset().latest.file("project_metadata/units.csv").name
        'units.csv'
        """
        return self.entry.path[-1]

    @property
    def kind(self) -> str:
        """`sessions`, `LFP`, `behavior-only`, `tables` or `other`, by its name.

        >>> vbnfs.Dataset().latest.file("probe_probeA_lfp.nwb").kind
        'LFP'
        """
        return kind_of(self.entry.path).kind

    @property
    def hash(self) -> str | None:
        """The blake2b of its bytes as the manifest has it, 128 hex digits; None if it has none.

        >>> file = vbnfs.Dataset().latest.file("units.csv")
        >>> hashlib.blake2b(file.read_bytes()).hexdigest() == file.hash
        True
        """
        return self.entry.file_hash

    @property
    def url(self) -> str:
        """Where any program can fetch it: its URL at S3, with the version id.

        >>> vbnfs.Dataset().latest.file("units.csv").url.partition("?versionId=")[0].rpartition("/")[2]
        'units.csv'
        """
        return url_of(self.connection.config, self.entry.version)

    @property
    def size(self) -> int:
        """How many bytes it has. S3 is asked where no listing has said it.

        >>> vbnfs.Dataset().latest.file("units.csv").size
        116
        """
        with as_os_errors(self.path):
            return self.connection.run(_size_bytes, self.entry)

    @property
    def cached_bytes(self) -> int:
        """How many of its bytes are in the cache.

        >>> file = vbnfs.Dataset().latest.file("units.csv")
        >>> file.prefetch()
        >>> file.cached_bytes
        116
        """
        with as_os_errors(self.path):
            return self.connection.run(_cached_bytes, self.entry)

    @property
    def local_path(self) -> Path | None:
        """Where all of it stands in the cache, checked; None unless it is whole, and checked by this process.

        With the setting `trust_cache` an earlier check counts. Open it soon: the cache may evict the file.

        >>> file = vbnfs.Dataset().latest.file("units.csv")
        >>> file.prefetch()
        >>> file.local_path.name, file.local_path.stat().st_size
        ('data', 116)
        """
        with as_os_errors(self.path):
            return self.connection.run(_local_path, self.entry)

    def open(self) -> RemoteFile:
        """The file, opened: to be read from, closed, and used by several threads.

        >>> with vbnfs.Dataset().latest.file("units.csv").open() as file:
        ...     file.read_at(0, 7)
        b'unit_id'
        """
        return RemoteFile(self.connection, self.entry)

    def read_bytes(self) -> bytes:
        """All bytes of it.

        >>> vbnfs.Dataset().latest.file("units.csv").read_bytes().count(b",")
        12
        """
        with self.open() as file:
            return file.read()

    def prefetch(self, *, progress: ShowProgress = None) -> None:
        """Bring all of it into the cache, and have it checked: see `Version.prefetch`.

        >>> vbnfs.Dataset().latest.file("units.csv").prefetch()
        """
        wanted = Wanted((self.place,), dataset_version=self.dataset_version)
        bring(self.connection, wanted, self.dataset_version, progress=progress)

    def h5(self) -> "h5py.File":
        """The file, opened by h5py for reading: by its path in the cache if it has one, else through the cache.

        What is known of its structure comes at once, before h5py asks for it. A file that has a path is not evicted
        while it is open. Raises `ImportError` where h5py is missing, `OSError` for what is no HDF5 file.

        >>> with vbnfs.Dataset().session(1044385384).lfp("probeA").h5() as file:
        ...     file["data"].shape
        (2500, 4)
        """
        h5py: Any = required("h5py", "h5")
        with as_os_errors(self.path):
            held = self.connection.run(_held_path, self.entry)
        if held is not None:
            path, number, in_use = held
            with suppress(OSError):  # evicted in this moment: it is fetched
                file: h5py.File = h5py.File(path, "r")
                weakref.finalize(file, in_use.let_go, number).atexit = False
                return file
            in_use.let_go(number)
        opened = self.open()
        opened.expect_structure()
        return h5py.File(opened, "r")

    def nwb(self) -> "pynwb.NWBFile":
        """The file as pynwb reads it: what is large is read when it is used. It stays open as long as it is used.

        Raises `ImportError` where pynwb is missing.

        >>> vbnfs.Dataset().session(1044385384).file.nwb().session_description
        'a small session'
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


async def _held_path(parts: Parts, entry: DataFile) -> tuple[Path, int, PathsInUse] | None:
    held = await parts.files.held_path(await parts.files.content(entry))
    return None if held is None else (*held, parts.files.in_use)
