"""What a cache directory holds, found by looking: no index is kept.

Only what this cache made is counted or deleted: not what has another name or place than it gives, is no regular file,
or is another user's. No link is followed, and all is reached from the descriptor of a folder that was checked (see
places.py), wherever its path may lead by now.

Segments of format 1 are counted, too, each as part of a content, until they are converted or deleted (format_1.py).
"""

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.cache.content_folder import (
    CHECKSUMS,
    DATA,
    FORMAT,
    KINDS,
    NEW_PREFIX,
    WHOLE,
    remove_folder,
    remove_leftover,
)
from vbnfs.cache.eviction_policy import History
from vbnfs.cache.histories import read_history
from vbnfs.host.atomic import remove_abandoned
from vbnfs.host.disk_space import allocated_bytes
from vbnfs.host.folders import Folder
from vbnfs.host.identity import our_uid
from vbnfs.host.places import Place, folder_at, for_looking, open_file, open_folder

FORMAT_1: Final = "blocks-v1"
_CLOCKS_DIFFER_SECONDS: Final = 60  # accepted, between hosts that share a cache, and its server
_CONTENT_NAME: Final = re.compile(r"[\w-]+", re.ASCII)
_SEGMENT_NAME: Final = re.compile(r"([\w-]+)\.[0-9]{1,6}", re.ASCII)
_SEGMENT_PREFIX: Final = ".new-"  # of a temporary file of format 1
_FOLDER_DIGITS: Final = 2  # of a content's id
_FOLDERS: Final = 3  # scope, kind, and the first digits
_FOLDERS_1: Final = 2  # scope, and the first digits


@dataclass(frozen=True, slots=True)
class CachedContent:
    """A candidate: what it takes on the disk, and when it was used last (nanoseconds since 1970, not after now).

    `path` is below the cache directory: that of a content's folder, which counts with its files, or of a segment of
    format 1. `inode` is that of its bytes. `history` is None where it was not asked for, or none is stored.
    """

    path: str
    allocated_bytes: int
    used_ns: int
    inode: int = 0
    history: History | None = None

    @property
    def scope(self) -> str:
        """Where its bytes came from."""
        return self.path.split("/")[1]

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole file."""
        return self.path.split("/")[2] == WHOLE

    @property
    def content_id(self) -> str:
        """The content's name."""
        return self.path.rpartition("/")[2].partition(".")[0]


def scan(directory: Path | Place, *, with_histories: bool = False) -> Iterator[CachedContent]:
    """All contents in a cache directory. What dead processes were making or deleting is deleted.

    A content from the future counts as used now, and from now on: its time is set, so that others become newer.
    Histories are read from the files, which takes as long again.
    """
    now_ns, cache = time.time_ns(), folder_at(directory)
    yield from _contents(cache / FORMAT, now_ns, with_histories=with_histories)
    yield from _segments(cache / FORMAT_1, now_ns)


def stock_of(directory: Path | Place, scope: str) -> Iterator[tuple[str, int | None]]:
    """The contents of a scope by their ids, with what the bytes of each take on the disk; None: it is whole.

    Quicker than `scan`: of whole ones only the names are read. Nothing is deleted.
    """
    for parts, above, entries in (folder_at(directory) / FORMAT / scope).walk(depth=_FOLDERS - 1):
        for entry in entries if len(parts) == _FOLDERS - 1 and parts[0] in KINDS else ():
            if is_content_name(entry.name, parts[-1]):
                with suppress(OSError):  # evicted by another process meanwhile
                    yield entry.name, None if parts[0] == WHOLE else _data_bytes(above, entry.name)


def _data_bytes(above: Folder, name: str) -> int:
    folder = open_folder(name, above)
    try:
        return allocated_bytes(folder.stat(DATA))
    finally:
        folder.close()


def delete(directory: Place, one: CachedContent) -> None:
    """Delete a content, or a segment of format 1. Raises `OSError`. It is no error if it is not there."""
    place = directory / one.path
    if one.path.startswith(f"{FORMAT_1}/"):
        place.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError), place.parent.opened() as above:
        remove_folder(above, place.name)


def _contents(directory: Place, now_ns: int, *, with_histories: bool) -> Iterator[CachedContent]:
    for parts, above, entries in directory.walk(depth=_FOLDERS):
        for entry in entries if not parts else ():
            if entry.name.startswith(NEW_PREFIX):  # of a process that tried whether the disk takes anything
                with suppress(OSError):
                    remove_abandoned(above, entry.name)
        if len(parts) < _FOLDERS or parts[1] not in KINDS:
            continue
        for entry in entries:
            if not remove_leftover(above, entry.name) and is_content_name(entry.name, parts[-1]):
                with suppress(OSError):  # evicted by another process meanwhile
                    path = "/".join((FORMAT, *parts, entry.name))
                    yield _look_at(above, entry.name, path, now_ns, with_history=with_histories)


def _segments(directory: Place, now_ns: int) -> Iterator[CachedContent]:
    for parts, folder, entries in directory.walk(depth=_FOLDERS_1):
        for entry in entries if len(parts) == _FOLDERS_1 else ():
            with suppress(OSError):  # evicted by another process meanwhile
                if entry.name.startswith(_SEGMENT_PREFIX):
                    remove_abandoned(folder, entry.name)
                elif is_segment_name(entry.name, parts[-1]) and _is_ours(status := entry.stat(follow_symlinks=False)):
                    used_ns = _no_later_than(now_ns, status.st_mtime_ns, folder, entry.name)
                    yield CachedContent("/".join((FORMAT_1, *parts, entry.name)), allocated_bytes(status), used_ns)


def _look_at(above: Folder, name: str, path: str, now_ns: int, *, with_history: bool) -> CachedContent:
    """One of the two files alone counts, too, and as never used. Raises `OSError` for what is no content of ours."""
    folder = open_folder(name, above)
    try:
        found = {file: status for file in (DATA, CHECKSUMS) if (status := _status(folder, file)) is not None}
        if not found or not all(map(_is_ours, found.values())):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        used_ns = _no_later_than(now_ns, found[CHECKSUMS].st_mtime_ns, folder, CHECKSUMS) if len(found) == 2 else 0
        inode = found[DATA].st_ino if DATA in found else 0
        taken_bytes = sum(map(allocated_bytes, (folder.status(), *found.values())))
        history = _history(folder, name) if with_history else None
        return CachedContent(path, taken_bytes, used_ns, inode, history)
    finally:
        folder.close()


def _history(folder: Folder, content_id: str) -> History | None:
    with suppress(OSError):
        descriptor = open_file(folder, CHECKSUMS, for_looking(folder))
        try:
            return read_history(descriptor, content_id)
        finally:
            os.close(descriptor)
    return None


def _status(folder: Folder, name: str) -> os.stat_result | None:
    """None if it is not there."""
    with suppress(FileNotFoundError):
        return folder.stat(name)
    return None


def is_content_name(name: str, folder: str) -> bool:
    """Whether a folder of this name, in one of that name, can be a content's: see block_cache.py."""
    return _CONTENT_NAME.fullmatch(name) is not None and name[:_FOLDER_DIGITS] == folder


def is_segment_name(name: str, folder: str) -> bool:
    """Whether a file of this name, in a folder of that, can be a segment of format 1."""
    match = _SEGMENT_NAME.fullmatch(name)
    return match is not None and match[1][:_FOLDER_DIGITS] == folder


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == our_uid()


def _no_later_than(now_ns: int, used_ns: int, folder: Folder, name: str) -> int:
    if used_ns > now_ns + _CLOCKS_DIFFER_SECONDS * 10**9:
        with suppress(OSError):  # a cache that can only be read: nothing is evicted there
            folder.set_used(name, now_ns)
    return min(used_ns, now_ns)
