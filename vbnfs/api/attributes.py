"""What S3 says of files: their size and time, of many at once."""

from collections.abc import Sequence

from vbnfs.api.connection import Connection, Parts
from vbnfs.api.files import File
from vbnfs.objects import ObjectAttributes


def attributes_of(connection: Connection, files: Sequence[File]) -> list[ObjectAttributes | None]:
    """Size and time of each; None where they are not known.

    Listings have them, so S3 is asked only for what none has: all of that at once.
    """
    known = [_known(connection.value, file) for file in files]
    if unknown := [file for file, attributes in zip(files, known, strict=True) if attributes is None]:
        connection.run(_learn, unknown)
        known = [_known(connection.value, file) for file in files]
    return known


def _known(parts: Parts, file: File) -> ObjectAttributes | None:
    versions = parts.versions
    return versions.dataset.catalog.sizes.get(versions.named.of(file.entry))


async def _learn(parts: Parts, files: Sequence[File]) -> None:
    await parts.versions.learn_sizes(file.entry for file in files)
