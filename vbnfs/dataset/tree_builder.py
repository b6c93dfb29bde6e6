"""From manifests to the tree that a mount shows (pure).

    README.txt, and markers for programs (see markers.py)
    manifests/v0.4.0/<manifest>.json, <path of every file>, ecephys_sessions/ecephys_session_<id>.nwb
    manifests/v0.5.0/...
    manifests/latest -> v0.5.0
    <the default version's folders once more>
    allensdk/...                                        cache directories for AllenSDK (see allensdk.py)
    by/...                                              sessions by what a table says of them (see browsing.py)

An inode number is a hash of the inode's identity (a content's id; the path of a folder, or of a file of vbnfs's own),
so that it is the same in every mount on every host, and one content is one inode under all its names. It has 53 bits:
a larger number loses digits as a double (IEEE 754), which is what R, JavaScript and MATLAB have for it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from vbnfs.dataset.allensdk import (
    ALLENSDK,
    DOWNLOADED,
    LAST_USED,
    RESOURCES,
    STATIC,
    has_resources,
    is_taken_for_a_manifest,
    release_folders,
)
from vbnfs.dataset.browsing import BY, README_TEXT, Folders, table_of
from vbnfs.dataset.contents import Contents, NamedContent
from vbnfs.dataset.manifest import DataFile, DatasetVersion, Manifest
from vbnfs.dataset.markers import MARKERS
from vbnfs.dataset.names import LATEST, MANIFESTS, README
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.objects import ObjectVersion

# Names at the top that vbnfs gives. A release's own files of these names are in its version's folder only.
_OURS: Final = frozenset({README, MANIFESTS, ALLENSDK, BY, *MARKERS})
_GROWING: Final = frozenset({(), (MANIFESTS,), (ALLENSDK,), (ALLENSDK, STATIC), (BY,)})
_NOTHING: Final = b"{}"
FLAT_FOLDER: Final = "ecephys_sessions"  # in which versions without it have links, see `flat_names`
_INODE_BITS: Final = 53
SESSION_NAME: Final = re.compile(r"ecephys_session_\d+\.nwb")


def build_tree(
    manifests: Iterable[Manifest],
    *,
    contents: Contents,
    default_version: DatasetVersion,
    readme: bytes,
    browsed: Folders | None = None,
) -> Tree:
    """The tree of `manifests`, one of which has `default_version`. `contents` are those of their entries.

    `browsed`: the folders below `by`, if they are known by now.
    """
    builder = _Builder(sorted(manifests, key=lambda m: m.dataset_version), contents)
    return builder.build(default_version, readme, browsed)


def flat_names(files: Sequence[DataFile]) -> Iterator[tuple[tuple[str, ...], DataFile]]:
    """The paths of session files in the flat folder, for file names that only one session file has.

    Releases up to 0.3 have their session files there; with these links one path works in every version.
    """
    candidates: dict[str, DataFile | None] = {}
    for file in files:
        if SESSION_NAME.fullmatch(name := file.path[-1]):
            candidates[name] = None if name in candidates else file
    taken = {file.path[:2] for file in files}  # by a file there, or by a folder
    if (FLAT_FOLDER,) in taken:
        return
    for name, session in candidates.items():
        if session is not None and (path := (FLAT_FOLDER, name)) not in taken:
            yield path, session


@dataclass(slots=True)
class _Folder:
    """A folder while it is being filled."""

    path: tuple[str, ...]
    modified_ns: int
    entries: "dict[str, _Folder | int]" = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)

    def subfolder(self, name: str) -> "_Folder":
        entry = self.entries.setdefault(name, _Folder((*self.path, name), self.modified_ns))
        if not isinstance(entry, _Folder):
            raise TypeError(f"{name!r} is a file")  # manifest.py refuses manifests with such a clash
        return entry

    def place(self, path: tuple[str, ...], inode: int) -> None:
        folder = self
        for part in path[:-1]:
            folder = folder.subfolder(part)
        folder.entries[path[-1]] = inode

    def hide(self, name: str) -> None:
        """Leave an entry out of listings."""
        self.unlisted.add(name)


class _Builder:
    def __init__(self, manifests: Sequence[Manifest], contents: Contents) -> None:
        self._manifests = manifests
        self._contents = contents
        self._nodes: dict[int, Node] = {}
        self._identities: dict[int, str] = {}
        self._links: dict[int, int] = {}
        self._content_of: dict[int, NamedContent] = {}
        self._versions: dict[int, list[str]] = {}
        self._tables: list[frozenset[int]] = []

    def build(self, default_version: DatasetVersion, readme: bytes, browsed: Folders | None) -> Tree:
        newest_ns = max(manifest.modified_ns for manifest in self._manifests)
        # A folder where versions appear needs a new time for each, also for two in one second: the kernel keeps a
        # listing while the folder's time is the same.
        grown_ns = newest_ns + len(self._manifests) - 1
        root = _Folder((), grown_ns)
        for manifest in self._manifests:
            folder = root.subfolder(MANIFESTS).subfolder(manifest.dataset_version.folder)
            self._fill(folder, manifest, with_manifest=True)
            tables = (file for file in manifest.files if file.is_table)
            self._tables.append(frozenset(self._inode_of(file) for file in tables))
            if manifest.dataset_version == default_version:
                root.modified_ns = manifest.modified_ns
                self._fill(root, manifest, with_manifest=False)
                if table_of(manifest) is not None:
                    self._fill_by(root.subfolder(BY), browsed)
        root.modified_ns = grown_ns
        manifests = root.subfolder(MANIFESTS)
        if LATEST not in manifests.entries:
            self._place_link(manifests, LATEST, default_version.folder)
        self._place_own(root, README, readme, grown_ns)
        for name, data in MARKERS.items():
            self._place_own(root, name, data, 0)
            root.hide(name)
        self._fill_allensdk(root)
        self._make_data_nodes()
        self._make_directory(root, ROOT_INODE)
        return Tree(self._nodes, default_version, tuple(reversed(self._tables)))

    def _fill(self, folder: _Folder, manifest: Manifest, *, with_manifest: bool) -> None:
        folder.modified_ns = manifest.modified_ns
        for file in manifest.files:
            if with_manifest or file.path[0] not in _OURS:
                folder.place(file.path, self._data(file, manifest.dataset_version))
        for path, file in flat_names(manifest.files):
            folder.place(path, self._data(file, manifest.dataset_version))
        if with_manifest:
            version = manifest.dataset_version.text
            inode = self._static(manifest.data, manifest.modified_ns, source=manifest.source, version=version)
            folder.entries[manifest.file_name] = inode

    def _fill_by(self, by: _Folder, browsed: Folders | None) -> None:
        """Add the folders by which sessions are browsed. Links that lead to one place are hard links of one inode."""
        modified_ns = by.modified_ns
        by.modified_ns += browsed is not None  # the kernel keeps a listing while the time is the same
        self._place_own(by, README, README_TEXT, modified_ns)
        links: dict[str, int] = {}
        for path, names in (browsed or {}).items():
            folder = by
            for part in path:
                folder = folder.subfolder(part)
            for name, target in names.items():
                if (inode := links.get(target)) is None:
                    inode = links[target] = self._number(f"symlink\0{BY}\0{target}")
                self._links[inode] = self._links.get(inode, 0) + 1
                folder.entries[name] = inode
        for target, inode in links.items():
            self._nodes[inode] = Symlink(inode, target, modified_ns, self._links[inode])

    def _fill_allensdk(self, root: _Folder) -> None:
        """Add the cache directories of AllenSDK, if it can load any of the versions."""
        folders = release_folders(self._manifests)
        if not folders:
            return
        everything = root.subfolder(ALLENSDK)
        oldest_ns = min(manifest.modified_ns for manifest in self._manifests)
        self._place_own(everything, DOWNLOADED, _NOTHING, oldest_ns)
        self._place_link(everything, LAST_USED, None)
        everything.hide(LAST_USED)
        for name, manifest in folders.items():
            version = manifest.dataset_version.folder
            everything.entries[manifest.file_name] = self._manifest_again(manifest)
            self._place_link(everything, name, f"../{MANIFESTS}/{version}")
            static = everything.subfolder(STATIC).subfolder(version)
            self._fill_static(static, root, manifest)
            if has_resources(manifest):
                self._place_own(everything.subfolder(RESOURCES), DOWNLOADED, _NOTHING, oldest_ns)
                self._place_own(static.subfolder(RESOURCES), DOWNLOADED, _NOTHING, manifest.modified_ns)

    def _fill_static(self, cache: _Folder, root: _Folder, manifest: Manifest) -> None:
        assert manifest.names is not None  # release_folders returns no others
        cache.modified_ns = manifest.modified_ns
        project = cache.subfolder(manifest.names.project_name)
        released = root.subfolder(MANIFESTS).subfolder(manifest.dataset_version.folder)
        for name, entry in released.entries.items():
            if name not in {manifest.file_name, MANIFESTS}:
                self._place_again(project, name, entry)
        manifests = project.subfolder(MANIFESTS)
        theirs = released.entries.get(MANIFESTS)
        for name, entry in theirs.entries.items() if isinstance(theirs, _Folder) else ():
            if not is_taken_for_a_manifest(name):
                self._place_again(manifests, name, entry)
        manifests.entries[manifest.file_name] = self._manifest_again(manifest)
        if manifest.source is not None:  # AllenSDK opens the manifest below the first part of its key
            first_part = manifest.source.key.partition("/")[0]
            if first_part not in cache.entries:
                self._place_link(cache, first_part, manifest.names.project_name)

    def _place_again(self, folder: _Folder, name: str, entry: "_Folder | int") -> None:
        """Show an existing entry in `folder` too: a file by a hard link, a folder by a symbolic link."""
        if isinstance(entry, _Folder):
            self._place_link(folder, name, "../" * len(folder.path) + "/".join(entry.path))
        else:
            self._links[entry] += 1
            folder.entries[name] = entry

    def _place_link(self, folder: _Folder, name: str, target: str | None) -> None:
        inode = self._number(f"symlink\0{'/'.join((*folder.path, name))}\0{target}")
        self._nodes[inode] = Symlink(inode, target, folder.modified_ns)
        folder.entries[name] = inode

    def _place_own(self, folder: _Folder, name: str, data: bytes, modified_ns: int) -> None:
        """A file that vbnfs writes. Its inode is the place's: a later version may change what stands in it."""
        inode = self._number(f"own\0{'/'.join((*folder.path, name))}")
        self._nodes[inode] = StaticNode(inode, data, modified_ns)
        folder.entries[name] = inode

    def _manifest_again(self, manifest: Manifest) -> int:
        return self._static(manifest.data, manifest.modified_ns, source=manifest.source)

    def _data(self, file: DataFile, version: DatasetVersion) -> int:
        inode = self._inode_of(file)
        self._content_of[inode] = self._contents.of(file)
        versions = self._versions.setdefault(inode, [])
        if version.text not in versions:
            versions.append(version.text)
        self._links[inode] = self._links.get(inode, 0) + 1
        return inode

    def _inode_of(self, file: DataFile) -> int:
        return self._number(f"content\0{self._contents.of(file).content_id}")

    def _make_data_nodes(self) -> None:
        for inode, content in self._content_of.items():
            self._nodes[inode] = DataNode(inode, content, tuple(self._versions[inode]), self._links[inode])

    def _static(
        self, data: bytes, modified_ns: int, *, source: ObjectVersion | None = None, version: str | None = None
    ) -> int:
        inode = self._number(f"static\0{hashlib.blake2b(data).hexdigest()}\0{modified_ns}")
        known = self._nodes.get(inode)
        links, versions = 1, [version] if version is not None else []
        if isinstance(known, StaticNode):
            links, versions = known.links + 1, [*known.dataset_versions, *versions]
        self._nodes[inode] = StaticNode(inode, data, modified_ns, links, source, tuple(versions))
        return inode

    def _make_directory(self, folder: _Folder, parent: int) -> int:
        inode = ROOT_INODE if not folder.path else self._number("directory\0" + "/".join(folder.path))
        children: dict[str, int] = {}
        subdirectories = 0
        for name in sorted(folder.entries):
            entry = folder.entries[name]
            if isinstance(entry, _Folder):
                subdirectories += 1
                children[name] = self._make_directory(entry, inode)
            else:
                children[name] = entry
        is_growing = folder.path in _GROWING
        self._nodes[inode] = Directory(
            inode, parent, children, subdirectories, folder.modified_ns, is_growing, frozenset(folder.unlisted)
        )
        return inode

    def _number(self, identity: str) -> int:
        """An inode number; on a collision the later identity takes another one."""
        for attempt in range(1 << 16):
            digest = hashlib.blake2b(f"{identity}\0{attempt}".encode(), digest_size=8).digest()
            inode = int.from_bytes(digest, "big") >> 64 - _INODE_BITS
            if inode > ROOT_INODE and self._identities.setdefault(inode, identity) == identity:
                return inode
        raise AssertionError("hashes do not collide that often")
