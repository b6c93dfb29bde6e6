"""The seam to AllenSDK: what it asks S3 for (`allensdk.api.cloud_cache.cloud_cache`) is answered by vbnfs.

AllenSDK's abstract class keeps the folder, its manifests, and the record of what is there; `S3CloudCache` is its own
way to fill it. Here are the same three methods: listing manifests, bringing a manifest, bringing a file. What is
written is written as a whole, so that no process finds half of it.
"""

import json
from pathlib import Path
from typing import Final

import structlog
from allensdk.api.cloud_cache.cloud_cache import CloudCacheBase
from allensdk.api.cloud_cache.file_attributes import CacheFileAttributes

from vbnfs.access.filling import Progress
from vbnfs.access.local_copies import make_copy, write_file
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import Showing
from vbnfs.dataset.manifest import DataFile, Manifest, entries_of
from vbnfs.errors import DatasetError, StorageError

log = structlog.get_logger()

_NO_RECORD: Final = b"{}"


class FilesByVbnfs(CloudCacheBase):
    """AllenSDK's folder of one project, filled through a `Connection`. Raises `OSError` for what cannot be had."""

    def __init__(self, connection: Connection, cache_dir: Path, project: str, *, ui_class_name: str) -> None:
        self._connection = connection
        self._bucket_name = connection.config.bucket
        self._files: dict[str, dict[tuple[str, str], DataFile]] = {}  # by manifest, by URL and version id
        self._is_open = True  # False: nothing is known of the dataset but what is in the folder
        super().__init__(cache_dir=cache_dir, project_name=project, ui_class_name=ui_class_name)
        _mend_record(self._downloaded_data_path)

    # What AllenSDK's class leaves open

    def _list_all_manifests(self) -> list[str]:
        """The names of the manifests that there are; where that cannot be known, of those that are in the folder."""
        try:
            return sorted(one.file_name for one in self._manifests() if one.names is not None)  # which it can load
        except (StorageError, DatasetError) as error:
            there: list[str] = self.list_all_downloaded_manifests()
            if not there:
                with as_os_errors(str(self._cache_dir)):
                    raise
            self._is_open = False
            log.warning("only what is in the folder is known", folder=str(self._cache_dir), reason=str(error))
            return there

    def _download_manifest(self, manifest_name: str) -> None:
        manifest = next(one for one in self._manifests() if one.file_name == manifest_name)
        write_file(Path(self._cache_dir) / manifest_name, manifest.data)

    def _download_file(self, file_attributes: CacheFileAttributes) -> bool:
        if self._file_exists(file_attributes):
            return False
        path: Path = file_attributes.local_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with as_os_errors(str(path)):
            file = self._file(file_attributes)
            # AllenSDK reads all tables whenever it loads a version.
            besides = self._tables() if file.is_table else ()
            with Showing(None) as showing:
                self._connection.run_showing(showing, _make_copy, file, path, besides, showing)
        return True

    # What it does otherwise than AllenSDK

    def _file_exists(self, file_attributes: CacheFileAttributes) -> bool:
        """Whether a file is there: by its size, too, since AllenSDK leaves one that it could not fetch to its end."""
        path: Path = file_attributes.local_path
        if path.is_symlink() and not path.exists():  # the file that it leads to was deleted
            path.unlink(missing_ok=True)
        try:
            is_there = super()._file_exists(file_attributes)
        except OSError:  # another process has just made the same link; or none can be made here, as on Windows
            is_there = path.exists()
        return is_there and self._has_its_size(path, file_attributes)

    def _update_list_of_downloads(self, file_attributes: CacheFileAttributes) -> None:
        """Add a file to the record by which AllenSDK knows that two versions share it."""
        record = self._downloaded_data_path
        known = json.loads(record.read_bytes()) if record.exists() else {}
        known[str(file_attributes.local_path.resolve())] = file_attributes.file_hash
        write_file(record, json.dumps(known, indent=2, sort_keys=True).encode())

    def _has_its_size(self, path: Path, attributes: CacheFileAttributes) -> bool:
        file = self._known_files().get((attributes.url, attributes.version_id)) if self._is_open else None
        size_bytes = None if file is None else self._connection.run(_known_size, file)
        return size_bytes in {None, path.stat().st_size}

    # The dataset

    def _manifests(self) -> tuple[Manifest, ...]:
        return tuple(self._connection.value.versions.release.manifests)

    def _file(self, attributes: CacheFileAttributes) -> DataFile:
        """The file that AllenSDK means. Raises `DatasetError` where the manifest in the folder is another one."""
        found = self._known_files().get((attributes.url, attributes.version_id))
        if found is None:
            raise DatasetError(
                f"{Path(self._cache_dir) / self._manifest_name} lists {attributes.url}, which the dataset's own"
                " manifest does not: delete it, or name another folder"
            )
        return found

    def _tables(self) -> tuple[DataFile, ...]:
        return tuple(file for file in self._known_files().values() if file.is_table)

    def _known_files(self) -> dict[tuple[str, str], DataFile]:
        """The files of the version that is loaded."""
        name = self._manifest_name
        if name not in self._files:
            manifests = [one for one in self._manifests() if one.file_name == name]
            pairs = [pair for one in manifests for pair in zip(entries_of(one), one.files, strict=True)]
            self._files[name] = {(entry.url, entry.version_id): file for entry, file in pairs}
        return self._files[name]


async def _make_copy(parts: Parts, file: DataFile, to: Path, besides: tuple[DataFile, ...], showing: Showing) -> None:
    progress = Progress()
    showing.watch(progress)
    await make_copy(parts.files, file, to, besides=besides, progress=progress)


async def _known_size(parts: Parts, file: DataFile) -> int | None:
    return parts.versions.size_bytes(file)


def _mend_record(record: Path) -> None:
    """Begin the record anew where it is damaged: AllenSDK itself lets several processes write it at a time."""
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        log.warning("AllenSDK's record of files is damaged; it begins anew", file=str(record))
        write_file(record, _NO_RECORD)
