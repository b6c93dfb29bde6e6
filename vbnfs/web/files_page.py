"""The files of a version, a folder at a time, with what of them is cached (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.access.here import Here
from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import LFP, kind_of
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.names import MANIFESTS

_ROWS: Final = 200  # of a page


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a folder with all files below it. `size_bytes` None: S3 gave not all sizes."""

    name: str
    path: str
    is_folder: bool
    files: int = 0
    whole_files: int = 0
    here_bytes: int = 0
    size_bytes: int | None = 0

    def with_file(self, size_bytes: int | None, here_bytes: int, *, is_whole: bool) -> "Entry":
        """The same with one more file."""
        total = None if size_bytes is None or self.size_bytes is None else self.size_bytes + size_bytes
        counts = (self.files + 1, self.whole_files + is_whole, self.here_bytes + here_bytes)
        return Entry(self.name, self.path, self.is_folder, *counts, total)


@dataclass(frozen=True, slots=True)
class Folder:
    """A page of a folder. `above` are the folders on the way, name and path; it has so many `names` in all.

    `has_lfp`: an LFP file is below one of the names.
    """

    above: Sequence[tuple[str, str]]
    entries: Sequence[Entry]
    names: int
    page: int
    pages: int
    has_lfp: bool


def folder_at(
    versions: Versions, here: Here, manifest: Manifest, path: str, *, words: str = "", page: int = 1
) -> Folder | None:
    """A folder of a version, by its path ('' is the top); None where there is none.

    `words`: only the names that have all of these in them.
    """
    parts = _parts(path)
    if not (inside := _inside(manifest, parts)):
        return None
    found = _named(inside, parts, words)
    entries = _entries(versions, here, found, parts)
    pages = max(1, -(-len(entries) // _ROWS))
    page = min(max(1, page), pages)
    above = [(name, "/".join(parts[: number + 1])) for number, name in enumerate(parts)]
    rows, has_lfp = entries[(page - 1) * _ROWS : page * _ROWS], any(kind_of(file.path).kind == LFP for file in found)
    return Folder(above, rows, len(entries), page, pages, has_lfp)


def places_in(manifest: Manifest, path: str, words: str, *, with_lfp: bool) -> list[str]:
    """The places in a mount's tree of what `folder_at` shows on all of its pages: the folder's, where that is all.

    Without LFP its files are not among them; a folder has them all the same.
    """
    parts, top = _parts(path), f"{MANIFESTS}/{manifest.dataset_version.folder}"
    found = _named(_inside(manifest, parts), parts, words)
    if parts and not words.split():
        return [f"{top}/{'/'.join(parts)}"] if found else []
    wanted = (file for file in found if with_lfp or kind_of(file.path).kind != LFP)
    return list(dict.fromkeys(f"{top}/{'/'.join(file.path[: len(parts) + 1])}" for file in wanted))


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _inside(manifest: Manifest, parts: tuple[str, ...]) -> list[DataFile]:
    return [file for file in manifest.files if len(file.path) > len(parts) and file.path[: len(parts)] == parts]


def _named(files: Sequence[DataFile], parts: tuple[str, ...], words: str) -> list[DataFile]:
    """The files whose name in the folder, or whose folder in it, has all of some words in it."""
    wanted = words.casefold().split()
    return [file for file in files if all(word in file.path[len(parts)].casefold() for word in wanted)]


def of_session(manifest: Manifest, session_id: int) -> tuple[str, str] | None:
    """The folder of a session's files, and the words that choose them in it; None for one that has none."""
    found = next((file for file in manifest.files if kind_of(file.path).session_id == session_id), None)
    if found is None:
        return None
    parts, text = found.path[:-1], str(session_id)
    return "/".join(parts), "" if text in parts else text


def _entries(versions: Versions, here: Here, files: Sequence[DataFile], parts: tuple[str, ...]) -> list[Entry]:
    """Folders first, then files, by name."""
    found: dict[str, Entry] = {}
    for file in files:
        name, is_folder = file.path[len(parts)], len(file.path) > len(parts) + 1
        size_bytes, content_id = versions.size_bytes(file), versions.named.of(file).content_id
        entry = found.get(name) or Entry(name, "/".join((*parts, name)), is_folder)
        here_bytes = 0 if size_bytes is None else here.bytes_of(content_id, size_bytes)
        found[name] = entry.with_file(size_bytes, here_bytes, is_whole=content_id in here.whole)
    return sorted(found.values(), key=lambda entry: (not entry.is_folder, entry.name))
