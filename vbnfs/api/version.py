"""A dataset version: its tables as pandas frames, its files, its sessions."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import index
from os import PathLike
from typing import TYPE_CHECKING, SupportsInt

import pandas as pd
import trio

from vbnfs.access.finding import Asked, Finder
from vbnfs.access.wanted import Wanted
from vbnfs.api.arguments import path_text, session_number, text, texts
from vbnfs.api.choosing import QUERY, Files, Lfp, conditions_of, lfp_text, places_of, wanted_of
from vbnfs.api.citation import Citation
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.difference import Difference
from vbnfs.api.files import File
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import ShowProgress
from vbnfs.api.working_sets import bring, cite, compare, pin_name, verify_files
from vbnfs.dataset.kinds import BEHAVIOR, LFP, SESSION, WantedLfp, kind_of
from vbnfs.dataset.manifest import Manifest, tables_of
from vbnfs.dataset.tree_builder import flat_names
from vbnfs.errors import DatasetError
from vbnfs.suggestions import near_paths
from vbnfs.tables.frames import as_allensdk
from vbnfs.tables.query import parse_query

if TYPE_CHECKING:
    import h5py
    import pynwb


class Version:
    """A version of the dataset, from `Dataset.version`. It never changes.

    Tables come through the cache, are held against their hashes, and read once. A frame is yours to change.

    >>> version = vbnfs.Dataset().version("0.5.0")
    >>> version.name, len(version.files), len(version.sessions)
    ('0.5.0', 7, 2)
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
        """Its name, as `0.5.0`.

        >>> vbnfs.Dataset().latest.name
        '0.5.0'
        """
        return self._manifest.dataset_version.text

    @cached_property
    def files(self) -> Sequence[File]:
        """Its files, in the manifest's order.

        >>> {file.kind for file in vbnfs.Dataset().latest.files} == {"sessions", "LFP", "tables"}
        True
        """
        return [File(self._connection, entry, self.name) for entry in self._manifest.files]

    @property
    def sessions(self) -> pd.DataFrame:
        """Sessions with recordings, a row each, by `ecephys_session_id`: AllenSDK's get_ecephys_session_table().

        AllenSDK leaves sessions with abnormal histology or activity out unless it is asked for them; they are here.

        >>> vbnfs.Dataset().latest.sessions["experience_level"].tolist()
        ['Novel', 'Familiar']
        """
        return self.table("ecephys_sessions")

    @property
    def behavior_sessions(self) -> pd.DataFrame:
        """All sessions of behavior, by `behavior_session_id`: AllenSDK's get_behavior_session_table().

        >>> vbnfs.Dataset().latest.behavior_sessions.index.name
        'behavior_session_id'
        """
        return self.table("behavior_sessions")

    @property
    def probes(self) -> pd.DataFrame:
        """Probes, by `ecephys_probe_id`: AllenSDK's get_probe_table().

        >>> vbnfs.Dataset().latest.probes["name"].tolist()
        ['probeA']
        """
        return self.table("probes")

    @property
    def channels(self) -> pd.DataFrame:
        """Channels, by `ecephys_channel_id`: AllenSDK's get_channel_table().

        >>> vbnfs.Dataset().latest.channels["structure_acronym"].tolist()
        ['VISp', 'CA1']
        """
        return self.table("channels")

    @property
    def units(self) -> pd.DataFrame:
        """Units, by `unit_id`: AllenSDK's get_unit_table().

        >>> units = vbnfs.Dataset().latest.units
        >>> units[units["snr"] > 2].index.tolist()
        [11, 12]
        """
        return self.table("units")

    @property
    def tables(self) -> list[str]:
        """The names of its tables.

        >>> vbnfs.Dataset().latest.tables
        ['behavior_sessions', 'channels', 'ecephys_sessions', 'probes', 'units']
        """
        return sorted(tables_of(self._manifest))

    def table(self, name: str) -> pd.DataFrame:
        """Any table by its name, with AllenSDK's index and types.

        Raises `TablesError`, which names tables that are near, and `OSError` where it cannot be had.

        >>> vbnfs.Dataset().latest.table("units").shape
        (3, 3)
        """
        with as_os_errors(name):
            return self._connection.run(_table, self._manifest, text(name, "a table", "units"))

    def find(
        self,
        table: str,
        query: str | None = None,
        *,
        having: Mapping[str, str] | None = None,
        columns: str | Sequence[str] | None = None,
        sort: str | Sequence[str] = (),
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Rows of a table for which `query` holds; `having`: queries on other tables, whose rows belong to these.

        `table`: one of `tables`, or `sessions` for short. The language is that of `vbnfs sessions --query`
        (docs/finding.md). `sort`: columns, `-name` from large to small. `limit`: at most so many rows. The frame has
        the columns of the table's file, or `columns`, and a plain index. Sessions and probes have some of their files
        besides: `files`, `size_bytes`, `cached_bytes`, `whole_bytes`, `pinned_bytes`. Raises `UsageError`, which says
        what of a query is wrong, and where.

        >>> version = vbnfs.Dataset().latest
        >>> novel = {"sessions": "experience_level == 'Novel'"}
        >>> version.find("units", "snr > 1", having=novel, sort=["-snr"])["unit_id"].tolist()
        [11, 10]
        """
        limit = None if limit is None else index(limit)
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}, and can be 0 or more")
        with as_os_errors(text(table, "a table", "units")):
            conditions = {name: parse_query(condition) for name, condition in conditions_of(having).items()}
            rows = None if query is None else parse_query(text(query, "a query", QUERY))
            order = texts(sort, "a column", "-snr")
            wanted = None if columns is None else texts(columns, "a column", "snr")
            return self._connection.run(_find, self._manifest, table, Asked(rows, conditions, order, wanted, limit))

    def file(self, path: str | PathLike[str]) -> File:
        """A file by its path, also that in `ecephys_sessions`; by its name alone where only one has that.

        Raises `FileNotFoundError`, which names those that are near.

        >>> vbnfs.Dataset().latest.file("units.csv").path
        'project_metadata/units.csv'
        """
        name = path_text(path).strip("/")
        wanted = tuple(name.split("/"))
        flat = dict(flat_names([file.entry for file in self.files])).get(wanted)
        found = [file for file in self.files if file.entry is flat or file.entry.path[-len(wanted) :] == wanted]
        exact = [file for file in found if file.entry.path == wanted]
        if len(exact or found) == 1:
            return (exact or found)[0]
        names = [file.path for file in found] or near_paths(name, [file.path for file in self.files])
        hint = f"; near it: {', '.join(names[:3])}" if names else ""
        count = f"{len(found):,} files" if found else "no file"
        raise FileNotFoundError(f"dataset version {self.name} has {count} {name!r}{hint}")

    def session(self, session_id: SupportsInt | str) -> "Session":
        """A session by its id: `ecephys_session_id`, or the `behavior_session_id` of one without recordings.

        Raises `KeyError` for an id that no file has, `ValueError` for what is no number.

        >>> vbnfs.Dataset().latest.session(1044385384)
        <vbnfs.Session 1044385384: ecephys_session_1044385384.nwb, probe_probeA_lfp.nwb>
        """
        wanted = session_number(session_id)
        own = [file for file in self.files if kind_of(file.entry.path).session_id == wanted]
        if not any(kind_of(file.entry.path).kind in {SESSION, BEHAVIOR} for file in own):
            raise KeyError(
                f"dataset version {self.name} has no session {wanted}; its ids are the index of .sessions, and of"
                " .behavior_sessions for those without recordings"
            )
        return Session(wanted, own)

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
        """Bring files into the cache, as a whole, and have each checked. A mount on the same cache fetches for it.

        `files`: a file of this version, the path of a file or folder in it, or several. `sessions` and
        `behavior_only` are queries, or `all`: the files of sessions with and without recordings that match, and the
        tables. `having`: of the recorded ones those to which rows of other tables belong that match. `lfp`: True,
        False, or probes, as `A,B` or a list.

        `progress` None: a line says how far it is, in notebooks and on terminals. False: nothing does. A function is
        called with a `Progress` some times a second.

        Returns what became of the files, as `verify` does. Raises `CacheError` where there is no room for all of
        them, before anything is fetched; `NotVerifiedError` where one cannot be had, is wrong, or was not kept.

        >>> version = vbnfs.Dataset().latest
        >>> version.prefetch(["project_metadata/units.csv"])["outcome"].tolist()
        ['good']
        >>> version.prefetch(sessions="experience_level == 'Novel'", lfp="A")["size_bytes"].gt(0).all().item()
        True
        """
        chosen = wanted_of(files, self.name, sessions, behavior_only, having, lfp)
        return bring(self._connection, chosen, self.name, progress=progress)

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
        """Fetch files of this version, and keep them: no process evicts what the pin `name` holds.

        `note`: what it is for. The rest is as in `prefetch`. `Dataset.pins` lists pins, and `Dataset.unpin` takes
        them away. Raises `PinError` for a pin that holds something else.

        >>> dataset = vbnfs.Dataset()
        >>> dataset.version("0.4.0").pin("old", ["project_metadata"])["outcome"].unique().tolist()
        ['good']
        >>> dataset.unpin("old")
        """
        chosen = wanted_of(files, self.name, sessions, behavior_only, having, lfp)
        return bring(self._connection, chosen, self.name, pin=pin_name(name), note=note, progress=progress)

    def verify(
        self, files: Files | None = None, *, fetch: bool = False, progress: ShowProgress = None
    ) -> pd.DataFrame:
        """Hash files of this version that are in the cache (without `files`, all), and compare with the manifest.

        With `fetch` what is missing is fetched, and what is wrong fetched again. What does not match leaves the
        cache, and reads of it fail until it was fetched again and matches. Returns a row for each file, by `path`:

        `outcome`     `good`, `not complete`, `mismatch`, `no hash`, `not kept`, `failed`
        `size_bytes`  of the file
        `detail`      the reason, where there is one

        Raises `CacheError` where what is to be fetched has no room, and `ValueError` for a list without files.

        >>> vbnfs.Dataset().latest.verify(["project_metadata"], fetch=True)["outcome"].unique().tolist()
        ['good']
        """
        paths = places_of("" if files is None else files, self.name)
        if not paths:
            raise ValueError("no files are named: leave them out for all of the version")
        return verify_files(self._connection, paths, is_fetched=fetch, progress=progress)

    def diff(self, old: str | None = None, *, tables: bool = True) -> Difference:
        """What changed from version `old` (None: the one before) to this one: see `Dataset.diff`.

        >>> vbnfs.Dataset().latest.diff(tables=False).totals["files"].sum().item()
        7
        """
        return compare(self._connection, old, self.name, with_tables=tables)

    def cite(
        self,
        files: Files = (),
        *,
        sessions: str | None = None,
        behavior_only: str | None = None,
        having: Mapping[str, str] | None = None,
        lfp: Lfp = "no",
    ) -> Citation:
        """What is to be said in a paper of files of this version, which are chosen as in `prefetch`.

        >>> len(vbnfs.Dataset().latest.cite(sessions="all", lfp="yes").files)
        7
        """
        chosen = wanted_of(files, self.name, sessions, behavior_only, having, lfp)
        return cite(self._connection, chosen, self.name)


class Session:
    """The files of a session, from `Version.session`.

    >>> session = vbnfs.Dataset().session(1044385384)
    >>> session.session_id, session.file.path
    (1044385384, 'behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb')
    >>> session.files  # its own, and the LFP of its probes
    [<vbnfs.File v0.5.0/...session_1044385384.nwb>, <vbnfs.File v0.5.0/...probe_probeA_lfp.nwb>]
    """

    def __init__(self, session_id: int, files: Sequence[File]) -> None:
        self.session_id = session_id
        self.files = list(files)

    def __repr__(self) -> str:
        return f"<vbnfs.Session {self.session_id}: {', '.join(file.name for file in self.files)}>"

    @property
    def file(self) -> File:
        """Its NWB file.

        >>> vbnfs.Dataset().session(1044385384).file.kind
        'sessions'
        """
        return next(file for file in self.files if kind_of(file.entry.path).kind in {SESSION, BEHAVIOR})

    def h5(self) -> "h5py.File":
        """Its NWB file, opened by h5py: see `File.h5`.

        >>> with vbnfs.Dataset().session(1044385384).h5() as file:
        ...     file["units/spike_times"][:3].tolist()
        [0.0, 0.5, 1.0]
        """
        return self.file.h5()

    def nwb(self) -> "pynwb.NWBFile":
        """Its NWB file as pynwb reads it: see `File.nwb`.

        >>> vbnfs.Dataset().session(1044385384).nwb().identifier
        '1044385384'
        """
        return self.file.nwb()

    @property
    def probes(self) -> list[str]:
        """The probes of which there is LFP, as `probeA`.

        >>> vbnfs.Dataset().session(1044385384).probes
        ['probeA']
        """
        return [f"probe{kind_of(file.entry.path).probe}" for file in self.files if file.kind == LFP]

    def lfp(self, probe: str) -> File:
        """The LFP file of a probe: `probeA`, or `A`. Raises `KeyError`, which names those that there are.

        >>> vbnfs.Dataset().session(1044385384).lfp("A").name
        'probe_probeA_lfp.nwb'
        """
        wanted = text(probe, "a probe", "probeA").removeprefix("probe").upper()
        for file in self.files:
            if kind_of(file.entry.path).probe == wanted:
                return file
        raise KeyError(f"session {self.session_id} has no LFP of {probe}; it has {', '.join(self.probes) or 'none'}")

    def prefetch(self, *, lfp: Lfp = "no", progress: ShowProgress = None) -> pd.DataFrame:
        """Bring its files into the cache: see `Version.prefetch`. `lfp`: True, False, or probes as `A,B`.

        >>> vbnfs.Dataset().session(1044385384).prefetch(lfp="yes")["outcome"].tolist()
        ['good', 'good']
        """
        return bring(self._connection, self._wanted(lfp), self.file.dataset_version, progress=progress)

    def pin(
        self, name: str, *, lfp: Lfp = "no", note: str | None = None, progress: ShowProgress = None
    ) -> pd.DataFrame:
        """Fetch its files, and keep them: see `Version.pin`.

        >>> dataset = vbnfs.Dataset()
        >>> _ = dataset.session(1044385384).pin("mine")
        >>> dataset.pins.index.tolist()
        ['mine']
        >>> dataset.unpin("mine")
        """
        version = self.file.dataset_version
        return bring(self._connection, self._wanted(lfp), version, pin=pin_name(name), note=note, progress=progress)

    def verify(self, *, lfp: Lfp = "no", fetch: bool = False, progress: ShowProgress = None) -> pd.DataFrame:
        """Hash its files, and hold them against the manifest: see `Version.verify`.

        >>> vbnfs.Dataset().session(1044385384).verify(fetch=True)["outcome"].tolist()
        ['good']
        """
        return verify_files(self._connection, self._wanted(lfp).paths, is_fetched=fetch, progress=progress)

    def cite(self, *, lfp: Lfp = "no") -> Citation:
        """What is to be said of its files in a paper: see `Version.cite`.

        >>> vbnfs.Dataset().session(1044385384).cite()
        <vbnfs.Citation of 1 file: print() shows it>
        """
        return cite(self._connection, self._wanted(lfp), self.file.dataset_version)

    @property
    def _connection(self) -> Connection:
        return self.file.connection

    def _wanted(self, lfp: Lfp) -> Wanted:
        """Its files, as paths. Raises `ValueError` for `lfp`, `KeyError` for a probe that has none."""
        taken = WantedLfp.parse(lfp_text(lfp))
        for probe in taken.probes or ():
            self.lfp(probe)
        chosen = [file for file in self.files if taken.has(kind_of(file.entry.path))]
        return Wanted(tuple(file.place for file in chosen), dataset_version=self.file.dataset_version)


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
