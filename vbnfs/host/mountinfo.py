"""What is mounted where, as /proc/self/mountinfo says (proc_pid_mountinfo(5)).

Reading it never touches a mount itself: also one whose daemon hangs or is gone is found.
"""

import os
import re
from collections import deque
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vbnfs.errors import MountError
from vbnfs.host.identity import our_uid

FILE_SYSTEM_TYPE: Final = "fuse.vbnfs"
_MOUNTINFO: Final = Path("/proc/self/mountinfo")
# File systems of this machine alone: their locks and look-ups wait for no network.
_LOCAL_TYPES: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
_DESCRIPTOR: Final = re.compile(r"/dev/fd/(\d{1,9})")
_OVERLAY: Final = "overlay"
_ONE_LAYER: Final = frozenset({"lowerdir+", "datadir+"})
_MOST_LINKS: Final = 40  # as many as the kernel follows, path_resolution(7)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of mountinfo. `device` is `major:minor`; the minor is the FUSE connection's number."""

    mountpoint: Path
    device: str
    file_system_type: str
    source: str
    owner: int
    group: int = 0
    layers: tuple[Path, ...] = ()  # of an overlay: the folders that it reads and does not write, as it was given them
    options: frozenset[str] = field(default=frozenset(), compare=False)  # of its file system


def parse_mountinfo(text: str) -> list[MountEntry]:
    """The lines of /proc/PID/mountinfo, in the order of mounting."""
    # Only newlines are escaped: of what else str.splitlines() takes for an end, paths may be made.
    return [entry for line in text.split("\n") if (entry := _parse_line(line)) is not None]


def _parse_line(line: str) -> MountEntry | None:
    left, separator, right = line.partition(" - ")
    fields, more = left.split(" "), right.split(" ")
    if not separator or len(fields) < 6 or len(more) < 3:
        return None
    owner, group = (re.search(rf"(?:^|,){name}_id=(\d+)", more[2]) for name in ("user", "group"))
    return MountEntry(
        Path(_unescape(fields[4])),
        fields[2],
        _unescape(more[0]),
        _unescape(more[1]),
        int(owner[1]) if owner else 0,
        int(group[1]) if group else 0,
        _layers(more[2]) if more[0] == _OVERLAY else (),
        frozenset(more[2].split(",")),
    )


def _layers(options: str) -> tuple[Path, ...]:
    r"""The lower layers among an overlay's options: `lowerdir=A:B`, where `\:` is no end, or `lowerdir+=A` for each.

    Documentation/filesystems/overlayfs.rst.
    """
    found: list[str] = []
    for name, _, value in (option.partition("=") for option in options.split(",")):
        if name == "lowerdir":
            parts = re.split(r"(?<!\\):+", _unescape(value))
            found += (re.sub(r"\\(.)", r"\1", part) for part in parts)
        elif name in _ONE_LAYER:
            found.append(_unescape(value))
    return tuple(Path(layer) for layer in found if layer)


def _unescape(text: str) -> str:
    r"""Blanks, tabs, newlines and backslashes stand as octal numbers, e.g. \040."""
    raw = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), os.fsencode(text))
    return os.fsdecode(raw)


def list_mounts() -> list[MountEntry]:
    """The vbnfs mounts that this process can see."""
    return [entry for entry in all_mounts() if entry.file_system_type == FILE_SYSTEM_TYPE]


def all_mounts() -> list[MountEntry]:
    """All mounts that this process can see, the latest last; none on a system without such a list."""
    try:
        return read_mountinfo(_MOUNTINFO)
    except FileNotFoundError:
        return []


def read_mountinfo(path: Path) -> list[MountEntry]:
    """What /proc/PID/mountinfo says of a process's mount namespace. Raises `OSError`."""
    return parse_mountinfo(os.fsdecode(path.read_bytes()))  # paths, in whatever encoding


def is_ours(entry: MountEntry) -> bool:
    """Whether its daemon answers this process's user: users their own mounts, root every one."""
    return our_uid() in {entry.owner, 0}


def roots_mounts() -> list[MountEntry]:
    """The mounts that root has made, to a process of another user; none to root."""
    return [entry for entry in list_mounts() if entry.owner == 0 and not is_ours(entry)]


def find_mount(mountpoint: Path) -> MountEntry | None:
    """The vbnfs mount on exactly this folder (the topmost, should there be several)."""
    return next(reversed(mounts_on(mountpoint)), None)


def mounts_on(mountpoint: Path) -> list[MountEntry]:
    """The vbnfs mounts on exactly this folder, the topmost last."""
    return [entry for entry in list_mounts() if entry.mountpoint == mountpoint]


def mounts_of(device: str) -> list[MountEntry]:
    """Where the mount with this `major:minor` is now: a folder above it may have another name since."""
    return [entry for entry in list_mounts() if entry.device == device]


def mount_holding(path: Path, entries: Sequence[MountEntry]) -> MountEntry | None:
    """The mount that holds a path (which has no links in it); None if none does."""
    above = [entry for entry in entries if path.is_relative_to(entry.mountpoint)]
    # Of equally long ones the last one hides the others.
    deepest = max(enumerate(above), key=lambda e: (len(e[1].mountpoint.parts), e[0]), default=None)
    return None if deepest is None else deepest[1]


def file_system_type(path: Path, entries: Sequence[MountEntry]) -> str:
    """The type of the file system that holds a path (which has no links in it); '' if none does."""
    entry = mount_holding(path, entries)
    return "" if entry is None else entry.file_system_type


def is_made_by_a_user(entry: MountEntry) -> bool:
    """Whether a user other than root has made a mount, as only FUSE lets them, and so may keep it from answering."""
    return entry.file_system_type.startswith("fuse") and entry.owner != 0


def is_local(path: Path) -> bool:
    """Whether a path is known to be on a file system of this machine alone, and not on NFS or the like."""
    try:
        entries = all_mounts()
    except OSError:
        return False
    return file_system_type(Path(os.path.realpath(path)), entries) in _LOCAL_TYPES


def is_shared(path: Path) -> bool:
    """Whether other hosts may have the file system of a path, too: it is not known to be this machine's alone.

    False on a system that does not say what is mounted (any but Linux).
    """
    with suppress(OSError):
        if entries := all_mounts():
            return file_system_type(Path(os.path.realpath(path)), entries) not in _LOCAL_TYPES
    return False


def is_stacked(path: Path) -> bool:
    """Whether a path is on a file system that is made of others, as a container's own is."""
    return file_system_type(Path(os.path.realpath(path)), all_mounts()) == _OVERLAY


def descriptor_in(path: Path) -> int | None:
    """N of `/dev/fd/N`; None for any other path."""
    match = _DESCRIPTOR.fullmatch(str(path))
    return None if match is None else int(match[1])


def absolute(path: Path) -> Path:
    """The path with all links followed, but those in a vbnfs mount: that may be dead, or hang, and is not touched.

    `/dev/fd/N` stays: there it is not the file that counts, but the descriptor (handed_over.py). Raises `MountError`.
    """
    return path if descriptor_in(path) is not None else followed(path, {one.mountpoint for one in list_mounts()})


def followed(path: Path, mounts: Set[Path]) -> Path:
    """The path with all links followed, but those at and below some mount points. Raises `MountError`."""
    here, names, links = Path("/"), deque(Path(os.path.abspath(path)).parts[1:]), 0  # noqa: PTH100 - follows none
    while names:
        name = names.popleft()
        here = here.parent if name == ".." else here / name
        try:
            target = None if not mounts.isdisjoint((here, *here.parents)) else Path(os.readlink(here))
        except OSError:  # no link
            continue
        if target is not None:
            links += 1
            here = Path("/") if target.is_absolute() else here.parent
            names.extendleft(part for part in reversed(target.parts) if part != "/")
        if links > _MOST_LINKS:
            raise MountError(f"{path}: too many links")
    return here
