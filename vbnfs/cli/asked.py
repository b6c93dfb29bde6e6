"""What paths on a command line name: a mount, whose settings then hold, and files of the dataset's tree."""

import math
import os
import posixpath
import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vbnfs.access.mount_status import ask_status
from vbnfs.access.running_mounts import ANSWER_SECONDS
from vbnfs.access.versions import Versions
from vbnfs.cache.eviction import stored_size
from vbnfs.cli.browsed import places_of, wait_for_folders
from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import LATEST, MANIFESTS, decode
from vbnfs.dataset.release import Release
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.dataset.tree_builder import build_tree
from vbnfs.errors import DatasetError, Hdf5Error, MountError, UsageError
from vbnfs.host.apart import first_missing, names_in
from vbnfs.host.mountinfo import MountEntry, absolute, list_mounts
from vbnfs.suggestions import hint, near

_OF_A_MOUNT: Final = (
    *("bucket", "project", "endpoint_url", "region", "ca_bundle", "mirror", "dataset_version"),
    *("cache_dir", "cache_size", "cache_reserve"),
)  # settings that a mount decides for paths in it; the others are this command's own


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


# Mounts


def place_of(config: Config, paths: Sequence[Path], *, given: Set[str]) -> Place:
    """The settings of the mount in which `paths` lie, and the paths in it; all unchanged where there is no mount.

    `given` are the names of the settings that this command line sets, itself or by the file that it names.
    Raises `UsageError` for one of them that the mount decides otherwise, `MountError` for paths in
    different mounts, `DatasetError` for a path that cannot be in the dataset.
    """
    mounts = list_mounts()
    within = [_within_mount(path, mounts) for path in paths]
    entries = {entry for entry, _ in within}
    if len(entries) > 1:
        raise MountError("paths in different mounts, or not all of them in a mount: name them one after the other")
    entry = entries.pop() if entries else None
    if entry is None:
        for path in paths:
            _check_is_of_dataset(path)
        is_stored = config.cache_size_bytes is None
        remedy = _raise_the_size_of(config.cache_dir) if is_stored else "--cache-size {} lets it take more"
        return Place(config, [decode(os.fsencode(path)) for path in paths], remedy)
    status = ask_status(entry)
    _check_given(config, status, given)
    for _, inner_path in within:
        wait_for_folders(entry.mountpoint, inner_path)
    _check_are_there(paths, entry)
    remedy = _raise_the_size_of(Path(status["cache_dir"]))
    if status.get("is_cache_size_given"):
        remedy = f"it is the mount {entry.mountpoint} that was given so little: mount it again with --cache-size {{}}"
    inner = dict.fromkeys(each for _, one in within for each in places_of(entry.mountpoint, one))
    return Place(_settings_of(status, config), list(inner), remedy, max_age_seconds=math.inf)


def _check_are_there(paths: Sequence[Path], entry: MountEntry) -> None:
    """Raise `DatasetError` for a path that is not there, `MountError` where the mount does not answer."""
    try:
        missing = first_missing(paths, seconds=ANSWER_SECONDS)
        if missing is None:
            return
        way = [*reversed(missing.absolute().parents), missing.absolute()]
        end = first_missing(way, seconds=ANSWER_SECONDS) or way[-1]
        there = hint(end.name, names_in(end.parent, seconds=ANSWER_SECONDS))
    except TimeoutError as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error.strerror}") from error
    message = f"{missing}: no such file or folder; 'ls {end.parent}' lists those that there are"
    raise DatasetError(message + there)


def _raise_the_size_of(cache_dir: Path) -> str:
    """How to let a cache be of size `{}`, if its stored size holds."""
    folder = shlex.quote(str(cache_dir)).replace("{", "{{").replace("}", "}}")
    return f"'vbnfs clean --cache-size {{}} --cache-dir {folder}' lets it take more"


def _check_given(config: Config, status: Mapping[str, Any], given: Set[str]) -> None:
    """Raise `UsageError` for a setting that was given and is not the mount's: it would have no effect."""
    for name in _OF_A_MOUNT:
        setting = SETTING_BY_NAME[name]
        known_as = "default_version" if name == "dataset_version" else setting.field
        wanted, has = getattr(config, setting.field), status.get(known_as)
        if name in given and str(wanted) != str(has):
            is_by_name = "dataset" in given and config.dataset is not None
            option = f"--dataset {config.dataset}: {name}" if is_by_name else setting.option
            raise UsageError(
                f"{option} {wanted}: the mount {status['mountpoint']} has {has or 'its default'}, and its"
                " settings hold for paths in it: leave it out, or name the path in the dataset, as in"
                " ecephys_sessions/..."
            )


def _settings_of(status: Mapping[str, Any], config: Config) -> Config:
    """The settings with which a mount reads."""
    cache_dir, ca_bundle = Path(status["cache_dir"]), status["ca_bundle"]
    limit_bytes = status["cache_size_bytes"]
    if not status.get("is_cache_size_given"):  # another mount may have stored a larger one since this one read it
        limit_bytes = max(limit_bytes, stored_size(cache_dir, 0))
    return replace(
        config,
        **{name: status[name] for name in ("bucket", "project", "endpoint_url", "region")},
        ca_bundle=None if ca_bundle is None else Path(ca_bundle),
        mirror=_mirror_of(status),
        site_cache=tuple(server["url"] for server in status.get("site_cache") or ()),
        cache_dir=cache_dir,
        cache_size_bytes=limit_bytes,
        cache_reserve_bytes=status.get("cache_reserve_bytes", config.cache_reserve_bytes),
        dataset_version=status["default_version"],
        offline=config.offline or bool(status.get("is_offline_wanted")),
    )


def _mirror_of(status: Mapping[str, Any]) -> MirrorPlace | None:
    """The mirror that a mount asks; None also for a daemon that knows of none."""
    text = status.get("mirror")
    try:
        mirror: MirrorPlace | None = None if text is None else SETTING_BY_NAME["mirror"].parse(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise MountError(f"{status['mountpoint']}: its daemon's status is none: mirror") from error
    return mirror


def _within_mount(path: Path, mounts: Iterable[MountEntry]) -> tuple[MountEntry | None, str]:
    where = absolute(path)
    for entry in mounts:
        if where.is_relative_to(entry.mountpoint):
            return entry, decode(os.fsencode(where.relative_to(entry.mountpoint)))
    return None, decode(os.fsencode(path))


def _check_is_of_dataset(path: Path) -> None:
    """Raise `DatasetError` for a path outside of mounts that cannot be below the dataset's root. Asks no server."""
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(
            f"{path}: not in a vbnfs mount ('vbnfs status' lists those that there are); name a path in one, or in the"
            " dataset without a slash before it, or a dataset version"
        )


# The tree


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
    tree = build_tree(release.manifests, contents=versions.named, default_version=default, readme=b"")
    return {path: list(files_at(tree, path)) for path in paths or [MANIFESTS]}


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
