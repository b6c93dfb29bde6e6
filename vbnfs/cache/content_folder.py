"""The folder of a content: made, opened, recognised and deleted, each as a whole.

See content_file.py for what is in it.
"""

import errno
import os
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES
from vbnfs.host.atomic import abandoned_folder, lock_new_folder
from vbnfs.host.folders import Folder, flags_of
from vbnfs.host.places import Place, open_file, open_folder
from vbnfs.host.sparse import make_long
from vbnfs.host.syncing import sync_data

FORMAT: Final = "blocks-v2"  # of all that is below: its version stands in the path
PARTIAL: Final = "partial"  # of a content that lacks blocks, or was not hashed yet
WHOLE: Final = "whole"
KINDS: Final = (WHOLE, PARTIAL)  # in the order of looking
DATA: Final = "data"
CHECKSUMS: Final = "checksums"
HEADER_BYTES: Final = 64  # of `checksums`, in front of the records
NEW_PREFIX: Final = ".new-"  # of a folder that is being made
OLD_PREFIX: Final = ".old-"  # of one that is being deleted
_NO_FOLDER_OF_OURS: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EPERM})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})  # EPERM: chattr +i
_NOT_EMPTY: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@dataclass(frozen=True, slots=True)
class Shape:
    """The lengths in bytes of the two files of a content."""

    data_bytes: int

    @property
    def checksums_bytes(self) -> int:
        """The header's and one record for each block."""
        return HEADER_BYTES + -(-self.data_bytes // BLOCK_BYTES) * CHECKSUM_BYTES

    def is_of(self, files: "OpenFiles") -> bool:
        """Whether two open files have these lengths."""
        lengths = os.fstat(files.data).st_size, os.fstat(files.checksums).st_size
        return lengths == (self.data_bytes, self.checksums_bytes)


class OpenFiles(NamedTuple):
    """The descriptors of a content's two files, and whether they may be written to.

    `are_shared`: other hosts may write to them. Then what is written is at the server before the call returns.
    """

    data: int
    checksums: int
    is_writable: bool
    are_shared: bool = False


def open_files(place: Place, *, may_write: bool = True) -> OpenFiles:
    """Open what is in a content's folder; to be read only where the disk takes no writes. Raises `OSError`.

    Where other hosts may write there, the records are written with O_DSYNC: so they are at the server before the
    claim on their blocks is given back. And NFS sends just these bytes then, not the rest of their page as this host
    saw it last, in which records of other hosts may be lacking.
    """
    with place.opened() as folder:
        is_shared = folder.is_shared
        try:
            if may_write:
                both = _open_both(folder, os.O_RDWR, place.owners, more=flags_of("DSYNC") if is_shared else 0)
                return OpenFiles(*both, is_writable=True, are_shared=is_shared)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
        return OpenFiles(*_open_both(folder, os.O_RDONLY, place.owners), is_writable=False, are_shared=is_shared)


def flush_files(place: Place) -> None:
    """Have the disk take what was written to a content, so that a power cut does not undo it. Raises `OSError`."""
    data, checksums, *_ = open_files(place)
    try:
        sync_data(data)
        sync_data(checksums)
    finally:
        os.close(data)
        os.close(checksums)


def _open_both(folder: Folder, flags: int, owners: Set[int], *, more: int = 0) -> tuple[int, int]:
    """`more`: flags for the checksums alone."""
    data = open_file(folder, DATA, flags, owners=owners)
    try:
        return data, open_file(folder, CHECKSUMS, flags | more, owners=owners)
    except BaseException:
        os.close(data)
        raise


def make_folder(place: Place, shape: Shape) -> None:
    """Make a content's folder, with no block in it; one of this shape stays as it is. Raises `OSError`."""
    with place.parent.opened(make=True) as above:
        if _is_of_another_shape(above, place.name, shape):
            remove_folder(above, place.name)
        with new_folder(above) as (folder, name):
            for file, length in ((DATA, shape.data_bytes), (CHECKSUMS, shape.checksums_bytes)):
                descriptor = open_file(folder, file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                try:
                    make_long(descriptor, length)
                finally:
                    os.close(descriptor)
            move_folder(above, name, above, place.name)


def move_folder(above: Folder, name: str, to: Folder, as_name: str) -> bool:
    """Rename a content's folder; False if there is one of that name already, which stays. Raises `OSError`."""
    try:
        above.rename(name, to, as_name)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        return False
    return True


def remove_folder(above: Folder, name: str) -> None:
    """Delete a content's folder. It is renamed first: no process sees it with one of its files. Raises `OSError`.

    It is no error if there is none. Files that the cache has not made keep the folder, under its new name.
    """
    with suppress(FileNotFoundError):
        if not name.startswith(OLD_PREFIX):
            old = f"{OLD_PREFIX}{os.urandom(8).hex()}"
            above.rename(name, above, old)
            name = old
        _empty(above, name)
        with suppress(OSError):  # there is something else in it
            above.rmdir(name)


def remove_leftover(above: Folder, name: str) -> bool:
    """Delete a folder that a dead process was making or deleting; whether the name is of such a one, dead or not."""
    if name.startswith(OLD_PREFIX):
        with suppress(OSError):
            remove_folder(above, name)
        return True
    if not name.startswith(NEW_PREFIX):
        return False
    with suppress(OSError), abandoned_folder(above, name) as is_abandoned:
        if is_abandoned:
            remove_folder(above, name)
    return True


def _is_of_another_shape(above: Folder, name: str, shape: Shape) -> bool:
    """Whether what has a content's name cannot be it; False if there is nothing, for another process may make it."""
    try:
        folder = open_folder(name, above)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_FOLDER_OF_OURS:
            raise
        return True
    try:
        found = [folder.stat(file).st_size for file in (DATA, CHECKSUMS)]
    except FileNotFoundError:
        return True
    finally:
        folder.close()
    return found != [shape.data_bytes, shape.checksums_bytes]


@contextmanager
def new_folder(above: Folder) -> Iterator[tuple[Folder, str]]:
    """A new folder, locked: so `remove_leftover` leaves it alone. Deleted at the end, unless it was renamed."""
    folder, name = _make_new(above)
    try:
        yield folder, name
    finally:
        folder.close()
        with suppress(OSError):
            remove_folder(above, name)


def _make_new(above: Folder) -> tuple[Folder, str]:
    while True:
        name = f"{NEW_PREFIX}{os.urandom(8).hex()}"
        above.make(name)
        with suppress(FileNotFoundError):  # another process has just taken it, not locked yet, for abandoned
            folder = open_folder(name, above)
            if lock_new_folder(folder):
                return folder, name
            folder.close()


def _empty(above: Folder, name: str) -> None:
    try:
        folder = open_folder(name, above)
    except NotADirectoryError:
        above.unlink(name)
        return
    try:
        if folder.is_shared:
            _cut_short(folder)
        for file in (CHECKSUMS, DATA):
            with suppress(FileNotFoundError, IsADirectoryError):
                folder.unlink(file)
    finally:
        folder.close()


def _cut_short(folder: Folder) -> None:
    """Have those who have a content open see that it is deleted, where its number of links does not say so.

    NFS, and what FUSE makes of files, gives a file that is open and deleted another name until it is closed.
    """
    with suppress(OSError):
        os.close(folder.open(CHECKSUMS, os.O_WRONLY | os.O_TRUNC | flags_of("NOFOLLOW", "NONBLOCK", "CLOEXEC")))
