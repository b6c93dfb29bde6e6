"""The values that operations return, in the layouts of the kernel's replies (pure): include/uapi/linux/fuse.h."""

import errno
from collections.abc import Sequence
from struct import Struct
from typing import Final

from vbnfs.fuse.operations import Absent, Attr, Entry, ErrnoReply, FileSystemStatus, Listing, Opened

FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_CACHE_DIR: Final = 1 << 3
FOPEN_NOFLUSH: Final = 1 << 5
FOPEN_PASSTHROUGH: Final = 1 << 7

_NANOSECONDS: Final = 1_000_000_000
_ATTR: Final = "QQQQQQIIIIIIIIII"
_ENTRY_OUT: Final = Struct("=QQQQII" + _ATTR)
_ATTR_OUT: Final = Struct("=QII" + _ATTR)
_OPEN_OUT: Final = Struct("=QIi")
_STATFS_OUT: Final = Struct("=QQQQQIII28x")
_GETXATTR_OUT: Final = Struct("=I4x")
_DIRENT: Final = Struct("=QQII")
_PADDING: Final = tuple(bytes(-length & 7) for length in range(8))
_DIRENTPLUS_BYTES: Final = _ENTRY_OUT.size + _DIRENT.size  # before the name
_NO_ENTRY: Final = bytes(_ENTRY_OUT.size)  # in a listing: a name without attributes, as of `.` and `..`
_BEYOND_ANY: Final = 1 << 30  # bytes; of a buffer


def lookup(found: Entry | Absent) -> bytes:
    """A name's inode and attributes, and for how long the kernel may keep either (`struct fuse_entry_out`).

    Inode 0 lets the kernel remember that a name does not exist.
    """
    if isinstance(found, Entry):
        return found.packed(_entry)
    seconds, nanoseconds = _timeout(found.entry_seconds)
    return _ENTRY_OUT.pack(0, 0, seconds, 0, nanoseconds, 0, *[0] * 16)


def attributes(entry: Entry) -> bytes:
    """An inode's attributes (`struct fuse_attr_out`)."""
    return _ATTR_OUT.pack(*_timeout(entry.attr_seconds), 0, *_attr(entry.attr))


def listing_part(listing: Listing, offset: int, size: int) -> bytes:
    """As many of the names as `size` bytes have room for, from position `offset` on; none at the end.

    Each is a `struct fuse_direntplus`: its entry, then position of the next name, length, kind and name.
    """
    if offset == 0 and listing.packed is not None and len(listing.packed) <= size:
        return listing.packed
    parts: list[bytes] = []
    for position, name in enumerate(listing.entries[offset:], offset + 1):
        if name is None:
            continue
        text, inode, mode, entry = name
        padding = _PADDING[len(text) & 7]
        size -= _DIRENTPLUS_BYTES + len(text) + len(padding)
        if size < 0:
            break
        attributes = _NO_ENTRY if entry is None else entry.packed(_entry)
        parts += (attributes, _DIRENT.pack(inode, position, len(text), mode >> 12 & 15), text, padding)
    return b"".join(parts)


def whole_listing(listing: Listing) -> bytes:
    """All names, as the reply to a request that has room for them."""
    return listing_part(listing, 0, _BEYOND_ANY)


def opened(file: Opened) -> bytes:
    """`struct fuse_open_out` of a file.

    One that the kernel reads itself keeps no pages of its own. Without FLUSH, closing it is no error either when
    nobody answers any more.
    """
    if file.backing is not None:
        return open_out(file.handle, flags=FOPEN_PASSTHROUGH | FOPEN_NOFLUSH, backing=file.backing.number)
    if file.is_direct:
        return open_out(file.handle, flags=FOPEN_DIRECT_IO)
    return open_out(file.handle, flags=FOPEN_KEEP_CACHE if file.keeps_pages else 0)


def open_out(handle: int, *, flags: int, backing: int = 0) -> bytes:
    """`struct fuse_open_out`; `flags` are FOPEN_*, `backing` the kernel's number of a file that it reads itself."""
    return _OPEN_OUT.pack(handle, flags, backing)


def statfs(status: FileSystemStatus) -> bytes:
    """`struct fuse_statfs_out`."""
    return _STATFS_OUT.pack(
        status.blocks, status.free_blocks, status.available_blocks, status.inodes, 0, status.block_bytes,
        status.longest_name, status.block_bytes,
    )  # fmt: skip


def xattr(value: bytes, size: int) -> bytes:
    """An extended attribute's value, or its length if `size` is 0. ERANGE if it is longer than `size`."""
    if size == 0:
        return _GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise ErrnoReply(errno.ERANGE)
    return value


def xattr_names(names: Sequence[bytes], size: int) -> bytes:
    """The names of extended attributes, each with a NUL behind it; else like `xattr`."""
    return xattr(b"".join(name + b"\0" for name in names), size)


def _entry(entry: Entry) -> bytes:
    entry_valid, entry_nsec = _timeout(entry.entry_seconds)
    attr_valid, attr_nsec = _timeout(entry.attr_seconds)
    return _ENTRY_OUT.pack(entry.attr.inode, 0, entry_valid, attr_valid, entry_nsec, attr_nsec, *_attr(entry.attr))


def _attr(attr: Attr) -> tuple[int, ...]:
    """The members of `struct fuse_attr`, in its order."""
    seconds, nanoseconds = divmod(attr.modified_ns, _NANOSECONDS)
    seconds &= (1 << 64) - 1  # before 1970: the kernel takes it for a signed number
    return (
        attr.inode, attr.size_bytes, attr.blocks, seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds,
        attr.mode, attr.links, attr.uid, attr.gid, 0, attr.preferred_read_bytes, 0,
    )  # fmt: skip


def _timeout(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * _NANOSECONDS)
