"""Files of a dataset as ordinary files of the user's: shared with the cache's by a reflink, or copied.

A file gets its name when all of it is there and right. It is never a hard link: other programs write to theirs.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO, Final

import trio

from vbnfs.access.filling import Progress
from vbnfs.access.open_files import OpenFiles
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import HashMismatchError
from vbnfs.host.atomic import output_file
from vbnfs.host.copying import clone_file
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader

_PIECE_BYTES: Final = 4 << 20


async def make_copy(
    files: OpenFiles, file: DataFile, to: Path, *, besides: tuple[DataFile, ...] = (), progress: Progress
) -> None:
    """Make `to`, in a folder that is there, a copy of a file; what it was before is no more.

    The file is brought into the cache first, and checked, together with those `besides`. Raises a `StorageError`, and
    `OSError` where the folder takes it not.
    """
    content = await files.content(file)
    if await files.checked_path(content) is None:
        contents = [content, *[await files.content(one) for one in besides]]
        await files.fill(list({one.content_id: one for one in contents}.values()), progress)
    await trio.to_thread.run_sync(_write, files, content, files.reader(content), to)


def _write(files: OpenFiles, content: Content, reader: FileReader, to: Path) -> None:
    """In a thread. What the cache has as a whole, and checked, is shared where the disk can do that."""
    try:
        with output_file(to) as out:
            checked = files.checked_file(content)
            if checked is None or not clone_file(checked.descriptor, out.fileno()):
                _copy(content, reader, out)
    except OSError as error:
        error.filename = error.filename or str(to)  # write(2) names none
        raise


def _copy(content: Content, reader: FileReader, out: BinaryIO) -> None:
    """Write what a reader gives; what is cached it takes from there."""
    hashed = hashlib.blake2b()
    for start in range(0, content.size_bytes, _PIECE_BYTES):
        data = trio.from_thread.run(reader.read, start, _PIECE_BYTES)
        hashed.update(data)
        out.write(data)
    if content.file_hash not in {None, hashed.hexdigest()}:
        raise HashMismatchError(f"{content.source}: the cache's bytes do not have the hash that the manifest has")


def write_file(to: Path, data: bytes) -> None:
    """Write a small file as a whole: a reader finds what was there before, or all of this. Raises `OSError`."""
    with output_file(to) as out:
        out.write(data)
