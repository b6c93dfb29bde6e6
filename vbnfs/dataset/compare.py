"""What changed between two dataset versions, by their manifests (pure).

There are two functions with different rules:

`compare`         for people. Every file of both versions is reported once: a file that moved is `renamed`, a second
                  copy of one is `created`, and applying the changes to the old version gives the new one.
`allensdk_text`   for scripts: exactly the text of AllenSDK's compare_manifests
                  (allensdk/api/cloud_cache/cloud_cache.py). It compares metadata and data separately. Of several
                  files with one hash, the one whose key in the manifest is last as text is the target of every
                  renaming. A new name for a hash that the old version has is not reported.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from urllib.parse import urlparse

from vbnfs.dataset.manifest import DataFile, Entry, Manifest, entries_of
from vbnfs.errors import ManifestError

Place = tuple[str, ...]


class Kind(StrEnum):
    """What happened to a file, in the order of the report."""

    CHANGED = "changed"
    RENAMED = "renamed"
    CREATED = "created"
    DELETED = "deleted"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of one version or of both: `old` is None for a created one, `new` for a deleted one.

    `is_table`: every manifest that has the file lists it as metadata.
    """

    kind: Kind
    old: DataFile | None
    new: DataFile | None
    is_table: bool

    @property
    def place(self) -> Place:
        """Its path; of a renamed file, the old one."""
        file = self.old or self.new
        assert file is not None
        return file.path


@dataclass(frozen=True)
class Comparison:
    """All files of two versions, each once, by kind and then by path."""

    old: Manifest
    new: Manifest
    files: tuple[FileChange, ...]

    @cached_property
    def changes(self) -> tuple[FileChange, ...]:
        """All that are not the same in both."""
        return tuple(file for file in self.files if file.kind is not Kind.SAME)


def compare(old: Manifest, new: Manifest, *, bucket: str) -> Comparison:
    """The change of every file from `old` to `new`.

    Two files have the same bytes if their content ids in `bucket` are equal. If several files with the same bytes
    moved, old and new names are paired in their order.
    """
    before, after = _by_path(old), _by_path(new)
    files = [_stayed(before[path], after[path]) for path in before.keys() & after.keys()]
    gone = [before[path] for path in sorted(before.keys() - after.keys())]
    come = [after[path] for path in sorted(after.keys() - before.keys())]
    files += _moved(gone, come, bucket)
    order = {kind: place for place, kind in enumerate(Kind)}
    changes = [
        FileChange(kind, was, now, all(file.is_table for file in (was, now) if file is not None))
        for kind, was, now in files
    ]
    return Comparison(old, new, tuple(sorted(changes, key=lambda file: (order[file.kind], file.place))))


_Pair = tuple[Kind, DataFile | None, DataFile | None]


def _by_path(manifest: Manifest) -> Mapping[Place, DataFile]:
    return {file.path: file for file in manifest.files}


def _stayed(old: DataFile, new: DataFile) -> _Pair:
    return Kind.SAME if new.has_bytes_of(old) else Kind.CHANGED, old, new


def _moved(gone: Iterable[DataFile], come: Iterable[DataFile], bucket: str) -> Iterator[_Pair]:
    """Pair the names that only one version has, by content."""
    targets: defaultdict[str, list[DataFile]] = defaultdict(list)
    for file in come:
        targets[file.content_id(bucket)].append(file)
    for file in gone:
        same = targets.get(file.content_id(bucket))
        yield (Kind.RENAMED, file, same.pop(0)) if same else (Kind.DELETED, file, None)
    for left in targets.values():
        yield from ((Kind.CREATED, None, file) for file in left)


# AllenSDK's text


def allensdk_text(old: Manifest, new: Manifest) -> str:
    """The text that `compare_manifests` of AllenSDK 2.16.2 returns for two manifests in its cache directory.

    Raises `ManifestError` for an entry without a `file_hash`: AllenSDK fails on it.
    """
    lines: list[str] = []
    for is_metadata in (True, False):
        lines += _allensdk_changes(_hashes(old, is_metadata), _hashes(new, is_metadata))
    if not lines:
        return "The two manifests are equivalent"
    return f"Changes going from\n{old.file_name}\nto\n{new.file_name}\n\n" + "".join(f"{line}\n" for line in lines)


def _hashes(manifest: Manifest, is_metadata: bool) -> dict[str, str]:
    """Hashes by name, in AllenSDK's order: that of the entries' keys as text."""
    entries = [entry for entry in entries_of(manifest) if entry.is_metadata is is_metadata]
    return {_allensdk_name(e): _hash(e, manifest) for e in sorted(entries, key=lambda e: e.name)}


def _allensdk_name(entry: Entry) -> str:
    return urlparse(entry.url).path[1:].partition("/")[2]


def _hash(entry: Entry, manifest: Manifest) -> str:
    if entry.file_hash is None:
        raise ManifestError(
            f"{manifest.file_name}: entry {entry.name!r} has no file_hash, without which AllenSDK compares nothing;"
            " 'vbnfs diff' without --format does"
        )
    return entry.file_hash


def _allensdk_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    old_hashes = set(old.values())
    last_name = {file_hash: name for name, file_hash in new.items()}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            if new[name] not in old_hashes:
                yield f"{name} created"
        elif name in new:
            if old[name] != new[name]:
                yield f"{name} changed"
        elif old[name] in last_name:
            yield f"{name} renamed {last_name[old[name]]}"
        else:
            yield f"{name} deleted"
