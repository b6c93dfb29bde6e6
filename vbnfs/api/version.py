"""A dataset version: its tables as pandas frames, its files, its sessions."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import trio

from vbnfs.access.finding import Asked, Finder
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.files import File, prefetch
from vbnfs.api.os_errors import as_os_errors
from vbnfs.dataset.kinds import BEHAVIOR, LFP, SESSION, kind_of
from vbnfs.dataset.manifest import Manifest
from vbnfs.errors import DatasetError
from vbnfs.tables.columns import near
from vbnfs.tables.frames import as_allensdk
from vbnfs.tables.query import parse_query

if TYPE_CHECKING:
    import h5py
    import pynwb


class Version:
    """A version of the dataset, from `Dataset.version`. It never changes.

    Tables come through the cache, are held against their hashes, and read once. A frame is yours to change.
    """

    def __init__(self, connection: Connection, manifest: Manifest) -> None:
        self._connection = connection
        self._manifest = manifest

    def __reduce__(self) -> tuple[type["Version"], tuple[Connection, Manifest]]:
        return Version, (self._connection, self._manifest)

    def __repr__(self) -> str:
        return f"<vbnfs.Version {self.name}: {len(self.files):,} files>"

    @property
    def name(self) -> str:
        """Its name, as `0.5.0`."""
        return self._manifest.dataset_version.text

    @cached_property
    def files(self) -> Sequence[File]:
        """Its files, in the manifest's order."""
        return [File(self._connection, entry, self.name) for entry in self._manifest.files]

    @property
    def sessions(self) -> pd.DataFrame:
        """Sessions with recordings, a row each, by `ecephys_session_id`: AllenSDK's get_ecephys_session_table().

        AllenSDK leaves sessions with abnormal histology or activity out unless it is asked for them; they are here.
        """
        return self.table("ecephys_sessions")

    @property
    def behavior_sessions(self) -> pd.DataFrame:
        """All sessions of behavior, by `behavior_session_id`: AllenSDK's get_behavior_session_table()."""
        return self.table("behavior_sessions")

    @property
    def probes(self) -> pd.DataFrame:
        """Probes, by `ecephys_probe_id`: AllenSDK's get_probe_table()."""
        return self.table("probes")

    @property
    def channels(self) -> pd.DataFrame:
        """Channels, by `ecephys_channel_id`: AllenSDK's get_channel_table()."""
        return self.table("channels")

    @property
    def units(self) -> pd.DataFrame:
        """Units, by `unit_id`: AllenSDK's get_unit_table()."""
        return self.table("units")

    def table(self, name: str) -> pd.DataFrame:
        """Any table by its name, with AllenSDK's index and types.

        Raises `TablesError`, which names tables that are near, and `OSError` where it cannot be had.
        """
        with as_os_errors(name):
            return self._connection.run(_table, self._manifest, name)

    def find(
        self,
        table: str,
        query: str | None = None,
        *,
        having: dict[str, str] | None = None,
        columns: Sequence[str] | None = None,
        sort: Sequence[str] = (),
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Rows of a table for which `query` holds; `having`: queries on other tables, whose rows belong to these.

        The language is that of `vbnfs sessions --query` (docs/finding.md). `sort`: columns, `-name` from large to
        small. `limit`: at most so many rows. Raises `QueryError`, which says what of a query is wrong, and where.
        """
        conditions = {name: parse_query(text) for name, text in (having or {}).items()}
        asked = Asked(None if query is None else parse_query(query), conditions, tuple(sort), columns, limit)
        with as_os_errors(table):
            return self._connection.run(_find, self._manifest, table, asked)

    def file(self, path: str) -> File:
        """A file by its path, or by its name alone where only one has that. Raises `FileNotFoundError`."""
        wanted = tuple(path.strip("/").split("/"))
        found = [file for file in self.files if file.entry.path[-len(wanted) :] == wanted]
        exact = [file for file in found if file.entry.path == wanted]
        if len(exact or found) == 1:
            return (exact or found)[0]
        names = [file.path for file in found] or near(path, [file.path for file in self.files])
        hint = f"; near it: {', '.join(names[:3])}" if names else ""
        raise FileNotFoundError(f"dataset version {self.name} has {len(found) or 'no'} files {path}{hint}")

    def session(self, session_id: int) -> "Session":
        """A session by its id, with recordings or without. Raises `KeyError`."""
        own = [file for file in self.files if kind_of(file.entry.path).session_id == session_id]
        if not any(kind_of(file.entry.path).kind in {SESSION, BEHAVIOR} for file in own):
            raise KeyError(f"dataset version {self.name} has no session {session_id}; see its .sessions")
        return Session(session_id, own)

    def prefetch(self, files: Sequence[File]) -> None:
        """Bring some of its files into the cache as a whole, in this order."""
        with as_os_errors(self.name):
            self._connection.run(prefetch, [file.entry for file in files])


class Session:
    """The files of a session, from `Version.session`."""

    def __init__(self, session_id: int, files: Sequence[File]) -> None:
        self.session_id = session_id
        self.files = list(files)

    def __repr__(self) -> str:
        return f"<vbnfs.Session {self.session_id}: {', '.join(file.name for file in self.files)}>"

    @property
    def file(self) -> File:
        """Its NWB file."""
        return next(file for file in self.files if kind_of(file.entry.path).kind in {SESSION, BEHAVIOR})

    def h5(self) -> "h5py.File":
        """Its NWB file, opened by h5py: see `File.h5`."""
        return self.file.h5()

    def nwb(self) -> "pynwb.NWBFile":
        """Its NWB file as pynwb reads it: see `File.nwb`."""
        return self.file.nwb()

    @property
    def probes(self) -> list[str]:
        """The probes of which there is LFP, as `probeA`."""
        return [f"probe{kind_of(file.entry.path).probe}" for file in self.files if file.kind == LFP]

    def lfp(self, probe: str) -> File:
        """The LFP file of a probe: `probeA`, or `A`. Raises `KeyError`, which names those that there are."""
        wanted = probe.removeprefix("probe").upper()
        for file in self.files:
            if kind_of(file.entry.path).probe == wanted:
                return file
        raise KeyError(f"session {self.session_id} has no LFP of {probe}; it has {', '.join(self.probes) or 'none'}")


async def _table(parts: Parts, manifest: Manifest, name: str) -> pd.DataFrame:
    tables = parts.tables_of(manifest)
    table = tables.name_of(name)
    loaded = await tables.load(table)
    try:
        return await trio.to_thread.run_sync(as_allensdk, table, loaded)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{table}: {error}") from error


async def _find(parts: Parts, manifest: Manifest, table: str, asked: Asked) -> pd.DataFrame:
    return await Finder(parts.tables_of(manifest)).find(table, asked)
