"""Which files a person wants in the cache: by paths, or by a query of sessions, with LFP or without.

What is wanted can be stored, in a pin, and be found anew in another dataset version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from vbnfs.access.session_files import OpenTables, files_matching
from vbnfs.access.tree_files import asked_files
from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import WantedLfp, kind_of
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import DatasetError, UsageError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `paths` are of the dataset; queries are None where nothing is asked by them.

    `dataset_version` is the one that was asked for; None: the newest. `having` are tables, and a query for each: of
    the sessions that match, those to which such rows belong.
    """

    paths: tuple[str, ...] = ()
    sessions: str | None = None
    behavior_only: str | None = None
    lfp: str = "no"
    dataset_version: str | None = None
    having: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Wanted":
        """What `as_json` gave. Raises `KeyError`, `TypeError`, `ValueError` or `UsageError` for what is none."""
        return cls(
            paths=tuple(map(str, stored["paths"])),
            sessions=_text_or_none(stored["sessions"]),
            behavior_only=_text_or_none(stored["behavior_only"]),
            lfp=str(stored["lfp"]),
            dataset_version=_text_or_none(stored["dataset_version"]),
            having=tuple((str(table), str(query)) for table, query in stored["having"]),
        ).check()

    def as_json(self) -> dict[str, Any]:
        """As a pin stores it."""
        return {
            "paths": list(self.paths),
            "sessions": self.sessions,
            "behavior_only": self.behavior_only,
            "lfp": self.lfp,
            "dataset_version": self.dataset_version,
            "having": [list(pair) for pair in self.having],
        }

    def in_version(self, dataset_version: str | None) -> "Wanted":
        """The same in another version (None: the newest): also what was named in the folder of a version."""
        return replace(self, paths=tuple(map(_without_version, self.paths)), dataset_version=dataset_version)

    def check(self) -> "Wanted":
        """Raise `UsageError` where nothing is asked for, or it cannot be understood; else return it."""
        if not self.paths and self.sessions is None and self.behavior_only is None:
            raise UsageError(
                "nothing is named: name files, folders or a version, or --sessions QUERY ('all' for every session)"
            )
        if self.having and self.sessions is None:
            raise UsageError("--having-... chooses among sessions: add --sessions QUERY ('all' for every session)")
        parsed_lfp(self.lfp)
        return self


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is no text")
    return value


@dataclass(frozen=True, slots=True)
class Found:
    """The files that are wanted, by name, each once; and the LFP files that were left out."""

    dataset_version: str
    files: Sequence[tuple[str, DataNode]]
    left_out: Sequence[DataNode]


def parsed_lfp(text: str) -> WantedLfp:
    """What `--lfp` means. Raises `UsageError`."""
    try:
        return WantedLfp.parse(text)
    except ValueError as error:
        raise UsageError(f"--lfp {text}: {error}") from error


async def find(versions: Versions, wanted: Wanted, open_tables: OpenTables) -> Found:
    """The files that are wanted. `versions` has the version that is asked for as its default.

    Queries are of the tables that `open_tables` opens.
    Raises `DatasetError` where there is none, `UsageError` for a query, `StorageError` if its table cannot be had.
    """
    version = versions.release.choose(versions.dataset.config.dataset_version)
    lfp, named = parsed_lfp(wanted.lfp), set(wanted.paths)
    of_sessions = await _paths_of_sessions(versions, wanted, open_tables)
    paths = [_in_version(path, version) for path in wanted.paths]
    all_paths = [*paths, *of_sessions]
    asked = await trio.to_thread.run_sync(asked_files, versions, all_paths) if all_paths else {}
    files, left_out = dict[int, tuple[str, DataNode]](), dict[int, DataNode]()
    for path, found in asked.items():
        for name, node in found:
            if not isinstance(node, DataNode):
                continue
            if (path in named and len(found) == 1) or lfp.has(kind_of(name.split("/"))):
                files.setdefault(node.inode, (name, node))
            else:
                left_out[node.inode] = node
    if lfp.probes and left_out and not any(_probe_of(name) in lfp.probes for name, _ in files.values()):
        there = sorted({_probe_of(name) for found in asked.values() for name, _ in found} - {""})
        raise UsageError(f"--lfp {wanted.lfp}: there is LFP of {', '.join(there)} in what is named")
    if not files:
        raise DatasetError(_nothing_text(str(version), wanted, len(left_out)))
    return Found(str(version), list(files.values()), [node for inode, node in left_out.items() if inode not in files])


def _probe_of(name: str) -> str:
    """The probe of an LFP file; nothing for any other file."""
    return kind_of(name.split("/")).probe or ""


async def _paths_of_sessions(versions: Versions, wanted: Wanted, open_tables: OpenTables) -> list[str]:
    if wanted.sessions is None and wanted.behavior_only is None:
        return []
    manifest = versions.manifest(versions.dataset.config.dataset_version)
    queries = {"sessions": wanted.sessions, "behavior_only": wanted.behavior_only}
    chosen = await files_matching(manifest, open_tables, **queries, having=dict(wanted.having))
    return [f"{MANIFESTS}/{manifest.dataset_version.folder}/{'/'.join(file.path)}" for file in chosen]


def _nothing_text(version: str, wanted: Wanted, left_out: int) -> str:
    if left_out:
        return f"{version}: nothing to fetch: all that is named is LFP, which is left out: '--lfp yes' takes it"
    if wanted.sessions is not None or wanted.behavior_only is not None:
        return f"{version}: nothing to fetch: no session matches; 'vbnfs sessions --query ...' shows what does"
    return f"{version}: nothing to fetch: what is named is none of the released files"


def _in_version(path: str, version: DatasetVersion) -> str:
    """A path; for that of the top, the folder of the version that is there: the top has all other versions, too."""
    is_top = not [part for part in path.split("/") if part not in {"", "."}]
    return f"{MANIFESTS}/{version.folder}" if is_top else path


def _without_version(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(parts[2:]) or "." if parts[:1] == [MANIFESTS] and len(parts) > 1 else path


def paths_by_content(versions: Versions, dataset_version: str) -> dict[str, str]:
    """The places of files in a dataset version, by the id of their content, as far as that has a known size."""
    manifest = versions.manifest(dataset_version)
    sizes, found = versions.dataset.catalog.sizes, dict[str, str]()
    for file in manifest.files:
        named = versions.named.of(file)
        if (attributes := sizes.get(named)) is not None:
            found[named.with_attributes(attributes).content_id] = "/".join(file.path)
    return found
