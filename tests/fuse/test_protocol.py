"""Layouts, numbers and flags, as include/uapi/linux/fuse.h has them: literal sizes, and round trips."""

import errno
import mmap
import os
import stat
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuse.replies import entry_of, handle_of, names_of
from vbnfs.errors import MountError
from vbnfs.fuse.protocol import (
    CHANGES,
    FOPEN_CACHE_DIR,
    FOPEN_KEEP_CACHE,
    HEADER_BYTES,
    NO_ENTRY,
    REQUEST_BYTES,
    Attr,
    ErrnoReply,
    Feature,
    FileSystemStatus,
    Opcode,
    ReadIn,
    absent_out,
    agree,
    attr_out,
    attributes_changed,
    dirent,
    entry_out,
    open_out,
    parse_getxattr,
    parse_header,
    parse_listxattr,
    parse_open,
    parse_read,
    parse_release,
    reply_header,
    statfs_out,
    xattr_out,
)

ATTR = Attr(
    inode=7,
    mode=stat.S_IFREG | 0o444,
    size_bytes=11,
    blocks=1,
    links=2,
    uid=1000,
    gid=100,
    modified_ns=5_000_000_001,
    preferred_read_bytes=4096,
)
STATUS = FileSystemStatus(block_bytes=4096, blocks=9, free_blocks=8, available_blocks=5, inodes=7, longest_name=255)
EVERY_FLAG = 0xFFFFFFFF

uint64 = st.integers(0, (1 << 64) - 1)
uint32 = st.integers(0, (1 << 32) - 1)
uint16 = st.integers(0, (1 << 16) - 1)
names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)
attrs = st.builds(
    Attr,
    inode=uint64,
    mode=uint32,
    size_bytes=uint64,
    blocks=uint64,
    links=uint32,
    uid=uint32,
    gid=uint32,
    modified_ns=st.integers(-(1 << 63), 1 << 63),
    preferred_read_bytes=uint32,
)


def init_in(major: int, minor: int, *, flags: int = EVERY_FLAG, readahead: int = 131072) -> bytes:
    """`struct fuse_init_in`: 64 bytes since 7.36, 16 before."""
    return struct.pack("=IIII", major, minor, readahead, flags) + bytes(48 if minor >= 36 else 0)


@pytest.mark.parametrize(
    ("reply", "length"),
    [
        (entry_out(ATTR, entry_seconds=1, attr_seconds=1), 128),
        (absent_out(entry_seconds=1), 128),
        (attr_out(ATTR, attr_seconds=1), 104),
        (open_out(1, flags=0), 16),
        (statfs_out(STATUS), 80),
        (agree(init_in(7, 31)).body, 64),
        (xattr_out(b"value", 0), 8),
        (reply_header(1, 0), 16),
        (attributes_changed(1), 16 + 24),
        (NO_ENTRY + dirent(inode=1, mode=0, name=b"12345678", next_offset=1), 128 + 24 + 8),
    ],
)
def test_sizes_of_replies(reply: bytes, length: int) -> None:
    """Every reply is as long as the kernel's structure: it takes no other length."""
    assert len(reply) == length


@pytest.mark.parametrize(
    ("parse", "length"),
    [(parse_read, 40), (parse_release, 24), (parse_open, 8), (parse_getxattr, 8), (parse_listxattr, 8), (agree, 16)],
)
def test_sizes_of_requests(parse: Callable[[bytes], object], length: int) -> None:
    """A request that is shorter than its structure is not taken for one."""
    with pytest.raises(struct.error):
        parse(bytes(length - 1))


def test_room_for_a_request() -> None:
    """A request's header has 40 bytes; the buffer is larger than the least that the kernel reads into, 8 KiB."""
    assert HEADER_BYTES == 40
    assert REQUEST_BYTES >= 8192


def test_numbers_of_opcodes() -> None:
    """The opcodes that are met have the header's numbers."""
    assert {opcode.name: int(opcode) for opcode in Opcode} == {
        "LOOKUP": 1, "FORGET": 2, "GETATTR": 3, "SETATTR": 4, "READLINK": 5, "SYMLINK": 6, "MKNOD": 8, "MKDIR": 9,
        "UNLINK": 10, "RMDIR": 11, "RENAME": 12, "LINK": 13, "OPEN": 14, "READ": 15, "WRITE": 16, "STATFS": 17,
        "RELEASE": 18, "SETXATTR": 21, "GETXATTR": 22, "LISTXATTR": 23, "REMOVEXATTR": 24, "INIT": 26, "OPENDIR": 27,
        "CREATE": 35, "INTERRUPT": 36, "DESTROY": 38, "BATCH_FORGET": 42, "FALLOCATE": 43, "READDIRPLUS": 44,
        "RENAME2": 45, "TMPFILE": 51,
    }  # fmt: skip


def test_numbers_of_flags() -> None:
    """The flags of INIT and of OPEN have the header's values."""
    assert {feature.name: int(feature) for feature in Feature} == {
        "ASYNC_READ": 0x1, "EXPORT_SUPPORT": 0x10, "AUTO_INVAL_DATA": 0x1000, "DO_READDIRPLUS": 0x2000,
        "ASYNC_DIO": 0x8000, "PARALLEL_DIROPS": 0x40000, "MAX_PAGES": 0x400000, "NO_OPENDIR_SUPPORT": 0x1000000,
    }  # fmt: skip
    assert (FOPEN_KEEP_CACHE, FOPEN_CACHE_DIR) == (2, 8)


def test_what_changes_files() -> None:
    """Making, removing, renaming, writing and setting are changes; looking, reading and forgetting are not."""
    harmless = {"LOOKUP", "FORGET", "GETATTR", "READLINK", "OPEN", "READ", "STATFS", "RELEASE", "GETXATTR"}
    harmless |= {"LISTXATTR", "INIT", "OPENDIR", "INTERRUPT", "DESTROY", "BATCH_FORGET", "READDIRPLUS"}
    assert {opcode.name for opcode in Opcode} - {opcode.name for opcode in CHANGES} == harmless


@given(st.tuples(uint32, uint32, uint64, uint64, uint32, uint32, uint32, uint16))
def test_headers_of_requests(fields: tuple[int, ...]) -> None:
    """`fuse_in_header`: length, opcode, unique, inode, uid, gid, pid, extensions; what comes behind is the body."""
    header = parse_header(struct.pack("=IIQQIIIHH", *fields, 0) + b"body")
    assert tuple(header) == (*fields, 0)
    assert (header.length, header.opcode, header.unique, header.inode, header.uid, header.gid) == fields[:6]
    assert (header.pid, header.extensions) == fields[6:]


@given(uint64, st.integers(0, 1 << 24), st.integers(0, 511))
def test_headers_of_replies(unique: int, length: int, number: int) -> None:
    """`fuse_out_header` tells the whole reply's length, and an errno as a negative number."""
    assert struct.unpack("=IiQ", reply_header(unique, length, errno=number)) == (16 + length, -number, unique)


@pytest.mark.parametrize("minor", [31, 38, 45, 1000])
def test_a_new_kernel(minor: int) -> None:
    """A newer kernel goes on with 7.31 and is granted what is wanted and nothing else that it has."""
    agreement = agree(init_in(7, minor))
    fields = struct.unpack("=IIIIHHIIHHI28x", agreement.body)
    wanted = 0x1 | 0x10 | 0x1000 | 0x2000 | 0x8000 | 0x40000 | 0x400000 | 0x1000000
    assert fields == (7, 31, 131072, wanted, 64, 48, 4096, 1, (1 << 20) // mmap.PAGESIZE, 0, 0)
    assert agreement.features == wanted


def test_an_old_kernel() -> None:
    """An older kernel goes on with its own version, and with the features that it has (Linux 4.18: 7.27)."""
    agreement = agree(init_in(7, 27, flags=0x7FFFF))
    assert struct.unpack_from("=IIII", agreement.body) == (7, 27, 131072, 0x4B011)
    assert Feature.NO_OPENDIR_SUPPORT not in agreement.features
    assert Feature.PARALLEL_DIROPS in agreement.features


@given(st.integers(23, 60), uint32, uint32)
def test_only_what_is_offered_is_answered(minor: int, flags: int, readahead: int) -> None:
    """No flag is set that the kernel did not offer, and its readahead is left as it is."""
    flags |= Feature.DO_READDIRPLUS
    answered_major, answered_minor, answered_readahead, answered = struct.unpack_from(
        "=IIII", agree(init_in(7, minor, flags=flags, readahead=readahead)).body
    )
    assert (answered_major, answered_minor, answered_readahead) == (7, min(minor, 31), readahead)
    assert answered & ~flags == 0


@pytest.mark.parametrize(
    ("major", "minor", "flags"), [(7, 22, EVERY_FLAG), (6, 40, EVERY_FLAG), (8, 0, EVERY_FLAG), (7, 31, 0)]
)
def test_a_kernel_that_cannot_be_served(major: int, minor: int, flags: int) -> None:
    """A kernel with another major version, with an old reply to INIT or without READDIRPLUS is refused by name."""
    with pytest.raises(MountError, match=rf"speaks FUSE {major}\.{minor}; Linux 4.18 or later"):
        agree(init_in(major, minor, flags=flags))


@given(attrs)
def test_attributes(attr: Attr) -> None:
    """Every field arrives in its place; the three times are one, and before 1970 they are negative."""
    entry = entry_of(entry_out(attr, entry_seconds=3, attr_seconds=4))
    assert entry.inode == attr.inode
    assert (entry.size_bytes, entry.blocks) == (attr.size_bytes, attr.blocks)
    assert (entry.mode, entry.links) == (attr.mode, attr.links)
    assert (entry.uid, entry.gid, entry.preferred_read_bytes) == (attr.uid, attr.gid, attr.preferred_read_bytes)
    assert entry.modified_ns == attr.modified_ns
    assert (entry.entry_seconds, entry.attr_seconds) == (3, 4)


def test_layout_of_attributes() -> None:
    """`fuse_attr` is 88 bytes long and the same behind an entry's 40 bytes and an attribute reply's 16."""
    attr = entry_out(ATTR, entry_seconds=0, attr_seconds=0)[40:]
    assert struct.unpack("=QQQqqqIIIIIIIIII", attr) == (
        7, 11, 1, 5, 5, 5, 1, 1, 1, stat.S_IFREG | 0o444, 2, 1000, 100, 0, 4096, 0,
    )  # fmt: skip
    assert attr_out(ATTR, attr_seconds=2.25) == struct.pack("=QII", 2, 250_000_000, 0) + attr


def test_a_moment_before_1970() -> None:
    """Half a second before 1970 is second -1 and 500 million nanoseconds."""
    attr = attr_out(ATTR._replace(modified_ns=-500_000_000), attr_seconds=0)[16:]
    assert struct.unpack_from("=q", attr, 32) == (-1,)
    assert struct.unpack_from("=I", attr, 52) == (500_000_000,)


def test_absent_names() -> None:
    """A name that does not exist is inode 0, and kept as long as it is told."""
    entry = entry_of(absent_out(entry_seconds=1.5))
    assert (entry.inode, entry.entry_seconds, entry.attr_seconds, entry.mode) == (0, 1.5, 0, 0)


@given(st.floats(0, 1e9))
def test_timeouts(seconds: float) -> None:
    """A timeout is told to the nanosecond, and its nanoseconds are less than a second."""
    whole, nanoseconds = struct.unpack_from("=QI", attr_out(ATTR, attr_seconds=seconds))
    assert 0 <= nanoseconds < 10**9
    assert whole + nanoseconds / 1e9 == pytest.approx(seconds, abs=1e-6)


@given(st.lists(names, max_size=20))
def test_listings(listed: list[bytes]) -> None:
    """Names of whatever bytes follow each other, each at a multiple of 8 bytes, with where the listing goes on."""
    entry = entry_out(ATTR, entry_seconds=0, attr_seconds=0)
    parts = [
        entry + dirent(inode=ATTR.inode, mode=ATTR.mode, name=name, next_offset=number)
        for number, name in enumerate(listed, 1)
    ]
    assert all(
        len(part) % 8 == 0 and len(part) < 128 + 24 + len(name) + 8 for part, name in zip(parts, listed, strict=True)
    )
    assert names_of(b"".join(parts)) == [(os.fsdecode(name), number) for number, name in enumerate(listed, 1)]


@pytest.mark.parametrize(
    ("kind", "number"), [(stat.S_IFDIR, 4), (stat.S_IFREG, 8), (stat.S_IFLNK, 10)], ids=["folder", "file", "link"]
)
def test_kinds_in_a_listing(kind: int, number: int) -> None:
    """A name's kind is that of readdir(3): DT_DIR, DT_REG, DT_LNK. Without an entry its inode is 0 there."""
    body = NO_ENTRY + dirent(inode=9, mode=kind | 0o755, name=b".", next_offset=1)
    assert body[:128] == bytes(128)
    assert struct.unpack_from("=QQII", body, 128) == (9, 1, 1, number)
    assert body[152:] == b"." + bytes(7)


@given(uint64, st.integers(0, (1 << 63) - 1), uint32, uint32, uint64)
def test_reads(handle: int, offset: int, size: int, flags: int, owner: int) -> None:
    """`fuse_read_in`: handle, offset and size stand before the flags, the lock's owner and the file's flags."""
    body = struct.pack("=QQIIQII", handle, offset, size, flags, owner, flags, 0)
    assert len(body) == 40
    assert parse_read(body) == ReadIn(handle, offset, size)


@given(uint64, uint32, uint64)
def test_opening_and_closing(handle: int, flags: int, owner: int) -> None:
    """OPEN brings flags first, RELEASE the handle that OPEN's reply gave."""
    assert parse_open(struct.pack("=II", flags, 1)) == flags
    reply = open_out(handle, flags=flags)
    assert handle_of(reply) == handle
    assert struct.unpack_from("=I", reply, 8) == (flags,)
    assert parse_release(struct.pack("=QIIQ", handle, flags, 1, owner)) == handle


def test_statfs() -> None:
    """`fuse_kstatfs`: blocks, free, free for users, inodes, free inodes; block size, longest name, block size."""
    assert struct.unpack("=QQQQQIIIIIIIIII", statfs_out(STATUS)) == (9, 8, 5, 7, 0, 4096, 255, 4096, *[0] * 7)


@given(names, uint32)
def test_questions_for_attributes(name: bytes, size: int) -> None:
    """GETXATTR brings a size and a name that ends with NUL; LISTXATTR a size."""
    head = struct.pack("=II", size, 0)
    assert parse_getxattr(head + name + b"\0") == (size, name)
    assert parse_listxattr(head) == size


@given(st.binary(max_size=40), st.integers(0, 60))
def test_values_of_attributes(value: bytes, size: int) -> None:
    """Size 0 asks for the length; a value that does not fit is ERANGE; an empty one fits everywhere."""
    if 0 < size < len(value):
        with pytest.raises(ErrnoReply) as caught:
            xattr_out(value, size)
        assert caught.value.errno == errno.ERANGE
    else:
        assert xattr_out(value, size) == (value if size else struct.pack("=II", len(value), 0))


@given(uint64)
def test_the_notice_of_changed_attributes(inode: int) -> None:
    """FUSE_NOTIFY_INVAL_INODE (2) where an errno would stand, unique 0, and an offset of -1: pages stay."""
    assert struct.unpack("=IiQQqq", attributes_changed(inode)) == (40, 2, 0, inode, -1, 0)
