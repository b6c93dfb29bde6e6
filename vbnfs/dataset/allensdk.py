"""The cache directories that a mount has for AllenSDK: the names in them (pure). `tree_builder.py` builds them.

    allensdk/                                  for from_local_cache and from_s3_cache: all versions
        <manifest>_v0.4.0.json                 hard links of those in manifests/
        <project_name>-0.4.0                   -> ../manifests/v0.4.0
        _downloaded_data.json                  {}: without it AllenSDK walks over all files and warns
        _manifest_last_used.txt                -> a file of the user who opens it: the only file AllenSDK writes
    allensdk/static/v0.4.0/                    for from_local_cache(use_static_cache=True): one version
        <project_name>/manifests/<manifest>_v0.4.0.json
        <project_name>/project_metadata        -> ../../../../manifests/v0.4.0/project_metadata, and so on
    .../resources/                             in both, for the one project whose class makes its own cache there

Folders of data are symbolic links, so that a walk over the mount meets each once. `_manifest_last_used.txt` can be
looked up but is not listed: at first the user's file does not exist, so `cp -rL` would complain; and the copy of a
mount must not write into the mount's file.

How AllenSDK uses these names is in its api/cloud_cache/cloud_cache.py and manifest.py (2.16.2). It parses the version
in every name in the first folder that matches a manifest's, and fails if one cannot be parsed. So a manifest with
such a name is left out.
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
RESOURCES: Final = "resources"

_TAKEN_FOR_A_MANIFEST: Final = re.compile(".*_manifest_v.*.json")  # BasicLocalCache.list_all_downloaded_manifests


def is_taken_for_a_manifest(name: str) -> bool:
    """Whether AllenSDK takes a file of this name for a manifest."""
    return _TAKEN_FOR_A_MANIFEST.fullmatch(name) is not None


def has_resources(manifest: Manifest) -> bool:
    """Whether AllenSDK makes a folder for a movie in this project's cache at each start (NaturalMovieOneCache)."""
    return manifest.names is not None and manifest.names.project_name == "visual-behavior-ophys"


def release_folders(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    """The manifests that AllenSDK can load, oldest first, by the folder in which it expects their files.

    If two name the same folder, it is the older one's.
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
    return None if is_taken_for_a_manifest(folder) else folder  # no other name there has a hyphen


def _is_parsed(file_name: str) -> bool:
    """Whether AllenSDK can parse the version in the name (BasicLocalCache._find_latest_file)."""
    return semver.Version.is_valid(file_name.split(".json", maxsplit=1)[0].rsplit("_v", maxsplit=1)[-1])
