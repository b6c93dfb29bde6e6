"""Reading replies as the kernel does: by the layouts of include/uapi/linux/fuse.h, written down once more."""

import os
import struct
from dataclasses import dataclass

_ATTR = "QQQqqqIIIIIIIIII"
_ENTRY = struct.Struct("=QQQQII" + _ATTR)
_DIRENT = struct.Struct("=QQII")


@dataclass(frozen=True)
class Entry:
    """What a `fuse_entry_out` says."""

    inode: int
    entry_seconds: float
    attr_seconds: float
    size_bytes: int
    blocks: int
    modified_ns: int
    mode: int
    links: int
    uid: int
    gid: int
    preferred_read_bytes: int


def entry_of(body: bytes) -> Entry:
    """The entry at the beginning of a reply."""
    inode, _, entry_s, attr_s, entry_ns, attr_ns, *attr = _ENTRY.unpack_from(body)
    _, size, blocks, _, mtime, _, _, mtime_ns, _, mode, links, uid, gid, _, preferred, _ = attr
    return Entry(
        inode, entry_s + entry_ns / 1e9, attr_s + attr_ns / 1e9, size, blocks, mtime * 10**9 + mtime_ns, mode, links,
        uid, gid, preferred,
    )  # fmt: skip


def handle_of(body: bytes) -> int:
    """The handle in a `fuse_open_out`."""
    handle: int = struct.unpack("=QII", body)[0]
    return handle


def open_flags_of(body: bytes) -> int:
    """The FOPEN_* in a `fuse_open_out`."""
    flags: int = struct.unpack("=QII", body)[1]
    return flags


def names_of(body: bytes) -> list[tuple[str, int]]:
    """The names in a reply to READDIRPLUS, each with the offset at which the listing goes on."""
    names: list[tuple[str, int]] = []
    while body:
        inode, offset, length, _ = _DIRENT.unpack_from(body, _ENTRY.size)
        start = _ENTRY.size + _DIRENT.size
        names.append((os.fsdecode(body[start : start + length]), offset))
        assert inode in {entry_of(body).inode, inode if names[-1][0] in {".", ".."} else 0}
        body = body[(start + length + 7) & ~7 :]
    return names
