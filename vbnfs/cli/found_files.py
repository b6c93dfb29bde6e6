"""Files in a folder of this machine that may be files of a dataset: found by walking, recognised by name and size."""

import errno
import os
import stat
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vbnfs.access.versions import Versions
from vbnfs.cache.content_folder import DATA, FORMAT, WHOLE
from vbnfs.dataset.tree_builder import SESSION_NAME, flat_names
from vbnfs.errors import DatasetError
from vbnfs.host.mountinfo import absolute, list_mounts
from vbnfs.objects import Content

_NOWHERE: Final = frozenset({errno.ENOENT, errno.ELOOP})  # where a link may lead
_MOST_LEVELS: Final = 100  # of folders in folders: a walk takes a stack frame for each
_NAME_PARTS: Final = 2  # of a path: a session's folder and file, or project_metadata/units.csv


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file. `content_id` is set if it is a whole file in the cache directory of another vbnfs."""

    path: Path
    size_bytes: int
    content_id: str | None = None


@dataclass(slots=True)
class Found:
    """What is in a folder. `caches` are the cache directories in it; `unreadable` are paths, with the reason."""

    files: list[FoundFile] = field(default_factory=list)
    caches: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def check_folder(folder: Path, *, cache_dir: Path) -> Path:
    """The folder without links in its path. Raises `DatasetError` for one that nothing can be taken from."""
    top = absolute(folder)
    for entry in list_mounts():
        if top.is_relative_to(entry.mountpoint):
            raise DatasetError(
                f"{folder}: in the mount {entry.mountpoint}, which has its files from the cache;"
                f" 'vbnfs verify --fetch {folder}' completes them there"
            )
    if top.is_relative_to(absolute(cache_dir)):
        raise DatasetError(f"{folder}: the cache itself, of which nothing needs to be taken; name another folder")
    if not os.path.lexists(top):
        raise DatasetError(
            f"{folder}: no such folder; name one with files of the dataset, such as AllenSDK's cache_dir"
        )
    return top


def find_files(top: Path, *, leave_out: Set[Path]) -> Found:
    """The files below a folder, each once however many links it has. Links to folders are not followed.

    The folders `leave_out` and mounts of vbnfs are not entered. Of another vbnfs's cache the whole files count.
    """
    found, seen = Found(), set[tuple[int, int]]()
    closed = {entry.mountpoint for entry in list_mounts()} | leave_out

    def note(error: OSError) -> None:
        found.unreadable.append((Path(error.filename), error.strerror or repr(error)))

    if not top.is_dir():
        _add(found, seen, top)
        return found
    for folder, names, files in os.walk(top, onerror=note):
        here = Path(folder)
        names[:] = sorted(name for name in names if here / name not in closed)
        if FORMAT in names:
            found.caches.append(here)
            names.clear()
            for data in sorted((here / FORMAT).glob(f"*/{WHOLE}/*/*/{DATA}")):
                _add(found, seen, data, content_id=data.parent.name)
            continue
        if names and len(here.parts) - len(top.parts) >= _MOST_LEVELS:
            found.unreadable.append((here, "its folders are nested too deeply; name it itself"))
            names.clear()
        for name in sorted(files):
            _add(found, seen, here / name)
    return found


def _add(found: Found, seen: set[tuple[int, int]], path: Path, *, content_id: str | None = None) -> None:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in _NOWHERE:
            return
        found.unreadable.append((path, error.strerror or repr(error)))
        return
    if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
        seen.add((status.st_dev, status.st_ino))
        found.files.append(FoundFile(path, status.st_size, content_id))


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file may be: one of `candidates`, of its size and with a hash. `names` have its name, of any size."""

    candidates: tuple[Content, ...]
    names: tuple[Content, ...]


class Recogniser:
    """The contents of a dataset's versions, by the ends of their paths and by their sizes (pure)."""

    def __init__(self, versions: Versions) -> None:
        self._by_name: dict[tuple[str, ...], dict[str, Content]] = {}
        self._by_size: dict[int, dict[str, Content]] = {}
        self.by_id: dict[str, Content] = {}
        for manifest in versions.release.manifests:
            contents = versions.contents(manifest.files)
            flat = ((path, file) for path, file in flat_names(manifest.files))
            for path, file in (*((file.path, file) for file in manifest.files), *flat):
                content = contents[versions.named.of(file).content_id]
                if content is not None:
                    self._add(path, content)

    def _add(self, path: tuple[str, ...], content: Content) -> None:
        self.by_id[content.content_id] = content
        self._by_size.setdefault(content.size_bytes, {})[content.content_id] = content
        names = [path[-_NAME_PARTS:], *([path[-1:]] if SESSION_NAME.fullmatch(path[-1]) else ())]
        for name in names:
            self._by_name.setdefault(name, {})[content.content_id] = content

    def recognise(self, file: FoundFile) -> Recognised:
        """By name and size, else by size alone."""
        if file.content_id is not None:
            same = self.by_id.get(file.content_id)
            names = {} if same is None else {same.content_id: same}
        else:
            ends = (file.path.parts[-_NAME_PARTS:], file.path.parts[-1:])
            names = next((self._by_name[end] for end in ends if end in self._by_name), {})
        sized = self._by_size.get(file.size_bytes, {})
        candidates = [content for name, content in sized.items() if name in names] or sized.values()
        return Recognised(tuple(c for c in candidates if c.file_hash is not None), tuple(names.values()))


def without_repeats(
    recognised: Mapping[FoundFile, Recognised], is_there: Callable[[Content], bool]
) -> Mapping[FoundFile, Content]:
    """What each file may bring that those before it do not: one content, where there are as many."""
    brought: dict[FoundFile, Content] = {}
    seen = set[str]()
    for file, one in recognised.items():
        for content in one.candidates:
            if content.content_id not in seen and not is_there(content):
                seen.add(content.content_id)
                brought[file] = content
                break
    return brought
