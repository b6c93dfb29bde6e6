"""The cache directories that AllenSDK finds in a mount: which names they have (pure). The tree is built of them.

    allensdk/                                  for from_local_cache and from_s3_cache: all versions
        <manifest>_v0.4.0.json                 hard links of those in manifests/
        <project_name>-0.4.0                   -> ../manifests/v0.4.0
        _downloaded_data.json                  {}: else AllenSDK walks over everything and warns
        _manifest_last_used.txt                -> a file of whoever asks: AllenSDK writes it, and nothing else
    allensdk/static/v0.4.0/                    for from_local_cache(use_static_cache=True): one version
        <project_name>/manifests/<manifest>_v0.4.0.json
        <project_name>/project_metadata        -> ../../../../manifests/v0.4.0/project_metadata, and so on
    .../resources/                             in both, for the one project whose class makes a cache of its own there

Folders of data are symbolic links, so that a walk over the mount meets each once. `_manifest_last_used.txt` is
answered but not listed: as nobody's file is there at first, `cp -rL` would complain, and a copy is not to write into
the file of the mount.

What AllenSDK does with these stands in its api/cloud_cache/cloud_cache.py and manifest.py (2.16.2). It takes every
name in the first folder that looks like a manifest's, and parses the version in it; one that it cannot parse keeps
it from starting. So such a manifest does not stand there.
"""

import re
from collections.abc import Iterable
from typing import Final

import semver

from vbnfs.dataset.manifest import Manifest
from vbnfs.dataset.names import check_name

ALLENSDK: Final = "allensdk"
STATIC: Final = "static"
DOWNLOADED: Final = "_downloaded_data.json"
LAST_USED: Final = "_manifest_last_used.txt"
MANIFESTS_OF_STATIC: Final = "manifests"
RESOURCES: Final = "resources"

_TAKEN_FOR_A_MANIFEST: Final = re.compile(".*_manifest_v.*.json")  # BasicLocalCache.list_all_downloaded_manifests


def is_taken_for_a_manifest(name: str) -> bool:
    """Whether AllenSDK takes a file of this name for a manifest."""
    return _TAKEN_FOR_A_MANIFEST.fullmatch(name) is not None


def has_resources(manifest: Manifest) -> bool:
    """Whether AllenSDK makes a folder for a movie in the cache of this project, each time (NaturalMovieOneCache)."""
    return manifest.names is not None and manifest.names.project_name == "visual-behavior-ophys"


def release_folders(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    """The manifests that AllenSDK can load, oldest first, by the folder in which it looks for their files.

    Of two that name the same folder the older has it.
    """
    folders: dict[str, Manifest] = {}
    for manifest in manifests:
        folder = _folder(manifest)
        if folder is not None:
            folders.setdefault(folder, manifest)
    return folders


def _folder(manifest: Manifest) -> str | None:
    if manifest.names is None or not _is_parsed(manifest.file_name):
        return None
    folder = f"{manifest.names.project_name}-{manifest.names.manifest_version}"  # Manifest._create_file_attributes
    try:
        check_name(folder)
        check_name(manifest.names.project_name)
    except ValueError:
        return None
    return None if is_taken_for_a_manifest(folder) else folder  # its hyphen tells it from the other names there


def _is_parsed(file_name: str) -> bool:
    """Whether AllenSDK makes a version of the name (BasicLocalCache._find_latest_file)."""
    return semver.Version.is_valid(file_name.split(".json", maxsplit=1)[0].rsplit("_v", maxsplit=1)[-1])
