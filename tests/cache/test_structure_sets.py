"""Structure sets: of the right file and within their bounds, or none."""

import io
import time
from hashlib import blake2b

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.sets import Head, encode_set
from vbnfs.cache.structure_sets import (
    KIND,
    MOST_BLOCKS,
    MOST_BYTES,
    MOST_SETS,
    Sets,
    StructureSet,
    merged,
    read_set,
    structure_set,
)
from vbnfs.errors import IndexFileError

HASH = "ab" * 64
SIZE = 1000 * BLOCK_BYTES + 7
BLOCKS = 1001
FOUND = StructureSet(HASH, SIZE, (0, 3, 1000), (3, 1000), is_whole=True)

numbers = st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=MOST_BLOCKS, unique=True)
sets = st.builds(
    lambda digit, blocks, near, is_whole: StructureSet(
        digit * 128, SIZE, tuple(sorted(blocks)), tuple(sorted(blocks[:near])), is_whole
    ),
    st.sampled_from("0123456789abcdef"),
    numbers,
    st.integers(0, 3),
    st.booleans(),
)


def sets_in(data: bytes) -> list[StructureSet]:
    file, found = io.BytesIO(data), list[StructureSet]()
    while (one := read_set(file)) is not None:
        found.append(one)
    return found


def test_the_layout_is_the_documented_one() -> None:
    """A set is its header, the number of each block, and a digest of all that, as docs/structure-index.md says."""
    data = FOUND.encode()
    assert data[:8] == b"vbnfsix1"
    assert int.from_bytes(data[8:12], "little") == 262_144
    assert int.from_bytes(data[12:20], "little") == SIZE
    assert data[20:84].hex() == HASH
    assert [int.from_bytes(data[at : at + 4], "little") for at in (84, 88, 92)] == [3, 1, 2]
    assert [int.from_bytes(data[at : at + 4], "little") for at in (96, 100, 104)] == [3, 1000, 0]
    assert data[108:] == blake2b(data[:108], digest_size=32).digest()
    assert FOUND.count_bytes == 2 * BLOCK_BYTES + 7


@given(st.lists(sets, max_size=5))
def test_sets_stand_one_behind_the_other(found: list[StructureSet]) -> None:
    """What was written is read again, set after set, in less than 400 bytes each."""
    data = b"".join(one.encode() for one in found)
    assert sets_in(data) == found
    assert len(data) <= 400 * len(found)


def encoded(
    blocks: list[int], *, size_bytes: int = SIZE, count: int | None = None, flags: int = 0, near: int = 0
) -> bytes:
    """A set with a right seal, whatever it says."""
    numbers = (len(blocks) if count is None else count, flags, near)
    more = b"".join(number.to_bytes(4, "little") for number in numbers)
    body = b"".join(number.to_bytes(4, "little") for number in blocks)
    return encode_set(KIND, Head(HASH, size_bytes, more), body)


@given(st.binary())
@example(encoded([BLOCKS]))  # behind the file's end
@example(encoded([2**32 - 1]))
@example(encoded([3, 3]))
@example(encoded([4, 3]))
@example(encoded([]))
@example(encoded([4, 3], near=2))
@example(encoded([3, 3], near=1))
@example(encoded([4, 3, 2], near=2**32 - 1))
@example(encoded(list(range(MOST_BLOCKS + 1))))
@example(encoded([1], count=1_000_000))
@example(encoded([1], count=2**32 - 1))
@example(encoded([], size_bytes=0, flags=1))  # only no bytes have the hash of no bytes
@example(FOUND.encode()[:-1])
@example(b"vbnfsdg1" + FOUND.encode()[8:])
@example(b"vbnfsix2" + FOUND.encode()[8:])
def test_bytes_that_are_no_structure_set_are_refused(data: bytes) -> None:
    """Blocks beyond the file, a million of them, another format: nothing, or an error in words; and no memory."""
    if data:
        with pytest.raises(IndexFileError):
            read_set(io.BytesIO(data))
    taken = Sets()
    taken.take(data)
    assert taken.of(HASH) is None


def test_every_damaged_byte_is_noticed() -> None:
    """A set with a flipped bit anywhere, or cut short, counts as none; those beside it count."""
    good, other = FOUND.encode(), StructureSet("cd" * 64, SIZE, (5,)).encode()
    for position in range(len(good)):
        for bad in (good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :], good[:position]):
            taken = Sets()
            taken.take(other + bad + other)
            assert taken.of(HASH) is None
            assert taken.of("cd" * 64) == StructureSet("cd" * 64, SIZE, (5,))


@given(st.lists(st.one_of(sets.map(StructureSet.encode), st.binary(max_size=50)), max_size=8), st.integers(0, 3000))
def test_what_is_read_in_parts_is_what_is_read_at_once(parts: list[bytes], cut: int) -> None:
    """A file that grows is read on from where its last set ended, whatever stands between the sets."""
    data = b"".join(parts)
    whole, growing = Sets(), Sets()
    whole.take(data)
    end = growing.take(data[:cut])
    assert end <= len(data[:cut])
    growing.take(data[end:])
    assert list(growing.hashes()) == list(whole.hashes())
    assert [growing.of(one) for one in growing.hashes()] == [whole.of(one) for one in whole.hashes()]


@given(numbers, numbers, st.booleans(), st.booleans())
def test_two_sets_about_one_file(first: list[int], second: list[int], is_first: bool, is_second: bool) -> None:
    """One that is whole says all; else the blocks of both, the first one's first, up to the bound."""
    one = StructureSet(HASH, SIZE, tuple(sorted(first)), is_whole=is_first)
    two = StructureSet(HASH, SIZE, tuple(sorted(second)), is_whole=is_second)
    both = merged(one, two)
    assert both is not None
    if is_second or is_first:
        assert both == (two if is_second else one)
    else:
        assert set(one.blocks) <= set(both.blocks) <= set(first) | set(second)
        assert len(both.blocks) == min(MOST_BLOCKS, len({*first, *second}))
    assert merged(both, two if is_second or not is_first else one) == both
    assert sets_in(both.encode()) == [both]
    assert merged(one, StructureSet(HASH, SIZE + 1, (1,), is_whole=True)) == one  # another content's


@given(st.lists(st.integers(0, 2**40)), st.lists(st.integers(0, 2**40)), st.booleans())
def test_what_is_found_fits(first: list[int], then: list[int], is_whole: bool) -> None:
    """Of any blocks those are kept that the file has, as many as may be; without all structure it is not whole."""
    found = structure_set(HASH, SIZE, first, then, nearest=first[:2], is_whole=is_whole)
    within = {number for number in (*first, *then) if number < BLOCKS}
    if found is None:
        assert not within
        assert not is_whole
    else:
        assert set(found.blocks) <= within
        assert len(found.blocks) == min(MOST_BLOCKS, len(within))
        assert found.is_whole == (is_whole and len(within & set(first)) <= MOST_BLOCKS)
        assert set(found.nearest) == within & set(first[:2])
        assert sets_in(found.encode()) == [found]


def test_an_index_that_is_too_large() -> None:
    """Of more than there may be, the first ones are taken: 25,000 files have room."""
    data = b"".join(StructureSet(f"{n:0128x}", SIZE, tuple(range(50))).encode() for n in range(26_000))
    taken = Sets()
    taken.take(data)
    assert 25_000 <= len(taken) < 26_000
    assert taken.count_bytes <= MOST_BYTES


def test_many_sets_about_one_file() -> None:
    """The last eight count. Taking 60,000 is linear work: to compare each with all others takes a minute."""
    size_bytes, count = 60_000 * BLOCK_BYTES, 60_000
    data = b"".join(StructureSet(HASH, size_bytes, (number,)).encode() for number in range(count))
    assert len(data) < MOST_BYTES
    taken, before = Sets(), time.process_time()
    taken.take(data)
    found = taken.of(HASH)
    assert time.process_time() - before < 5
    assert found is not None
    assert found.blocks == tuple(range(count - MOST_SETS, count))
    assert taken.count_bytes == len(data)
