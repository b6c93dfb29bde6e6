"""What paths below the dataset's root name: files of its tree, as a mount shows it."""

import posixpath
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from vbnfs.access.versions import Versions
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import DataFile, DatasetVersion, Manifest
from vbnfs.dataset.names import LATEST, MANIFESTS
from vbnfs.dataset.release import Release
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.dataset.tree_builder import FLAT_FOLDER, build_tree
from vbnfs.errors import DatasetError, Hdf5Error
from vbnfs.suggestions import near

_MOST_PLACES: Final = 3  # that a message names
NO_HASH_TEXT: Final = "the manifest has no hash of it"

Asked = Mapping[str, Sequence[tuple[str, Node]]]  # by path: names and nodes of the files there


@dataclass(frozen=True, slots=True)
class Place:
    """Paths in a dataset, the settings for it, and how to let its cache be of size `{}`."""

    config: Config
    paths: Sequence[str]
    remedy_for_size: str
    max_age_seconds: float = 0.0  # of the list of versions: a mount knows all those that paths in it are of


def version_at(release: Release, path: str) -> DatasetVersion | None:
    """The dataset version of which a path is the folder, or the name; None for any other path."""
    parts = _parts(path)
    if len(parts) == 2 and parts[0] == MANIFESTS:
        parts = parts[1:]
    if parts == [LATEST]:
        return release.choose(None)
    return next((one for one in release.versions if parts in ([one.text], [one.folder])), None)


def asked_files(versions: Versions, paths: Sequence[str]) -> Asked:
    """The files at paths of the tree, or all of a version, by its name; without any, those of all versions.

    Raises `DatasetError` for a path that is not there.
    """
    release = versions.release
    default = release.choose(versions.dataset.config.dataset_version)
    folders = {_folder_of_version(path) for path in paths}
    manifests = [one for one in release.manifests if one.dataset_version.folder in folders]
    with suppress(DatasetError):
        if manifests and len(manifests) == len(folders):  # building all of it takes five times as long
            top = manifests[-1].dataset_version
            few = _with_those_alone(manifests, paths)
            tree = build_tree(few, contents=versions.named, default_version=top, readme=b"")
            return {path: list(files_at(tree, path)) for path in paths}
    tree = build_tree(release.manifests, contents=versions.named, default_version=default, readme=b"")
    return {path: list(files_at(tree, path)) for path in paths or [MANIFESTS]}


def _with_those_alone(manifests: Sequence[Manifest], paths: Sequence[str]) -> Sequence[Manifest]:
    """The manifests with no other files than those at and below paths: a tree of few is soon built.

    All of them where a path has none, or may have links below it that come from other files.
    """
    wanted, met = {tuple(_parts(path)[1:]) for path in paths}, set[tuple[str, ...]]()
    few = []
    for manifest in manifests:
        version, files = manifest.dataset_version.folder, list[DataFile]()
        for file in manifest.files:
            above = {(version, *file.path[:count]) for count in range(1, len(file.path) + 1)} & wanted
            files += [file] if above else []
            met |= above
        few.append(replace(manifest, files=tuple(files)))
    has_links = any(place[1:] == (FLAT_FOLDER,) for place in wanted)
    return manifests if has_links or met != wanted else few


def _folder_of_version(path: str) -> str | None:
    """The name of the folder of the version that a path is below, in the folder of all versions."""
    parts = _parts(path)
    return parts[1] if len(parts) > 2 and parts[0] == MANIFESTS else None


def files_at(tree: Tree, path: str) -> Iterator[tuple[str, Node]]:
    """The file at a path of the tree or, below a folder or a dataset version, the different data files, with names.

    Each once, by a name without symbolic links where it has one. A link is followed, unless it leads each user
    elsewhere. Raises `DatasetError` for a path that is not there.
    """
    path, start = _node_at(tree, path)
    if not isinstance(start, Directory):
        yield path, start
        return
    seen, links = set[int](), deque[str]()
    yield from _below(tree, path, start, seen, links)
    while links:
        name = links.popleft()
        if (node := _walk(tree, _parts(name))) is not None:
            yield from _below(tree, name, node, seen, links)


def _below(tree: Tree, name: str, node: Node, seen: set[int], links: deque[str]) -> Iterator[tuple[str, Node]]:
    if node.inode in seen:
        return
    seen.add(node.inode)
    if isinstance(node, DataNode):
        yield name, node
    elif isinstance(node, Directory):
        for child, entry in tree.children(node):
            inner = child if name == "." else f"{name}/{child}"
            if isinstance(entry, Symlink):
                links.append(inner)
            else:
                yield from _below(tree, inner, entry, seen, links)


def file_within(tree: Tree, path: str) -> tuple[str, Node, tuple[str, ...]]:
    """The file that a path of the tree leads to or through: its path, its node, and what of the path is behind it.

    A path may also begin with the name of a file of the version at the top, in any folder, or with the number in it,
    as a session's id. Raises `DatasetError` where there is no such file, or several; `Hdf5Error` for a folder.
    """
    parts = _parts(path)
    for count in range(len(parts), 0, -1):
        node = _walk(tree, parts[:count])
        if node is not None and not isinstance(node, Directory):
            return "/".join(parts[:count]), node, tuple(parts[count:])
    named = _files_named(tree, parts[0]) if parts else {}
    if len(named) > 1:
        raise DatasetError(f"{parts[0]}: not in the dataset as one file: name one of {', '.join(sorted(named))}")
    for name, node in named.items():
        return name, node, tuple(parts[1:])
    where, found = _node_at(tree, path)
    if isinstance(found, Directory):
        inside = next((name for name, _ in files_at(tree, where)), None)
        example = f", such as {inside}" if inside else ""
        raise Hdf5Error(f"{path}: a folder of the dataset: name a file in it{example}")
    return where, found, ()


def _files_named(tree: Tree, text: str) -> dict[str, Node]:
    """The different files of the version at the top that have this name, or this number in their name."""
    above = f"{MANIFESTS}/{tree.default_version.folder}"
    files = ((name.removeprefix(f"{above}/"), node) for name, node in files_at(tree, above))
    return {name: node for name, node in files if text in {posixpath.basename(name), *_numbers(name)}}


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d{4,}", posixpath.basename(name))


def why_unverifiable(node: Node) -> str | None:
    """Why the bytes of a file cannot be held against a hash; None where its hash is known."""
    if isinstance(node, DataNode):
        return NO_HASH_TEXT if node.content.file_hash is None else None
    if isinstance(node, StaticNode) and node.source is not None:
        return "nothing has a manifest's own hash; it was held against its ETag when it was fetched"
    return "vbnfs wrote it" if isinstance(node, StaticNode) else "each user's own, for AllenSDK"


def _node_at(tree: Tree, path: str) -> tuple[str, Node]:
    """The node at a path below the root, or the folder of the dataset version that is named so; and its path."""
    for there in (path, f"{MANIFESTS}/v{path.removeprefix('v')}"):
        node = _walk(tree, _parts(there))
        if node is not None:
            return there, node
    if places := _places_called(tree, path):
        raise DatasetError(
            f"{path}: not in the dataset by this name alone: name {' or '.join(places[:_MOST_PLACES])}"
        )
    message = (
        f"{path}: not in the dataset; name a path in it or in a mount, or a dataset version ('vbnfs versions'"
        " lists them)"
    )
    raise DatasetError(message + _hint(tree, _parts(path)))


def _hint(tree: Tree, parts: Sequence[str]) -> str:
    """The names nearest to the first part of a path that is not there, with the folder that they are in."""
    for count in range(len(parts)):
        folder = _walk(tree, parts[:count])
        if not isinstance(folder, Directory):
            return ""
        if parts[count] not in folder.children:
            above = "".join(f"{part}/" for part in parts[:count])
            versions = _walk(tree, [MANIFESTS]) if count == 0 else None
            texts = [name.removeprefix("v") for name in versions.children] if isinstance(versions, Directory) else []
            nearest = near(parts[count], [*folder.children, *texts])
            return f"; near it: {', '.join(above + name for name in nearest)}" if nearest else ""
    return ""


def _places_called(tree: Tree, text: str) -> list[str]:
    """The folders of the version at the top that have this name; if there are none, the files that have it."""
    above = f"{MANIFESTS}/{tree.default_version.folder}"
    names = [name.removeprefix(f"{above}/") for name, _ in files_at(tree, above)]
    folders = {posixpath.dirname(name) for name in names}
    return sorted(one for one in folders if posixpath.basename(one) == text) or sorted(_files_named(tree, text))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _walk(tree: Tree, parts: Sequence[str]) -> Node | None:
    node: Node = tree.nodes[ROOT_INODE]
    for number, part in enumerate(parts):
        if not isinstance(node, Directory) or (inode := node.children.get(part)) is None:
            return None
        node = tree.nodes[inode]
        if isinstance(node, Symlink) and node.target is not None:
            place = posixpath.normpath("/".join([*parts[:number], node.target, *parts[number + 1 :]]))
            return _walk(tree, _parts(place))
    return node
