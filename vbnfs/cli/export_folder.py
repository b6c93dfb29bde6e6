"""A folder of exported files, as AllenSDK has its cache_dir, and beside them what `vbnfs import` takes along.

    <project>-<version>/...                       the files of a version
    <project>_project_manifest_v<version>.json    its manifest
    _downloaded_data.json                         {}: without it AllenSDK walks over all files and warns
    README.txt
    vbnfs-export/catalog.json                     what is known of the dataset (dataset/handed_on.py)
    vbnfs-export/manifests/*.json                 the manifests of all versions, as they were released
    vbnfs-export/digests                          digests of the files' blocks (docs/digests.md)
    vbnfs-export/structure-index                  where the structure of the files is (docs/structure-index.md)
    vbnfs-export/*.part                           files that have not got their names yet

A file gets its name when it is proven and on the disk. Behind that its digests are written: so a file of the right
length and time of which there are digests is one that was exported, and needs not be read again. The folder is the
user's own, on any file system, so none of the checks that the cache's folder needs are made here. But a disk goes
from hand to hand: no link in the folder is followed to where something is written or deleted.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from vbnfs.cache.digests import KIND, DigestSet, read_set
from vbnfs.cache.structure_sets import MOST_BYTES, StructureSet
from vbnfs.cache.structure_sets import read_set as read_structure_set
from vbnfs.dataset.allensdk import DOWNLOADED
from vbnfs.dataset.handed_on import MAX_BYTES, HandedOn, decode
from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES
from vbnfs.dataset.names import MANIFESTS, README
from vbnfs.errors import DatasetError, DigestsError, ExportError, IndexFileError
from vbnfs.host.folders import FOLDER, flags_of
from vbnfs.host.locks import lock_file
from vbnfs.host.positioned import read_at, write_all

OURS: Final = "vbnfs-export"
CATALOG: Final = "catalog.json"
DIGESTS: Final = "digests"
INDEX: Final = "structure-index"
_PART: Final = ".part"
_PART_NAME: Final = re.compile(rf"[0-9a-f]{{16}}{re.escape(_PART)}")
_NO_LINK: Final = flags_of("CLOEXEC", "NOFOLLOW", "NONBLOCK")  # opening waits for no other end of a pipe
_TIME_STEP_NS: Final = 2 * 10**9  # of times on FAT
_MOST_MANIFESTS_BYTES: Final = 256 << 20


class Part:
    """A file that has no name of its own yet. It is closed with its last user, which may be an abandoned thread."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        with suppress(OSError):  # a file system without modes
            os.fchmod(self.descriptor, mode)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of it, or raise `OSError`."""
        write_all(self.descriptor, [data], offset)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it, fewer only at its end."""
        return read_at(self.descriptor, length, offset)

    def publish(self, to: Path, modified_ns: int) -> None:
        """Give it its name, when the disk has it; what had that name is no more. Raises `OSError`."""
        with suppress(OSError):  # a file system that cannot store this time: then the file is read again next time
            os.utime(self.descriptor, ns=(modified_ns, modified_ns))
        os.fsync(self.descriptor)
        _give_name(self.path, to)
        _sync_folder(to.parent)

    def remove(self) -> None:
        """Delete it, unless it has its name."""
        with suppress(OSError):
            self.path.unlink()


class ExportFolder:
    """The folder `top`, while it is being filled. `umask` is the user's. Methods raise `OSError`."""

    def __init__(self, top: Path, *, umask: int) -> None:
        self.top: Final = top
        self._ours: Final = top / OURS
        self._file_mode, self._folder_mode = 0o666 & ~umask, 0o777 & ~umask
        self._recorded: set[str] = set()  # hashes of files that were exported
        self._lock: BinaryIO | None = None

    def read_record(self) -> None:
        """Find out which files were exported before, without changing anything. Raises `ExportError` for links."""
        with suppress(OSError):
            ours = _open_folder(self._ours)
            try:
                descriptor = _open_digests(self._ours / DIGESTS, os.O_RDONLY, ours)
            finally:
                os.close(ours)
            with os.fdopen(descriptor, "rb") as digests:
                self._recorded = set(_hashes_in(digests))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder ready. Raises `ExportError` while another process fills it, and for links."""
        ours = self._made(self._ours)
        try:
            descriptor = _open_digests(self._ours / DIGESTS, os.O_RDWR | os.O_APPEND | os.O_CREAT, ours)
            with os.fdopen(descriptor, "ab+") as digests:
                with suppress(OSError):
                    os.fchmod(digests.fileno(), self._file_mode)
                self._take_lock(digests)
                for left in filter(_PART_NAME.fullmatch, os.listdir(ours)):
                    os.unlink(left, dir_fd=ours)
                self._recorded = set(_hashes_in(digests, is_cut=True))
                self._lock = digests
                yield
        finally:
            os.close(ours)

    def _take_lock(self, digests: BinaryIO) -> None:
        try:
            is_locked = lock_file(digests.fileno())
        except OSError:  # a file system without locks
            return
        if not is_locked:
            raise ExportError(
                f"{self.top}: another vbnfs exports to it now: wait for its end, or name another folder"
            )

    def place(self, path: tuple[str, ...]) -> Path:
        """The file at a path of parts."""
        return self.top.joinpath(*path)

    def has(self, path: tuple[str, ...], size_bytes: int, modified_ns: int, file_hash: str | None) -> bool:
        """Whether a file was exported before, by what stat(2) and the digests say."""
        is_known = file_hash is None or file_hash in self._recorded
        return is_known and _looks_so(self.place(path), size_bytes, modified_ns)

    def new_part(self) -> Part:
        """A file to be filled."""
        return Part(self._ours / f"{os.urandom(8).hex()}{_PART}", self._file_mode)

    def make_folder_of(self, to: Path) -> None:
        """Make the folder that a file is to be in. Raises `ExportError` where a link leads elsewhere."""
        os.close(self._made(to.parent))

    def record(self, digests: DigestSet) -> None:
        """Note that a file with these digests is there."""
        if self._lock is not None and digests.file_hash not in self._recorded:
            self._lock.write(digests.encode())
            self._lock.flush()
            os.fsync(self._lock.fileno())
            self._recorded.add(digests.file_hash)

    def link(self, to: Path, target: Path) -> None:
        """A symbolic link; what had its name is no more."""
        temporary = self._ours / f"{os.urandom(8).hex()}{_PART}"
        temporary.symlink_to(target)
        _give_name(temporary, to)

    def write(self, path: tuple[str, ...], data: bytes, modified_ns: int | None = None) -> None:
        """A small file, as a whole. One that has these bytes is left as it is."""
        to = self.place(path)
        with suppress(OSError):
            if not to.is_symlink() and to.stat().st_size == len(data) and to.read_bytes() == data:
                return
        self.make_folder_of(to)
        part = self.new_part()
        part.write(data, 0)
        part.publish(to, os.fstat(part.descriptor).st_mtime_ns if modified_ns is None else modified_ns)

    def _made(self, folder: Path) -> int:
        """A descriptor of a folder, made with those above it up to `top`, with the user's permissions."""
        parts = folder.relative_to(self.top).parts
        with suppress(FileExistsError):
            self.top.mkdir()
            self._note_made(self.top)
        here = os.open(self.top, os.O_RDONLY | flags_of("DIRECTORY", "CLOEXEC"))
        for path in (self.top.joinpath(*parts[: count + 1]) for count in range(len(parts))):
            try:
                with suppress(FileExistsError):
                    os.mkdir(path.name, dir_fd=here)
                    self._note_made(path)
                below = _open_folder(path, here)
            finally:
                os.close(here)
            here = below
        return here

    def _note_made(self, folder: Path) -> None:
        with suppress(OSError):  # a file system without modes
            folder.chmod(self._folder_mode)
        _sync_folder(folder.parent)

    # What `vbnfs import` takes along

    def hand_on(self, handed: HandedOn, manifests: Mapping[str, bytes]) -> None:
        """Write what is known of the dataset, and its manifests. What an earlier export knew besides, stays."""
        before: HandedOn | None = None
        with suppress(DatasetError):  # a damaged one is written anew
            before = read_handed_on(self.top)
        if before is not None and (before.bucket, before.project) != (handed.bucket, handed.project):
            raise ExportError(
                f"{self.top}: it has files of {before.project} in bucket {before.bucket}: name another folder"
            )
        for name, data in manifests.items():
            self.write((OURS, MANIFESTS, name), data)
        self.write((OURS, CATALOG), (handed if before is None else handed.joined(before)).encode())

    def write_index(self, sets: Mapping[str, StructureSet]) -> None:
        """Write the structure of files, by their hashes, beside what an earlier export knew of others."""
        found: dict[str, StructureSet] = {}
        before = io.BytesIO(_bytes_of(self._ours / INDEX, MOST_BYTES))
        with suppress(IndexFileError):
            while (one := read_structure_set(before)) is not None:
                found[one.file_hash] = one
        every = found | dict(sets)
        self.write((OURS, INDEX), b"".join(every[name].encode() for name in sorted(every)))

    def write_allensdk(self, manifest: str, data: bytes, modified_ns: int) -> None:
        """What AllenSDK looks for beside the files of a version, and README.txt."""
        self.write((manifest,), data, modified_ns)
        if not os.path.lexists(self.top / DOWNLOADED):
            self.write((DOWNLOADED,), b"{}")
        readme = self.top / README
        if not os.path.lexists(readme) or _bytes_of(readme, len(_BEGINNING)) == _BEGINNING:  # else the user's own
            self.write((README,), _readme(manifest))


_BEGINNING: Final = b"Files of a dataset, exported by 'vbnfs export'."


def _readme(manifest: str) -> bytes:
    """How to use the folder. `manifest` is the name of a manifest's file, which begins with the dataset's."""
    kind = "Ophys" if manifest.startswith("visual-behavior-ophys") else "Neuropixels"
    text = f"""
This folder can be copied as any other. Each file in it is as it was released.

In Python, with AllenSDK 2.16.2 and without network:

    from allensdk.brain_observatory.behavior.behavior_project_cache import (
        VisualBehavior{kind}ProjectCache as Cache,
    )
    cache = Cache.from_local_cache(cache_dir="/path/of/this/folder")

With vbnfs: 'vbnfs import /path/of/this/folder' takes all of it into the cache of a machine, which needs no network.
Then 'vbnfs mount ~/vbn' shows it. The folder '{OURS}' is for that; nothing else needs it.
"""
    return _BEGINNING + text.encode()


def read_handed_on(top: Path) -> HandedOn | None:
    """What an exported folder says of its dataset; None for any other folder. Raises `DatasetError`, `OSError`."""
    path = top / OURS / CATALOG
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"not what an export has written: more than {MAX_BYTES:,} bytes")
        return decode(path.read_bytes())
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}; 'vbnfs export' to this folder writes it anew") from error


def read_manifests(top: Path, handed: HandedOn) -> dict[str, bytes]:
    """The bytes of the manifests that are there, by file name: those of the listed length. Raises `OSError`."""
    found, left_bytes = dict[str, bytes](), _MOST_MANIFESTS_BYTES
    for entry in handed.manifests:
        name, size_bytes = entry.key.rpartition("/")[2], entry.attributes.size_bytes
        path = top / OURS / MANIFESTS / name
        left_bytes -= size_bytes
        if size_bytes > MAX_MANIFEST_BYTES or left_bytes < 0:
            continue
        if path.is_file() and path.stat().st_size == size_bytes:
            found[name] = path.read_bytes()
    return found


def _looks_so(to: Path, size_bytes: int, modified_ns: int) -> bool:
    try:
        status = to.lstat()
    except OSError:
        return False
    is_file = status.st_size == size_bytes and not to.is_symlink()
    return is_file and abs(status.st_mtime_ns - modified_ns) <= _TIME_STEP_NS


def _open_folder(path: Path, above: int | None = None) -> int:
    """A descriptor of a folder, which is in the one with that descriptor. Raises `ExportError` for a link."""
    try:
        return os.open(path if above is None else path.name, FOLDER, dir_fd=above)
    except OSError as error:
        if path.is_symlink():
            raise _link_refused(path) from None
        if isinstance(error, NotADirectoryError):
            raise _in_the_way(path, "not a folder, where one is to be") from None
        raise


def _open_digests(path: Path, flags: int, folder: int) -> int:
    """A descriptor of the file of digests. Raises `ExportError` for a link, and for what is none."""
    try:
        descriptor = os.open(path.name, flags | _NO_LINK, 0o600, dir_fd=folder)
    except OSError as error:
        raise (_link_refused(path) if path.is_symlink() else error) from None
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if is_file and KIND.letters.startswith(read_at(descriptor, len(KIND.letters), 0)):
        return descriptor
    os.close(descriptor)
    raise ExportError(f"{path}: not what an export has written: move it away, or name another folder")


def _give_name(part: Path, to: Path) -> None:
    """Give a file its name; what had that name is no more. Raises `ExportError` for a folder, and `OSError`."""
    try:
        part.replace(to)
    except IsADirectoryError:
        raise _in_the_way(to, "a folder, where a file is to be") from None


def _in_the_way(path: Path, what: str) -> ExportError:
    return ExportError(f"{path}: {what}: move it away, or name another folder")


def _link_refused(path: Path) -> ExportError:
    return ExportError(f"{path}: a symbolic link, which an export does not follow: delete it, or name another folder")


def _bytes_of(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a file that is no link; none of what is no such file. Raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return b""
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most_bytes)


def _hashes_in(file: BinaryIO, *, is_cut: bool = False) -> Iterator[str]:
    """The hashes in a file of digests. `is_cut`: what a process that was killed left at its end is cut off."""
    position = 0
    file.seek(0)
    try:
        while (one := read_set(file)) is not None:
            position = file.tell()
            yield one.file_hash
    except DigestsError:
        if is_cut:
            file.truncate(position)
    file.seek(0, os.SEEK_END)


def _sync_folder(folder: Path) -> None:
    """Have the disk take the names in a folder; not every file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in {errno.EIO, errno.ENOSPC}:
            raise
    finally:
        os.close(descriptor)
