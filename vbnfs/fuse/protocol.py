"""The words of the FUSE kernel protocol (pure): what a request says, what INIT settles, and notices.

    request     fuse_in_header (40 bytes), body            one read(2) of /dev/fuse
    reply       fuse_out_header (16 bytes), body           one write(2)
    notice      fuse_out_header with unique 0, body        sent without a request
    ioctl       a file for the kernel to read, or its id   FUSE_DEV_IOC_BACKING_OPEN, _CLOSE

The bodies of replies are in `replies.py`.

Layouts, numbers and names are those of include/uapi/linux/fuse.h, in the machine's byte order, as of protocol 7.40
(Linux 6.9); a newer kernel speaks it on demand. Whatever changes files is left out: the kernel refuses it for a
read-only mount, and any such request is answered with EROFS.
"""

import mmap
import sys
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, NamedTuple

from vbnfs.errors import MountError

_MAJOR: Final = 7
_MINOR: Final = 40  # the first that reads files itself (passthrough)
_OLDEST_MINOR: Final = 23  # the first with today's fuse_init_out; Linux 3.15
_MAX_WRITE_BYTES: Final = 4096  # the least that the kernel takes; nothing is written
_MAX_PAGES: Final = (1 << 20) // mmap.PAGESIZE  # in a read: 1 MiB, which is within fs.fuse.max_pages_limit
_MAX_BACKGROUND: Final = 64  # reads ahead that the kernel has under way at most; its own default is 12
_LOW_FLAGS: Final = (1 << 32) - 1
_CONGESTED: Final = 48  # fewer than it may have: three quarters, as the kernel does by itself

REQUEST_BYTES: Final = 128 << 10  # of the buffer for one request: FUSE_MIN_READ_BUFFER is 8 KiB, names are short


class Opcode(IntEnum):
    """What a request asks for: the opcodes that are met here (`enum fuse_opcode`)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    INIT = 26
    OPENDIR = 27
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    TMPFILE = 51


CHANGES: Final = frozenset(
    {
        Opcode.SETATTR, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME,
        Opcode.LINK, Opcode.WRITE, Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.CREATE, Opcode.FALLOCATE,
        Opcode.RENAME2, Opcode.TMPFILE,
    }
)  # fmt: skip


class Feature(IntFlag):
    """What INIT agrees on: the flags that are met here (`FUSE_ASYNC_READ` and others); `flags2` begins at bit 32."""

    ASYNC_READ = 1 << 0  # several reads of one file at once
    EXPORT_SUPPORT = 1 << 4  # `.` and `..` can be looked up, `.` of files too: NFS wants it
    AUTO_INVAL_DATA = 1 << 12  # a folder whose time has changed is listed anew
    DO_READDIRPLUS = 1 << 13  # listing brings the attributes along; always, as all of them are known
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22  # reads of more than 32 pages
    NO_OPENDIR_SUPPORT = 1 << 24  # ENOSYS for OPENDIR: folders are not opened any more, and listings kept
    INIT_EXT = 1 << 30  # there are flags above 31
    PASSTHROUGH = 1 << 37  # the kernel can read an open file from a file of another file system


_WANTED: Final = (
    Feature.ASYNC_READ
    | Feature.EXPORT_SUPPORT
    | Feature.AUTO_INVAL_DATA
    | Feature.DO_READDIRPLUS
    | Feature.ASYNC_DIO
    | Feature.PARALLEL_DIROPS
    | Feature.MAX_PAGES
    | Feature.NO_OPENDIR_SUPPORT
)

_FOR_PASSTHROUGH: Final = Feature.INIT_EXT | Feature.PASSTHROUGH
_NOTIFY_INVAL_INODE: Final = 2

_IN_HEADER: Final = Struct("=IIQQIIIHH")
_OUT_HEADER: Final = Struct("=IiQ")
_INIT_IN: Final = Struct("=IIII")
_FLAGS2_IN: Final = Struct("=16xI")
_INIT_OUT: Final = Struct("=IIIIHHIIHHII24x")
_OPEN_IN: Final = Struct("=I4x")
_READ_IN: Final = Struct("=QQI20x")
_RELEASE_IN: Final = Struct("=Q16x")
_GETXATTR_IN: Final = Struct("=I4x")
_INVAL_INODE_OUT: Final = Struct("=Qqq")
_BACKING_MAP: Final = Struct("=iIQ")
_BACKING_ID: Final = Struct("=I")


class Header(NamedTuple):
    """`struct fuse_in_header`: what is asked, of which inode, and by whom."""

    length: int
    opcode: int
    unique: int
    inode: int
    uid: int
    gid: int
    pid: int
    extensions: int
    padding: int


HEADER_BYTES: Final = _IN_HEADER.size


def parse_header(request: bytes | bytearray | memoryview) -> Header:
    """The header of a request."""
    return Header._make(_IN_HEADER.unpack_from(request))


def reply_header(unique: int, body_bytes: int, *, errno: int = 0) -> bytes:
    """The header of a reply to the request `unique`: with a body, or with an errno and none."""
    return _OUT_HEADER.pack(_OUT_HEADER.size + body_bytes, -errno, unique)


# INIT


@dataclass(frozen=True, slots=True)
class Agreement:
    """What INIT has settled: the reply's body, and the features that both sides have."""

    body: bytes
    features: Feature


def agree(init: bytes | memoryview, *, stack_depth: int = 0) -> Agreement:
    """The answer to INIT (`struct fuse_init_in`). Raises `MountError` for a kernel that is too old.

    A kernel with a newer minor version goes on with the one that is answered. `stack_depth` above 0: the kernel may
    be given files to read, of file systems that are less deep (`engines.Mount`).
    """
    major, minor, max_readahead, _ = _INIT_IN.unpack_from(init)
    features = (_WANTED | _FOR_PASSTHROUGH if stack_depth else _WANTED) & _offered(init)
    if Feature.PASSTHROUGH not in features:
        features, stack_depth = features & _WANTED, 0
    if major != _MAJOR or minor < _OLDEST_MINOR or Feature.DO_READDIRPLUS not in features:
        raise MountError(f"this kernel speaks FUSE {major}.{minor}; Linux 3.15 or later is needed")
    body = _INIT_OUT.pack(
        _MAJOR, min(minor, _MINOR), max_readahead, features & _LOW_FLAGS, _MAX_BACKGROUND, _CONGESTED,
        _MAX_WRITE_BYTES, 1, _MAX_PAGES, 0, features >> 32, stack_depth,
    )  # fmt: skip
    return Agreement(body, features)


def _offered(init: bytes | memoryview) -> Feature:
    flags = Feature(_INIT_IN.unpack_from(init)[3])
    if Feature.INIT_EXT in flags and len(init) >= _FLAGS2_IN.size:
        flags |= Feature(_FLAGS2_IN.unpack_from(init)[0] << 32)
    return flags


# Files


class ReadIn(NamedTuple):
    """`struct fuse_read_in`, of READ and READDIRPLUS: `size` bytes at most from `offset` on."""

    handle: int
    offset: int
    size: int


def parse_read(body: bytes | memoryview) -> ReadIn:
    """The body of READ and READDIRPLUS."""
    return ReadIn._make(_READ_IN.unpack_from(body))


def parse_open(body: bytes | memoryview) -> int:
    """The body of OPEN: the flags of open(2)."""
    flags: int = _OPEN_IN.unpack_from(body)[0]
    return flags


def parse_release(body: bytes | memoryview) -> int:
    """The body of RELEASE: the handle."""
    handle: int = _RELEASE_IN.unpack_from(body)[0]
    return handle


def parse_interrupt(body: bytes | memoryview) -> int:
    """The body of INTERRUPT: the `unique` of the request that is interrupted."""
    return int.from_bytes(body[:8], sys.byteorder)


# Extended attributes


def parse_getxattr(body: bytes | memoryview) -> tuple[int, bytes]:
    """The body of GETXATTR: how large a value is taken, 0 to ask for its length; and the attribute's name."""
    size: int = _GETXATTR_IN.unpack_from(body)[0]
    return size, bytes(body[_GETXATTR_IN.size :]).partition(b"\0")[0]


def parse_listxattr(body: bytes | memoryview) -> int:
    """The body of LISTXATTR: how large a list is taken, 0 to ask for its length."""
    size: int = _GETXATTR_IN.unpack_from(body)[0]
    return size


# Notices


def attributes_changed(inode: int) -> bytes:
    """The notice that an inode's attributes are to be asked for again; its pages stay.

    FUSE_NOTIFY_INVAL_INODE with a negative offset, which touches no page. There is no notice here that drops pages:
    writing it waits for reads in flight, and a thread that waits so keeps the device open (`daemon/invalidation.py`).
    """
    length = _OUT_HEADER.size + _INVAL_INODE_OUT.size
    return _OUT_HEADER.pack(length, _NOTIFY_INVAL_INODE, 0) + _INVAL_INODE_OUT.pack(inode, -1, 0)


# Files that the kernel reads itself


# _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, u32): ioctl(2)
BACKING_OPEN: Final = 1 << 30 | _BACKING_MAP.size << 16 | 229 << 8 | 1
BACKING_CLOSE: Final = 1 << 30 | _BACKING_ID.size << 16 | 229 << 8 | 2


def backing_map(descriptor: int) -> bytearray:
    """What BACKING_OPEN is given of an open file (`struct fuse_backing_map`); it returns an id above 0."""
    return bytearray(_BACKING_MAP.pack(descriptor, 0, 0))


def backing_id(number: int) -> bytes:
    """What BACKING_CLOSE is given."""
    return _BACKING_ID.pack(number)
