"""What is named is deleted from the cache: files and folders, versions, or all. The cache's size stays.

What exists is known from what is stored, so the network is not asked. A file or folder that is named goes, whichever
versions have it: equal bytes are in the cache once. Of a version that is named only that goes which no other version
has, unless that one is named as well. What is pinned goes only where its file is named itself.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from vbnfs.access.cache_directory import is_there
from vbnfs.access.opening import scopes_of
from vbnfs.access.tree_files import asked_files, version_at
from vbnfs.access.versions import Versions
from vbnfs.cache.eviction import DEFAULT_BYTES, stored_size
from vbnfs.cache.in_place import all_noted
from vbnfs.cache.inventory import CachedContent, delete, scan
from vbnfs.cache.pins import pinned_ids, read_pins
from vbnfs.config.settings import Config
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.tree import DataNode, Node
from vbnfs.errors import CacheError
from vbnfs.host.places import folder_at
from vbnfs.host.private import keep_others_out


@dataclass(frozen=True, slots=True)
class Freed:
    """What was deleted, or would be: bytes on the disk by name. `shared` stays: other versions have it, too.

    `pinned` stays, too, and `torn` are the pins of which a file is deleted that was named itself.
    `in_place` stays as well: these files are read where they lie, outside of the cache.
    """

    cache_dir: Path
    deleted: Mapping[str, int]
    shared: Mapping[str, int]
    usage_bytes: int
    limit_bytes: int
    in_place: Sequence[Path] = ()
    pinned: Mapping[str, int] = field(default_factory=dict)
    torn: Sequence[str] = ()


_Named = Mapping[str, str]  # content ids, and a name of each in the dataset


def free_all(config: Config, *, is_trial: bool) -> Freed:
    """Delete all files of all datasets from the cache; manifests and sizes stay. See `free`."""
    keep_others_out()
    if not is_there(config.cache_dir):
        return _result(config, {}, {}, [])
    directory = folder_at(config.cache_dir)
    found, in_place = list(scan(directory)), [one.entry.path for one in all_noted(directory)]
    held = pinned_ids(directory)
    pinned = [one for one in found if one.content_id in held]
    chosen = [one for one in found if one.content_id not in held]
    _delete(config, chosen, is_trial=is_trial)
    deleted = {one.path: one.allocated_bytes for one in chosen}
    result = _result(config, deleted, {}, found if is_trial else pinned, in_place)
    return replace(result, pinned={one.path: one.allocated_bytes for one in pinned})


def free(versions: Versions, paths: Sequence[str], dataset_versions: Sequence[str], *, is_trial: bool) -> Freed:
    """Delete the files at paths of the dataset, and those that only these versions have.

    With `is_trial` nothing is deleted. Reads and deletes many files: for a thread. Raises `DatasetError` for a path
    or a version that is not there, `CacheError` for what cannot be deleted.
    """
    asked = _asked(versions, paths, dataset_versions)
    return _free_contents(versions.dataset.config, *asked, is_trial=is_trial)


def _asked(
    versions: Versions, paths: Sequence[str], dataset_versions: Iterable[str]
) -> tuple[_Named, _Named, Set[str]]:
    """The contents that are to be deleted, and those that stay because other versions have them.

    Then the ids of those whose files are named themselves.
    """
    release = versions.release
    of_paths = {path: version_at(release, path) for path in paths}
    chosen = {release.choose(name.removeprefix("v")) for name in dataset_versions}
    chosen |= {version for version in of_paths.values() if version is not None}
    folders = [f"{MANIFESTS}/{version.folder}" for version in sorted(chosen)]
    files = asked_files(versions, [*(path for path, version in of_paths.items() if version is None), *folders])
    wanted, of_chosen, themselves = dict[str, str](), dict[str, str](), set[str]()
    for path, found in files.items():
        contents = _contents_of(versions, found)
        (of_chosen if path in folders else wanted).update(contents)
        if path not in folders and [name for name, _ in found] == [path]:
            themselves |= contents.keys()
    of_others = [m for m in release.manifests if m.dataset_version not in chosen]
    kept = {one.content_id for m in of_others for one in versions.contents(m.files).values() if one is not None}
    shared = {one: name for one, name in of_chosen.items() if one in kept and one not in wanted}
    return {**{one: name for one, name in of_chosen.items() if one not in kept}, **wanted}, shared, themselves


def _contents_of(versions: Versions, files: Iterable[tuple[str, Node]]) -> dict[str, str]:
    """The contents of files, and their names. Without a size nothing is cached of one."""
    found: dict[str, str] = {}
    for name, node in files:
        if isinstance(node, DataNode):
            attributes = versions.dataset.catalog.sizes.get(node.content)
            if attributes is not None:
                found[node.content.with_attributes(attributes).content_id] = name
    return found


def _free_contents(config: Config, wanted: _Named, shared: _Named, themselves: Set[str], *, is_trial: bool) -> Freed:
    directory = folder_at(config.cache_dir)
    held = pinned_ids(directory)
    pinned = {one: name for one, name in wanted.items() if one in held and one not in themselves}
    wanted = {one: name for one, name in wanted.items() if one not in pinned}
    found, scopes = list(scan(directory)), scopes_of(config)
    noted = [one for one in all_noted(directory) if one.scope in scopes and one.content_id in wanted]
    ours = [one for one in found if one.scope in scopes]
    chosen = [one for one in ours if one.content_id in wanted]
    _delete(config, chosen, is_trial=is_trial)
    left = found if is_trial else [one for one in found if one not in chosen]
    in_place = [one.entry.path for one in noted]
    result = _result(config, _bytes_by_name(chosen, wanted), _bytes_by_name(ours, shared), left, in_place)
    gone = {one.content_id for one in chosen}
    torn = [pin.name for pin in read_pins(directory)[0] if not gone.isdisjoint(pin.sizes)]
    return replace(result, pinned=_bytes_by_name(ours, pinned), torn=torn)


def _delete(config: Config, contents: Iterable[CachedContent], *, is_trial: bool) -> None:
    directory = folder_at(config.cache_dir)
    for one in contents if not is_trial else ():
        try:
            delete(directory, one)
        except OSError as error:
            raise CacheError(
                f"{directory / one.path}: cannot be deleted: {error.strerror}; what came before it is gone"
            ) from error


def _bytes_by_name(contents: Iterable[CachedContent], names: _Named) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in contents:
        if (name := names.get(one.content_id)) is not None:
            found[name] = found.get(name, 0) + one.allocated_bytes
    return found


def _result(
    config: Config,
    deleted: Mapping[str, int],
    shared: Mapping[str, int],
    left: Iterable[CachedContent],
    in_place: Sequence[Path] = (),
) -> Freed:
    usage_bytes = sum(one.allocated_bytes for one in left)
    limit_bytes = config.cache_size_bytes or stored_size(config.cache_dir, DEFAULT_BYTES)
    return Freed(config.cache_dir, deleted, shared, usage_bytes, limit_bytes, in_place)
