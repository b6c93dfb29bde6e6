"""AllenSDK's own class, whose files come through vbnfs: `vbnfs.allensdk_cache`."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vbnfs.api.dataset import Dataset
from vbnfs.api.extras import required
from vbnfs.errors import UsageError

if TYPE_CHECKING:
    from allensdk.brain_observatory.behavior.behavior_project_cache.project_cache_base import ProjectCacheBase

_CLASSES: Final = "allensdk.brain_observatory.behavior.behavior_project_cache"
_INSTALL: Final = 'allensdk "hdmf<5", with Python 3.11'


def allensdk_cache(cache_dir: str | Path, dataset: Dataset | str | None = None) -> "ProjectCacheBase":
    """What AllenSDK's `from_s3_cache(cache_dir)` gives, but that its files come through vbnfs.

    It is AllenSDK's own `VisualBehaviorNeuropixelsProjectCache` (for the dataset visual-behavior-ophys its
    `VisualBehaviorOphysProjectCache`) with all its methods:

        >>> cache = vbnfs.allensdk_cache("vbn-cache")
        >>> cache.current_manifest()
        'visual-behavior-neuropixels_project_manifest_v0.5.0.json'
        >>> session = cache.get_ecephys_session(1044385384)

    `cache_dir` is AllenSDK's folder, which is made if it is not there; vbnfs's own cache is another one. A file that
    AllenSDK asks for is fetched into vbnfs's cache as a whole, held against the manifest's hash, and put into
    `cache_dir`, where AllenSDK puts it itself: shared with the cache where the disk has reflinks (XFS, btrfs), else
    copied. What is there already with the right size is taken as it is. Without network all works that was used
    before. Several processes may use one folder.

    `dataset` is a `vbnfs.Dataset`, for other settings, or the name of one in the settings. While something is
    fetched, a line shows how far it is, on a terminal and in notebooks.

    Raises `ImportError` where AllenSDK is missing; `UsageError` for a dataset that AllenSDK has no class for, and for
    a folder of vbnfs's own; `OSError` where S3 does not give what is needed, or the folder does not take it.
    AllenSDK's methods raise the same `OSError`, and what they raise themselves; `DatasetError` where the folder has a
    manifest of another dataset.
    """
    chosen = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    folder = Path(cache_dir).expanduser().absolute()
    _check_folder(folder, chosen)
    required("allensdk", "allensdk_cache", _INSTALL)
    from vbnfs.api.allensdk_files import FilesByVbnfs  # noqa: PLC0415 - imports AllenSDK

    user_class = _class_for(chosen.config.project)
    files = FilesByVbnfs(chosen._connection, folder, user_class.PROJECT_NAME, ui_class_name=user_class.__name__)
    found: ProjectCacheBase = user_class(fetch_api=user_class.cloud_api_class()(files))
    return found


def _check_folder(folder: Path, dataset: Dataset) -> None:
    own = dataset.config.cache_dir.resolve()
    if folder.resolve().is_relative_to(own):
        raise UsageError(f"{folder} is in vbnfs's own cache: give AllenSDK a folder of its own")


def _class_for(project: str) -> Any:
    """AllenSDK's class for users of a project. Raises `UsageError`."""
    module = importlib.import_module(_CLASSES)
    classes = [found for found in vars(module).values() if isinstance(found, type) and hasattr(found, "PROJECT_NAME")]
    by_project = {found.PROJECT_NAME: found for found in classes}
    if project not in by_project:
        raise UsageError(f"AllenSDK has no class for {project}; it has some for {', '.join(sorted(by_project))}")
    return by_project[project]
