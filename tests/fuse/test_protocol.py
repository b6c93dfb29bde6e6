"""Requests, INIT and notices, as include/uapi/linux/fuse.h has them: literal sizes, numbers and flags."""

import mmap
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.errors import MountError
from vbnfs.fuse.protocol import (
    BACKING_CLOSE,
    BACKING_OPEN,
    CHANGES,
    HEADER_BYTES,
    REQUEST_BYTES,
    Feature,
    Opcode,
    ReadIn,
    agree,
    attributes_changed,
    backing_id,
    backing_map,
    parse_getxattr,
    parse_header,
    parse_listxattr,
    parse_open,
    parse_read,
    parse_release,
    reply_header,
)

EVERY_FLAG = 0xFFFFFFFF

uint64 = st.integers(0, (1 << 64) - 1)
uint32 = st.integers(0, (1 << 32) - 1)
uint16 = st.integers(0, (1 << 16) - 1)
names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)


def init_in(
    major: int, minor: int, *, flags: int = EVERY_FLAG, flags2: int = EVERY_FLAG, readahead: int = 131072
) -> bytes:
    """`struct fuse_init_in`: 64 bytes since 7.36, 16 before."""
    return struct.pack("=IIII", major, minor, readahead, flags) + (
        struct.pack("=I44x", flags2) if minor >= 36 else b""
    )


@pytest.mark.parametrize(
    ("reply", "length"),
    [(agree(init_in(7, 31)).body, 64), (reply_header(1, 0), 16), (attributes_changed(1), 16 + 24)],
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
    """The flags of INIT have the header's values."""
    assert {feature.name: int(feature) for feature in Feature} == {
        "ASYNC_READ": 0x1, "EXPORT_SUPPORT": 0x10, "AUTO_INVAL_DATA": 0x1000, "DO_READDIRPLUS": 0x2000,
        "ASYNC_DIO": 0x8000, "PARALLEL_DIROPS": 0x40000, "MAX_PAGES": 0x400000, "NO_OPENDIR_SUPPORT": 0x1000000,
        "INIT_EXT": 0x40000000, "PASSTHROUGH": 0x2000000000,
    }  # fmt: skip


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
    """A newer kernel goes on with 7.40 and is granted what is wanted and nothing else that it has."""
    agreement = agree(init_in(7, minor))
    fields = struct.unpack("=IIIIHHIIHHI28x", agreement.body)
    wanted = 0x1 | 0x10 | 0x1000 | 0x2000 | 0x8000 | 0x40000 | 0x400000 | 0x1000000
    answered = min(minor, 40)
    assert fields == (7, answered, 131072, wanted, 64, 48, 4096, 1, (1 << 20) // mmap.PAGESIZE, 0, 0)
    assert agreement.features == wanted


@pytest.mark.parametrize("depth", [1, 2])
def test_a_kernel_that_can_read_files_itself(depth: int) -> None:
    """It is granted that, in the second word of flags, and how deep the files' file systems may be (from 7.40 on)."""
    agreement = agree(init_in(7, 45), stack_depth=depth)
    assert struct.unpack_from("=I", agreement.body, 12)[0] & 0x40000000
    assert struct.unpack_from("=II", agreement.body, 32) == (0x20, depth)
    assert Feature.PASSTHROUGH in agreement.features


@pytest.mark.parametrize(
    "offered",
    [init_in(7, 38, flags2=0xFFFFFFDF), init_in(7, 31), init_in(7, 45, flags=EVERY_FLAG & ~0x40000000)],
    ids=["before 6.9", "before 5.17", "without a second word"],
)
def test_a_kernel_that_cannot(offered: bytes) -> None:
    """It is answered as if nobody had asked for that."""
    assert agree(offered, stack_depth=1) == agree(offered)


def test_files_that_the_kernel_reads_itself() -> None:
    """FUSE_DEV_IOC_BACKING_OPEN takes a descriptor, no flags and padding; FUSE_DEV_IOC_BACKING_CLOSE a number."""
    assert (BACKING_OPEN, BACKING_CLOSE) == (0x4010E501, 0x4004E502)
    assert struct.unpack("=iIQ", backing_map(7)) == (7, 0, 0)
    assert struct.unpack("=I", backing_id(3)) == (3,)


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
    assert (answered_major, answered_minor, answered_readahead) == (7, min(minor, 40), readahead)
    assert answered & ~flags == 0


@pytest.mark.parametrize(
    ("major", "minor", "flags"), [(7, 22, EVERY_FLAG), (6, 40, EVERY_FLAG), (8, 0, EVERY_FLAG), (7, 31, 0)]
)
def test_a_kernel_that_cannot_be_served(major: int, minor: int, flags: int) -> None:
    """A kernel with another major version, with an old reply to INIT or without READDIRPLUS is refused by name."""
    with pytest.raises(MountError, match=rf"speaks FUSE {major}\.{minor}; Linux 3.15 or later"):
        agree(init_in(major, minor, flags=flags))


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
    assert parse_release(struct.pack("=QIIQ", handle, flags, 1, owner)) == handle


@given(names, uint32)
def test_questions_for_attributes(name: bytes, size: int) -> None:
    """GETXATTR brings a size and a name that ends with NUL; LISTXATTR a size."""
    head = struct.pack("=II", size, 0)
    assert parse_getxattr(head + name + b"\0") == (size, name)
    assert parse_listxattr(head) == size


@given(uint64)
def test_the_notice_of_changed_attributes(inode: int) -> None:
    """FUSE_NOTIFY_INVAL_INODE (2) where an errno would stand, unique 0, and an offset of -1: pages stay."""
    assert struct.unpack("=IiQQqq", attributes_changed(inode)) == (40, 2, 0, inode, -1, 0)
