"""Names that this machine knows without asking a server or a mount: for completing a line, and for suggestions."""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from vbnfs.cache.pins import pin_names
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_settings
from vbnfs.dataset.manifest import DatasetVersion, version_of_file_name
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.stored_files import read_stored
from vbnfs.errors import VbnfsError
from vbnfs.host.mountinfo import is_ours, list_mounts
from vbnfs.host.places import Place, folder_at
from vbnfs.tables.names import KNOWN

_STORED: Final = "datasets-v1"  # access/opening.py's dataset_folder, of all servers: that module takes long to import


def datasets() -> Iterable[str]:
    """The datasets that have names."""
    return load_settings(command_line={}).datasets


def mounts() -> list[str]:
    """The folders of this user's mounts."""
    return [str(entry.mountpoint) for entry in list_mounts() if is_ours(entry)]


def pins(config: Config) -> list[str]:
    """The pins of the cache."""
    return pin_names(config.cache_dir)


def versions(config: Config) -> list[str]:
    """The dataset versions of which the cache has the manifest, oldest first."""
    return [version.text for version in sorted(_manifests(config))]


def tables(config: Config) -> list[str]:
    """The tables of the newest of them, and the short names that commands have for tables."""
    names = (path.rpartition("/")[2] for path in _files(config) if path.endswith(".csv"))
    return sorted({*KNOWN, *(name.removesuffix(".csv") for name in names)})


def paths(config: Config) -> list[str]:
    """The dataset versions, and the paths of the files in the newest or in the wanted one."""
    return [*versions(config), *_files(config)]


def _files(config: Config) -> list[str]:
    """The paths of a manifest's files, which are their keys below the project."""
    stored = _manifests(config)
    wanted = config.dataset_version
    version = next((one for one in stored if one.text == wanted), None) or max(stored, default=None)
    if version is None:
        return []
    data = (read_stored(stored[version]) or b"").partition(b"\n")[2]
    return sorted(set(_keys(json.loads(data), f"{config.project}/")))


def _keys(document: object, prefix: str) -> Iterator[str]:
    """The paths in the URLs of a manifest's entries."""
    sections = document.values() if isinstance(document, dict) else ()
    for section in sections:
        for entry in section.values() if isinstance(section, dict) else ():
            url = entry.get("url") if isinstance(entry, dict) else None
            _, found, path = str(url).partition(f"/{prefix}")
            if found:
                yield path


def _manifests(config: Config) -> dict[DatasetVersion, Place]:
    """The stored manifests of the dataset, by version."""
    found: dict[DatasetVersion, Place] = {}
    for scope in _names(folder_at(config.cache_dir) / _STORED):
        folder = folder_at(config.cache_dir) / _STORED / scope / config.bucket / config.project / MANIFESTS
        for name in _names(folder):
            version = version_of_file_name(name)
            if version is not None:
                found[version] = folder / name
    return found


def _names(folder: Place) -> list[str]:
    try:
        with folder.opened() as opened:
            return sorted(opened.names())
    except (OSError, VbnfsError):
        return []
