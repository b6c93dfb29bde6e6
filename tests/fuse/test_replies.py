"""Replies, as include/uapi/linux/fuse.h has them: literal sizes, and round trips."""

import errno
import os
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuse.replies import entry_of, handle_of, names_of
from vbnfs.fuse import replies
from vbnfs.fuse.operations import (
    Absent,
    Attr,
    Backing,
    DirEntry,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
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
LARGE = 1 << 20

uint64 = st.integers(0, (1 << 64) - 1)
uint32 = st.integers(0, (1 << 32) - 1)
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


def entry(attr: Attr = ATTR, *, entry_seconds: float = 1, attr_seconds: float = 1) -> Entry:
    """A value that an operation returns."""
    return Entry(attr, entry_seconds, attr_seconds)


def named(name: bytes, *, mode: int = ATTR.mode, inode: int = ATTR.inode, known: bool = True) -> DirEntry:
    """A name in a folder, with or without attributes."""
    return DirEntry(name, inode, mode, entry() if known else None)


@pytest.mark.parametrize(
    ("reply", "length"),
    [
        (replies.lookup(entry()), 128),
        (replies.lookup(Absent(1)), 128),
        (replies.attributes(entry()), 104),
        (replies.opened(Opened(1)), 16),
        (replies.statfs(STATUS), 80),
        (replies.xattr(b"value", 0), 8),
        (replies.whole_listing(Listing([named(b"12345678", known=False)])), 128 + 24 + 8),
    ],
)
def test_sizes_of_replies(reply: bytes, length: int) -> None:
    """Every reply is as long as the kernel's structure: it takes no other length."""
    assert len(reply) == length


def test_numbers_of_flags() -> None:
    """The flags of OPEN have the header's values."""
    assert (replies.FOPEN_KEEP_CACHE, replies.FOPEN_CACHE_DIR) == (2, 8)


@given(attrs)
def test_attributes(attr: Attr) -> None:
    """Every field arrives in its place; the three times are one, and before 1970 they are negative."""
    packed = entry_of(replies.lookup(entry(attr, entry_seconds=3, attr_seconds=4)))
    assert packed.inode == attr.inode
    assert (packed.size_bytes, packed.blocks) == (attr.size_bytes, attr.blocks)
    assert (packed.mode, packed.links) == (attr.mode, attr.links)
    assert (packed.uid, packed.gid, packed.preferred_read_bytes) == (attr.uid, attr.gid, attr.preferred_read_bytes)
    assert packed.modified_ns == attr.modified_ns
    assert (packed.entry_seconds, packed.attr_seconds) == (3, 4)


def test_layout_of_attributes() -> None:
    """`fuse_attr` is 88 bytes long and the same behind an entry's 40 bytes and an attribute reply's 16."""
    attr = replies.lookup(entry())[40:]
    assert struct.unpack("=QQQqqqIIIIIIIIII", attr) == (
        7, 11, 1, 5, 5, 5, 1, 1, 1, stat.S_IFREG | 0o444, 2, 1000, 100, 0, 4096, 0,
    )  # fmt: skip
    assert replies.attributes(entry(attr_seconds=2.25)) == struct.pack("=QII", 2, 250_000_000, 0) + attr


def test_a_moment_before_1970() -> None:
    """Half a second before 1970 is second -1 and 500 million nanoseconds."""
    attr = replies.attributes(entry(ATTR._replace(modified_ns=-500_000_000)))[16:]
    assert struct.unpack_from("=q", attr, 32) == (-1,)
    assert struct.unpack_from("=I", attr, 52) == (500_000_000,)


def test_absent_names() -> None:
    """A name that does not exist is inode 0, and kept for as long as the value says."""
    absent = entry_of(replies.lookup(Absent(1.5)))
    assert (absent.inode, absent.entry_seconds, absent.attr_seconds, absent.mode) == (0, 1.5, 0, 0)


@given(st.floats(0, 1e9))
def test_timeouts(seconds: float) -> None:
    """A timeout is exact to the nanosecond, and its nanoseconds are less than a second."""
    whole, nanoseconds = struct.unpack_from("=QI", replies.attributes(entry(attr_seconds=seconds)))
    assert 0 <= nanoseconds < 10**9
    assert whole + nanoseconds / 1e9 == pytest.approx(seconds, abs=1e-6)


@given(st.lists(names, max_size=20))
def test_listings(listed: list[bytes]) -> None:
    """Names of whatever bytes follow each other, each at a multiple of 8 bytes, with where the listing goes on."""
    whole = replies.whole_listing(Listing([named(name) for name in listed]))
    assert len(whole) == sum(128 + 24 + len(name) + (-len(name) % 8) for name in listed)
    assert names_of(whole) == [(os.fsdecode(name), number) for number, name in enumerate(listed, 1)]


@given(st.lists(st.none() | names, max_size=20), st.integers(128 + 24 + 256, 2000))
def test_listings_in_parts(listed: list[bytes | None], size: int) -> None:
    """However small the buffer, the parts have each name once, in order; names that are gone have only a position."""
    listing = Listing([None if name is None else named(name) for name in listed])
    found: list[tuple[str, int]] = []
    while part := replies.listing_part(listing, found[-1][1] if found else 0, size):
        assert len(part) <= size
        found += names_of(part)
    assert found == [(os.fsdecode(name), number) for number, name in enumerate(listed, 1) if name is not None]


def test_a_listing_that_was_packed_before() -> None:
    """A listing that is packed ahead is handed out as it is where it has room, and in parts where it has not."""
    listing = Listing([named(b"one"), named(b"two")])
    unpacked = replies.listing_part(listing, 0, LARGE)
    listing.pack(replies.whole_listing)
    assert listing.packed == unpacked
    assert replies.listing_part(listing, 0, len(unpacked)) is listing.packed
    assert names_of(replies.listing_part(listing, 0, len(unpacked) - 1)) == [("one", 1)]
    assert names_of(replies.listing_part(listing, 1, LARGE)) == [("two", 2)]
    assert replies.listing_part(listing, 2, LARGE) == b""


def test_an_entry_is_packed_once() -> None:
    """One packed form serves every reply that has the entry."""
    value = entry()
    assert replies.lookup(value) is replies.lookup(value)


@pytest.mark.parametrize(
    ("kind", "number"), [(stat.S_IFDIR, 4), (stat.S_IFREG, 8), (stat.S_IFLNK, 10)], ids=["folder", "file", "link"]
)
def test_kinds_in_a_listing(kind: int, number: int) -> None:
    """A name's kind is that of readdir(3): DT_DIR, DT_REG, DT_LNK. Without attributes its entry's inode is 0."""
    body = replies.whole_listing(Listing([named(b".", inode=9, mode=kind | 0o755, known=False)]))
    assert body[:128] == bytes(128)
    assert struct.unpack_from("=QQII", body, 128) == (9, 1, 1, number)
    assert body[152:] == b"." + bytes(7)


@given(uint64, uint32, st.integers(1, (1 << 31) - 1))
def test_opening(handle: int, flags: int, number: int) -> None:
    """OPEN's reply has the handle, FOPEN_*, and the number of a file that the kernel reads itself.

    A file's pages are kept unless its value says that they are not, or there will be none.
    """
    reply = replies.open_out(handle, flags=flags)
    assert handle_of(reply) == handle
    assert struct.unpack_from("=I", reply, 8) == (flags,)
    assert replies.opened(Opened(handle)) == replies.open_out(handle, flags=2)
    assert replies.opened(Opened(handle, keeps_pages=False)) == replies.open_out(handle, flags=0)
    assert replies.opened(Opened(handle, is_direct=True)) == replies.open_out(handle, flags=1)
    assert replies.opened(Opened(handle, backing=Backing(number))) == struct.pack("=QIi", handle, 128 | 32, number)


def test_statfs() -> None:
    """`fuse_kstatfs`: blocks, free, free for users, inodes, free inodes; block size, longest name, block size."""
    assert struct.unpack("=QQQQQIIIIIIIIII", replies.statfs(STATUS)) == (9, 8, 5, 7, 0, 4096, 255, 4096, *[0] * 7)


@given(st.binary(max_size=40), st.integers(0, 60))
def test_values_of_attributes(value: bytes, size: int) -> None:
    """Size 0 asks for the length; a value that does not fit is ERANGE; an empty one fits everywhere."""
    if 0 < size < len(value):
        with pytest.raises(ErrnoReply) as caught:
            replies.xattr(value, size)
        assert caught.value.errno == errno.ERANGE
    else:
        assert replies.xattr(value, size) == (value if size else struct.pack("=II", len(value), 0))


def test_names_of_attributes() -> None:
    """Each name ends with NUL, and the size is that of all."""
    assert replies.xattr_names([b"user.a", b"user.b"], 100) == b"user.a\0user.b\0"
    assert replies.xattr_names([b"user.a", b"user.b"], 0) == struct.pack("=II", 14, 0)
    assert replies.xattr_names([], 100) == b""
