"""The files of a version, a folder at a time, with what of them is cached (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.access.here import Here
from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile, Manifest

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
    """A page of a folder. `above` are the folders on the way, name and path; it has so many `names` in all."""

    above: Sequence[tuple[str, str]]
    entries: Sequence[Entry]
    names: int
    page: int
    pages: int


def folder_at(
    versions: Versions, here: Here, manifest: Manifest, path: str, *, words: str = "", page: int = 1
) -> Folder | None:
    """A folder of a version, by its path ('' is the top); None where there is none.

    `words`: only the names that have all of these in them.
    """
    parts = tuple(part for part in path.split("/") if part)
    inside = [file for file in manifest.files if len(file.path) > len(parts) and file.path[: len(parts)] == parts]
    if not inside:
        return None
    wanted = words.casefold().split()
    found = [file for file in inside if all(word in file.path[len(parts)].casefold() for word in wanted)]
    entries = _entries(versions, here, found, parts)
    pages = max(1, -(-len(entries) // _ROWS))
    page = min(max(1, page), pages)
    above = [(name, "/".join(parts[: number + 1])) for number, name in enumerate(parts)]
    return Folder(above, entries[(page - 1) * _ROWS : page * _ROWS], len(entries), page, pages)


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
