"""What an exported folder has for `vbnfs import` besides files: what is known of its dataset and files.

It comes from outside. Where S3 can be asked, or was asked before, its manifests are not needed, and not used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.versions import Versions
from vbnfs.cache.sets import BlockSet
from vbnfs.cli.digests import DIGESTS
from vbnfs.cli.export_folder import DIGESTS as DIGESTS_FILE
from vbnfs.cli.export_folder import INDEX as INDEX_FILE
from vbnfs.cli.export_folder import OURS, read_handed_on, read_manifests
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.import_findings import LEFT_OUT
from vbnfs.cli.index import INDEX
from vbnfs.cli.running import load_aloud
from vbnfs.cli.sets import Ware, take_in
from vbnfs.config.settings import Config
from vbnfs.dataset.handed_on import HandedOn, file_name_of
from vbnfs.errors import DatasetError, SetError, StorageError

_Set = TypeVar("_Set", bound=BlockSet)


@dataclass(frozen=True, slots=True)
class ExportedFolder:
    """A folder that `vbnfs export` has made."""

    top: Path
    handed: HandedOn

    @property
    def ours(self) -> Path:
        """The folder in it that has no files of the dataset."""
        return self.top / OURS


def exported_folder(top: Path, config: Config) -> ExportedFolder | None:
    """The folder at `top`, if it was exported to. Raises `DatasetError` where it has another dataset."""
    with _reading(top):
        handed = read_handed_on(top)
    if handed is None:
        return None
    if (handed.bucket, handed.project) != (config.bucket, config.project):
        raise DatasetError(
            f"{top}: its files are of {handed.project} in bucket {handed.bucket}, so none are files of the dataset"
            f" {config.project}: name theirs by --dataset, or by --bucket and --project"
        )
    return ExportedFolder(top, handed)


async def load_with(dataset: Dataset, exported: ExportedFolder | None) -> Versions:
    """The versions; where S3 is not reached, also those that an exported folder knows and the cache does not."""
    if exported is None:
        return await load_aloud(dataset)
    try:
        versions = await load_aloud(dataset)
    except (StorageError, DatasetError):
        pass
    else:
        known = {manifest.file_name for manifest in versions.release.manifests}
        if not versions.release.is_offline or {file_name_of(one) for one in exported.handed.manifests} <= known:
            return versions
    await trio.to_thread.run_sync(partial(_take_in, dataset, exported), abandon_on_cancel=True)
    return await load_aloud(dataset)


def _take_in(dataset: Dataset, exported: ExportedFolder) -> None:
    with _reading(exported.top):
        manifests = read_manifests(exported.top, exported.handed)
    dataset.catalog.take_in(exported.handed, manifests)


@contextmanager
def _reading(top: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{top}: this exported folder cannot be read: {error.strerror}; check its disk, or copy it again"
        ) from error


def take_sets(exported: ExportedFolder, config: Config) -> Iterator[Finding]:
    """Take in digests and structure as claims; files that were taken have their own. Gives what is wrong."""
    yield from _take(DIGESTS, exported.ours / DIGESTS_FILE, config)
    yield from _take(INDEX, exported.ours / INDEX_FILE, config)


def _take(ware: Ware[_Set], file: Path, config: Config) -> Iterator[Finding]:
    if not file.is_file():
        return
    try:
        take_in(ware, config.cache_dir, file, note=lambda text: None)
    except SetError as error:
        yield Finding(str(file), LEFT_OUT, 0, str(error))
