"""What was cited, as an RO-Crate 1.1 in a folder of its own (the only module that imports rocrate).

Each file is a web-based data entity: the URL of its object version (RO-Crate 1.1, "Data Entities").
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from vbnfs import __version__
from vbnfs.access.citing import CitedFile, CitedVersion
from vbnfs.errors import RecordError

_FORMATS: Final = {".nwb": "application/x-hdf5", ".csv": "text/csv"}
_NO_LICENSE: Final = "The license is the one under which the publisher of the dataset gives it."


def write(folder: Path, versions: Sequence[CitedVersion], license_url: str | None) -> None:
    """Write the crate. Raises `RecordError` where the folder is not new or empty, or cannot be written."""
    crate = ROCrate(version="1.1")
    crate.name = "; ".join(f"{one.project} {one.dataset_version}" for one in versions)
    crate.description = " ".join(one.paragraph() for one in versions)
    crate.datePublished = datetime.now(UTC)
    root = crate.root_dataset
    if license_url is None:
        root["license"] = _NO_LICENSE
    else:
        root["license"] = crate.add(ContextEntity(crate, license_url, {"@type": "CreativeWork", "name": license_url}))
    tool = {"@type": "SoftwareApplication", "name": "vbnfs", "version": __version__}
    root["mentions"] = crate.add(ContextEntity(crate, "#vbnfs", tool))
    for version in versions:
        for file in version.files:
            properties = _properties(version, file)
            crate.add_file(file.url, fetch_remote=False, validate_url=False, properties=properties)
    try:
        if folder.exists() and os.listdir(folder):
            raise RecordError(f"{folder}: there are files in it: name a new folder for the crate")
        crate.write(folder)
    except OSError as error:
        raise RecordError(f"{folder}: the crate cannot be written: {error.strerror}") from error


def _properties(version: CitedVersion, file: CitedFile) -> dict[str, str]:
    values = {
        "name": file.path,
        "version": version.dataset_version,
        "encodingFormat": _FORMATS.get(Path(file.path).suffix, "application/octet-stream"),
    }
    if file.size_bytes is not None:
        values["contentSize"] = str(file.size_bytes)
    if file.file_hash is not None:
        values["identifier"] = f"blake2b-512:{file.file_hash}"
    if file.read is not None:
        values["sdDatePublished"] = max(file.read.times)
        values["description"] = f"{file.read.ranges.count_bytes:,} bytes of it were read"
    return values
