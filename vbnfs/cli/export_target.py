"""Where `vbnfs export` may write, and what the file system there can hold: found out before anything is copied."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.cli.render import files, size
from vbnfs.errors import ExportError
from vbnfs.host.folders import HAS_DESCRIPTORS
from vbnfs.host.mountinfo import absolute, all_mounts, file_system_type, list_mounts

_FAT: Final = frozenset({"vfat", "msdos", "fuse.fusefat"})
_FAT_BYTES: Final = (1 << 32) - 1  # a file's length has 32 bits there
# Names as Windows has them: [MS-FSA] 2.1.5.1, "Naming Files, Paths, and Namespaces". `fuseblk` is NTFS or exFAT.
_AS_WINDOWS: Final = _FAT | {"exfat", "ntfs", "ntfs3", "fuseblk"}
_RESERVED: Final = frozenset('"*:<>?\\|')
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}
)
_ANY_BYTES: Final = (1 << 31) - 1  # as long as a file can be anywhere
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Target:
    """A folder to export to. `kind` is the type of its file system, `free_bytes` what it has for our user."""

    top: Path
    is_there: bool
    kind: str
    free_bytes: int


def check_target(folder: Path, *, cache_dir: Path) -> Target:
    """The folder without links in its path. Raises `ExportError` for one that cannot be exported to."""
    if not HAS_DESCRIPTORS:
        raise ExportError(
            f"{folder}: this system has no descriptors of folders (Windows has none), by which an export follows no"
            " links: export on Linux or macOS, or in WSL"
        )
    top = absolute(folder)
    for entry in list_mounts():
        if top.is_relative_to(entry.mountpoint):
            raise ExportError(
                f"{folder}: in the mount {entry.mountpoint}, which can only be read; name another folder"
            )
    if top.is_relative_to(absolute(cache_dir)):
        raise ExportError(f"{folder}: in the cache's own folder; name another folder")
    above = top if os.path.lexists(top) else top.parent
    try:
        status, room = above.stat(), os.statvfs(above)
    except FileNotFoundError as error:
        raise ExportError(
            f"{folder}: there is no folder {above} to make it in: mount the disk that is meant, or make it with"
            f" 'mkdir -p {above}'"
        ) from error
    except OSError as error:
        raise ExportError(f"{folder}: {error.strerror}; name another folder") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ExportError(f"{folder}: {above} is not a folder; name another one")
    if room.f_flag & os.ST_RDONLY:
        raise ExportError(
            f"{folder}: its disk can only be read; name another folder, or 'mount -o remount,rw' that disk"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(f"{folder}: you may not write to {above}; name another folder")
    kind = file_system_type(above, all_mounts())
    return Target(top, above == top, kind, room.f_bavail * room.f_frsize)


def check_lengths(target: Target, lengths: Iterable[tuple[str, int]]) -> None:
    """Raise `ExportError` for files, by name and length, that are too long for the file system there."""
    if target.kind in _FAT:
        too_long = [(name, count) for name, count in lengths if count > _FAT_BYTES]
        what, remedy = f"{target.top} is on FAT32, which takes no file of 4 GiB or more", "format the disk as exFAT"
    else:
        too_long = [(name, count) for name, count in lengths if count > _ANY_BYTES and not _has_length(target, count)]
        what, remedy = f"the file system of {target.top} ({target.kind}) takes no file so long", "name another disk"
    if too_long:
        raise ExportError(
            f"{what}: {files(len(too_long))}: {_list(f'{name} ({size(count)})' for name, count in too_long)};"
            f" {remedy}, or leave them out (LFP with '--lfp no'); nothing was copied"
        )


def _has_length(target: Target, count_bytes: int) -> bool:
    """Whether a file may be so long there: a position behind the longest one is refused by lseek(2) (EINVAL)."""
    folder = target.top if target.is_there else target.top.parent
    flags = os.O_RDWR | getattr(os, "O_TMPFILE", 0)
    try:
        descriptor = os.open(folder, flags, 0o600)
    except OSError:  # no files without a name: what is too long is refused when it is written
        return True
    try:
        os.lseek(descriptor, count_bytes, os.SEEK_SET)
    except OSError as error:
        return error.errno != errno.EINVAL
    finally:
        os.close(descriptor)
    return True


def check_names(target: Target, paths: Iterable[Sequence[str]]) -> None:
    """Raise `ExportError` for paths of files, in parts, of which the file system there cannot have the names."""
    every = [tuple(path) for path in paths]
    longest = _longest_name(target)
    reasons = {"/".join(path): reason for path in every for part in path if (reason := _why_not(part, longest))}
    if target.kind in _AS_WINDOWS:
        reasons |= {"/".join(path): reason for path in every for part in path if (reason := _why_not_there(part))}
        folded = Counter("/".join(path).casefold() for path in set(every))
        twice = [path for path in every if folded["/".join(path).casefold()] > 1]
        reasons |= {"/".join(path): "another name differs from it by capitals alone" for path in twice}
    if reasons:
        raise ExportError(
            f"the file system of {target.top} ({target.kind}) cannot have the names of {files(len(reasons))}:"
            f" {_list(f'{path} ({reason})' for path, reason in reasons.items())}; name a folder on another disk;"
            " nothing was copied"
        )


def _longest_name(target: Target) -> int:
    with suppress(OSError, ValueError):
        return os.pathconf(target.top if target.is_there else target.top.parent, "PC_NAME_MAX")
    return 255


def _why_not(part: str, longest: int) -> str | None:
    return f"longer than {longest} bytes" if len(os.fsencode(part)) > longest else None


def _why_not_there(part: str) -> str | None:
    """Why a name cannot be on a file system of Windows."""
    if reserved := sorted(_RESERVED & set(part)):
        return f"with {' '.join(reserved)}"
    if part.endswith((".", " ")):
        return "a dot or a blank at its end"
    if part.partition(".")[0].casefold() in _DEVICES:
        return "the name of a device"
    return None


def check_room(target: Target, need_bytes: int) -> None:
    """Raise `ExportError` where the disk has too little free."""
    if need_bytes > target.free_bytes:
        raise ExportError(
            f"{size(need_bytes)} are to be copied, but the disk of {target.top} has {size(target.free_bytes)} free:"
            " free some, or name fewer sessions; nothing was copied"
        )


def _list(texts: Iterable[str]) -> str:
    named = list(texts)
    more = f", and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    return f"{', '.join(named[:_NAMED])}{more}"
