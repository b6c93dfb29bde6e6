"""How `vbnfs export --link` does without copying: the cache's disk shares files, or a mount has them."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vbnfs.access.dataset import Dataset
from vbnfs.access.mount_status import ask_status
from vbnfs.access.running_mounts import shows_dataset_of
from vbnfs.cache.adoption import can_share
from vbnfs.cli.export_target import Target
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.names import MANIFESTS
from vbnfs.errors import ExportError, MountError
from vbnfs.host.mountinfo import MountEntry, is_ours, list_mounts

_TRIED_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Way:
    """How files come into the folder: as copies, as shared files (`is_shared`), or as links into a `mounted` folder.

    `mounted` is the folder of the dataset version in a mount.
    """

    is_shared: bool = False
    mounted: Path | None = None

    @property
    def name(self) -> str:
        """In a word."""
        return "reflink" if self.is_shared else "copy" if self.mounted is None else "symbolic link"

    @property
    def is_without_copies(self) -> bool:
        """Whether no byte is copied."""
        return self.is_shared or self.mounted is not None

    def target_of(self, file: DataFile) -> Path:
        """Where the link of a file leads. Raises `ValueError` where there are no links."""
        if self.mounted is None:
            raise ValueError("files are not linked")
        return self.mounted.joinpath(*file.path)


def way_of(target: Target, manifest: Manifest, dataset: Dataset) -> Way:
    """How to do without copies. Raises `ExportError` where that cannot be done."""
    if _can_share(target, dataset):
        return Way(is_shared=True)
    for entry in filter(is_ours, list_mounts()):
        if _shows(entry, dataset.config, manifest):
            return Way(mounted=entry.mountpoint / MANIFESTS / manifest.dataset_version.folder)
    raise ExportError(
        f"--link: {target.top} ({target.kind}) cannot share files with the cache in {dataset.config.cache_dir}: that"
        " takes Btrfs or XFS, and the cache on the same disk; and no mount of yours shows this dataset: 'vbnfs mount"
        " ~/vbn' makes one, or leave --link out, and the files are copied"
    )


def _can_share(target: Target, dataset: Dataset) -> bool:
    """Whether the folder's disk and the cache's are one that shares files. Leaves no trace."""
    folder = target.top if target.is_there else target.top.parent
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDWR | getattr(os, "O_TMPFILE", 0), 0o600)
        try:
            os.write(descriptor, bytes(_TRIED_BYTES))
            return can_share(dataset.cache, descriptor)
        finally:
            os.close(descriptor)
    return False


def _shows(entry: MountEntry, config: Config, manifest: Manifest) -> bool:
    """Whether a mount has this version of the dataset of this configuration."""
    try:
        status = ask_status(entry)
    except MountError:
        return False
    return shows_dataset_of(status, config) and str(manifest.dataset_version) in status.get("versions", ())
