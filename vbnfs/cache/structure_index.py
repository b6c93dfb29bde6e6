"""The structure index: which blocks of the files of a dataset hold their structure.

    structure-v1/recorded       found here: by walks, and from what programs read first
    structure-v1/imported       made elsewhere: claims

Both are structure sets, one behind the other, as they are exported (docs/structure-index.md): a later set about a
file stands behind the earlier ones. They go by the hash of a file, as digests do: neither scope nor content id is in
them. They stand beside the blocks, and are not evicted.

What is not stored here, such as an index that a dataset's bucket has, is handed in.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.sets import Imported
from vbnfs.cache.structure_sets import MOST_BYTES, Sets, StructureSet, merged
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WarnOnce
from vbnfs.objects import Content

log = structlog.get_logger()

FORMAT: Final = "structure-v1"
RECORDED: Final = "recorded"
IMPORTED: Final = "imported"
_SPARE_BYTES: Final = 64 << 10  # so much of a file may be sets that later ones have replaced


@dataclass(frozen=True, slots=True)
class KnownStructure:
    """What is known of a file's structure. `is_proven`: it was walked here, to its end. `origin`: who says so."""

    found: StructureSet
    origin: str

    @property
    def is_proven(self) -> bool:
        """Whether there is nothing to be found out any more."""
        return self.origin == RECORDED and self.found.is_whole


class StructureIndex:
    """What a cache directory has of it, for all of its datasets and processes, and what is handed in.

    All methods but `of_nowait` and `hand_in` read the disk: call them from a thread, any one.
    """

    def __init__(self, directory: Path | Place) -> None:
        folder = folder_at(directory) / FORMAT
        self._lock = threading.Lock()
        self._files = {name: _GrowingFile(folder / name) for name in (RECORDED, IMPORTED)}
        self._handed: dict[str, Sets] = {}
        self._warn_once = WarnOnce()

    def hand_in(self, origin: str, data: bytes) -> int:
        """Use an index that is not stored here, instead of an earlier one of this origin, unless it has no sets.

        Returns of how many files it has some.
        """
        sets = Sets()
        sets.take(data)
        if len(sets):
            self._handed = {**self._handed, origin: sets}  # another thread may go through it
        return len(sets)

    def refresh(self) -> None:
        """Read what was added to the files."""
        with self._lock:
            for file in self._files.values():
                file.read()

    def of(self, content: Content) -> KnownStructure | None:
        """What is known of a content; None for nothing, and for a set about another size than it has."""
        self.refresh()
        return self._of(content)

    def of_nowait(self, content: Content) -> StructureSet | None:
        """The same set, as it was at the last `refresh`. Does not wait for a disk, and for no other thread."""
        known = self._of(content)
        return None if known is None else known.found

    def _of(self, content: Content) -> KnownStructure | None:
        known = None if content.file_hash is None else self._known(content.file_hash)
        return known if known is not None and known.found.size_bytes == content.size_bytes else None

    def _known(self, file_hash: str) -> KnownStructure | None:
        """What was found here goes before what others say: all of it alone, a part of it with theirs behind."""
        found, origin = None, RECORDED
        for name, sets in self._places():
            one = sets.of(file_hash)
            if one is None:
                continue
            if name == RECORDED and one.is_whole:
                return KnownStructure(one, name)
            origin = name if found is None else origin
            found = merged(found, one)
        return None if found is None else KnownStructure(found, origin)

    def _places(self) -> Iterator[tuple[str, Sets]]:
        for name, file in self._files.items():
            yield name, file.sets
        yield from self._handed.items()

    def record(self, found: StructureSet) -> str | None:
        """Keep what was found here. A disk that takes nothing is no error: returns why, None if all is well."""
        try:
            self._add(RECORDED, found)
        except OSError as error:
            self._warn_once("the structure of files cannot be kept in the index", reason=str(error.strerror))
            return str(error.strerror)
        return None

    def take_in(self, found: StructureSet) -> Imported:
        """Keep what was made elsewhere, as a claim, unless all is known here. Raises `OSError`.

        It is refused if it is about another size than the file was found to have here.
        """
        own = self.proven(found.file_hash)
        if own is not None and own.size_bytes != found.size_bytes:
            return Imported.REFUSED
        is_known = own is not None and own.is_whole
        return Imported.NEW if not is_known and self._add(IMPORTED, found) else Imported.KNOWN

    def _add(self, name: str, found: StructureSet) -> bool:
        """Add a set to a file, together with what that says of it; False if it says that already."""
        with self._lock:
            file = self._files[name]
            before = file.read().of(found.file_hash)
            after = merged(before, found)
            if after is None or after == before:
                return False
            file.append(after)
            file.read()
            return True

    def proven(self, file_hash: str) -> StructureSet | None:
        """What was found here of a file: what is exported."""
        with self._lock:
            return self._files[RECORDED].read().of(file_hash)

    def proven_hashes(self) -> Iterator[str]:
        """The hashes of all files of which something was found here, ascending."""
        with self._lock:
            return self._files[RECORDED].read().hashes()

    def every(self) -> Iterator[KnownStructure]:
        """All that is known, by hash."""
        self.refresh()
        hashes = {file_hash for _, sets in self._places() for file_hash in sets.hashes()}
        known = [self._known(file_hash) for file_hash in sorted(hashes)]
        return iter([one for one in known if one is not None])


class _GrowingFile:
    """Sets in a file that processes append to. It is read as far as it has grown. `sets` were there then."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.sets = Sets()
        self._inode: int | None = None
        self._position = 0

    def read(self) -> Sets:
        """What it has now; nothing where it cannot be read."""
        try:
            descriptor = self._place.open(os.O_RDONLY)
        except OSError:
            self._begin(None)
            return self.sets
        with open(descriptor, "rb") as file, suppress(OSError):
            status = os.fstat(descriptor)
            if status.st_ino != self._inode or status.st_size < self._position:
                self._begin(status.st_ino)
            file.seek(self._position)
            self._position += self.sets.take(file.read(2 * MOST_BYTES))
        return self.sets

    def _begin(self, inode: int | None) -> None:
        self.sets, self._inode, self._position = Sets(), inode, 0

    def append(self, found: StructureSet) -> None:
        """Add a set that says all that earlier ones about its file say. Raises `OSError`, also if there is no room.

        It is one write(2): a torn one counts as none. Where much was replaced by later sets, the file is written anew
        without that. What another process adds at that very moment may be lost, and is found out again.
        """
        data, sets = found.encode(), self.sets
        if sets.replaced_bytes > sets.count_bytes // 2 + _SPARE_BYTES:
            others = (sets.of(file_hash) for file_hash in sets.hashes() if file_hash != found.file_hash)
            replace_file(self._place, b"".join(one.encode() for one in (*others, found) if one is not None))
            return
        if sets.count_bytes + len(data) > MOST_BYTES:
            raise OSError(errno.ENOSPC, "the index has no room for more files")
        self._place.parent.mkdir()
        descriptor = self._place.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
