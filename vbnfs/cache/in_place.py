"""Files that are read where they lie, outside of the cache: they are neither copied nor counted, evicted or deleted.

    blocks-v2/<scope>/in-place/<2 hex>/<content id>     64 bytes, a checksum for each block, then a line of JSON

The line has the file's path, and its seal: device, inode, length and times. The checksums are those of the blocks
when the file was hashed and had the manifest's hash. When the file is opened it has to be a believed user's, and to
have its seal. Each read of it is checked, every time. So what is changed, even while it is read, is a miss, and comes
from S3; an entry with a block that does not match is deleted. A file that is gone or has lost its seal is a miss.
"""

import json
import os
import stat
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import FORMAT, OpenFiles, Shape
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.cache.stored_blocks import StoredBlocks
from vbnfs.cache.whole_file import Seal
from vbnfs.host.folders import flags_of
from vbnfs.host.identity import user_name
from vbnfs.host.places import Place, folder_at
from vbnfs.host.positioned import read_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content

log = structlog.get_logger()

IN_PLACE: Final = "in-place"
_OPEN: Final = os.O_RDONLY | flags_of("CLOEXEC", "NOFOLLOW", "NONBLOCK", "NOCTTY", "BINARY")
_MOST_BYTES: Final = 1 << 16  # of the line
_LINE_BEGINS: Final = b'{"path"'
_FOLDERS: Final = 3  # scope, kind, and the first two digits


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, and the seal that it had when it was hashed."""

    path: Path
    seal: Seal

    def line(self) -> bytes:
        """As it is stored."""
        return json.dumps({"path": os.fsencode(self.path).hex(), **self.seal._asdict()}).encode() + b"\n"

    @property
    def problem(self) -> str | None:
        """Why the file is not read now; None if it is as it was."""
        try:
            is_same = Seal.of_status(os.stat(self.path, follow_symlinks=False)) == self.seal
        except OSError as error:
            return error.strerror
        return None if is_same else "it has changed since it was hashed"


class InPlaceFiles(StoredBlocks):
    """The files that are read in place, as blocks behind the cache at `directory`; those of `owners` alone."""

    def __init__(self, directory: Path | Place, *, scope: str, metrics: Metrics, owners: Set[int]) -> None:
        folder = folder_at(directory)
        # They may be on another host: no read of one is without a thread.
        super().__init__(
            folder,
            scope=scope,
            metrics=metrics,
            check_every_read=True,
            is_local=False,
            places=_SealedFiles(folder / FORMAT / scope, owners),
        )


class _SealedFiles(ContentPlaces):
    """The entries below `scope`, the folder of what one server sent: each leads to a file elsewhere."""

    def __init__(self, scope: Place, owners: Set[int]) -> None:
        super().__init__(scope, may_map=False, may_write=False)
        self._owners = owners

    def open(self, content: Content) -> ContentFile | None:
        """See `ContentPlaces`: the file, if it has its seal."""
        place = self.of(content.content_id, IN_PLACE)
        try:
            stored = place.open(os.O_RDONLY)
        except FileNotFoundError:
            return None
        data = -1
        try:
            entry = _parse(read_at(stored, _MOST_BYTES, Shape(content.size_bytes).checksums_bytes))
            data = -1 if entry is None else _open_sealed(entry, self._owners)
        finally:
            if data < 0:
                os.close(stored)
        if data < 0:
            return None
        files = OpenFiles(data, stored, is_writable=False)
        return ContentFile(place, files, identity=content.content_id, data_bytes=content.size_bytes, may_map=False)

    def demote(self, content: Content) -> None:
        """See `ContentPlaces`: the file is not what it was, and is not read in place any more."""
        self.of(content.content_id, IN_PLACE).unlink(missing_ok=True)


def is_used(directory: Place, scope: str) -> bool:
    """Whether files are read in place for what came from `scope`."""
    with suppress(OSError), (directory / FORMAT / scope / IN_PLACE).opened():
        return True
    return False


def make_in_place(directory: Place, scope: str) -> None:
    """Have files be read in place from now on, if there are any. Raises `OSError`."""
    (directory / FORMAT / scope / IN_PLACE).mkdir()


@dataclass(frozen=True, slots=True)
class Noted:
    """A file that is read in place as the content with this id; what was noted of it stands at `place`."""

    place: Place
    scope: str
    entry: Entry

    @property
    def content_id(self) -> str:
        """The content's name."""
        return self.place.name

    def forget(self) -> None:
        """Have the file not be read in place any more; the file itself stays. Raises `OSError`."""
        self.place.unlink(missing_ok=True)


def all_noted(directory: Place) -> Iterator[Noted]:
    """All files that are read in place, of all scopes."""
    for parts, _, found in (directory / FORMAT).walk(depth=_FOLDERS):
        for one in found if len(parts) == _FOLDERS and parts[1] == IN_PLACE else ():
            with suppress(OSError):
                place = directory / "/".join((FORMAT, *parts, one.name))
                stored = place.read_bytes()
                entry = _parse(stored[max(0, stored.rfind(_LINE_BEGINS)) :])
                if entry is not None:
                    yield Noted(place, parts[0], entry)


def why_not_believed(status: os.stat_result, owners: Set[int]) -> str | None:
    """Why a file is not read in place, whatever its bytes are; None if it may be."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_uid not in owners:
        return f"it belongs to {user_name(status.st_uid)}: name that user by --trusted-users, or import it as a copy"
    if status.st_mode & stat.S_IWOTH:
        return "everybody can write it: 'chmod o-w' keeps others from that, or import it as a copy"
    return None


def _open_sealed(entry: Entry, owners: Set[int]) -> int:
    """The open file; -1 if it is not there, or not as it was. Raises `OSError` where it cannot be opened."""
    try:
        descriptor = os.open(entry.path, _OPEN)
    except FileNotFoundError:
        return -1
    status = os.fstat(descriptor)
    if why_not_believed(status, owners) is None and Seal.of_status(status) == entry.seal:
        return descriptor
    os.close(descriptor)
    log.warning("a file is not read in place: it has changed", path=str(entry.path))
    return -1


def _parse(line: bytes) -> Entry | None:
    """None for what is torn."""
    try:
        stored = json.loads(line)
        path = Path(os.fsdecode(bytes.fromhex(stored.pop("path"))))
        entry = Entry(path, Seal(**stored))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if all(isinstance(one, int) for one in stored.values()) and path.is_absolute() else None
