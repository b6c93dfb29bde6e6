"""Sets of digests: whole and of the right file, or none."""

import io
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.digests import DigestSet, DigestStore, Imported, KnownDigests, read_set
from vbnfs.errors import DigestsError
from vbnfs.objects import Content, ObjectVersion

DATA = b"".join(bytes([number]) * BLOCK_BYTES for number in range(3)) + b"end"
HASH = blake2b(DATA).hexdigest()
BLOCKS = [DATA[start : start + BLOCK_BYTES] for start in range(0, len(DATA), BLOCK_BYTES)]
RIGHT = DigestSet(HASH, len(DATA), b"".join(map(digest, BLOCKS)))
WRONG = DigestSet(HASH, len(DATA), b"".join(map(digest, reversed(BLOCKS))))
CONTENT = Content("id", len(DATA), ObjectVersion("key", "1"), HASH)


def path_of(directory: Path, kind: str = "proven") -> Path:
    return directory / "digests-v1" / kind / HASH[:2] / HASH


def test_the_layout_is_the_documented_one() -> None:
    """A set is its header, a digest for each block, and a digest of all that, as docs/digests.md says."""
    data = RIGHT.encode()
    assert data[:8] == b"vbnfsdg1"
    assert int.from_bytes(data[8:12], "little") == 262_144
    assert int.from_bytes(data[12:20], "little") == len(DATA)
    assert data[20:84].hex() == HASH
    assert data[84:96] == bytes(12)
    assert data[96:112] == blake2b(BLOCKS[0], digest_size=16).digest()
    assert data[-32:] == blake2b(data[:-32], digest_size=32).digest()
    assert len(data) == 96 + 16 * 4 + 32


@given(st.lists(st.sampled_from([RIGHT, WRONG, DigestSet(blake2b(b"").hexdigest(), 0, b"")]), max_size=4))
def test_sets_stand_one_behind_the_other(sets: list[DigestSet]) -> None:
    """What was written is read again, set after set, up to the end of the file."""
    file = io.BytesIO(b"".join(one.encode() for one in sets))
    assert [read_set(file) for _ in sets] == sets
    assert read_set(file) is None


@given(st.binary())
@example(RIGHT.encode()[:12] + b"\xff" * 8 + RIGHT.encode()[20:])  # a size that would take 2**46 blocks
@example((96).to_bytes(96, "little"))
@example(DigestSet(HASH, 0, b"").encode())
def test_bytes_that_are_no_set_are_refused(data: bytes) -> None:
    """Any bytes give a set, nothing, or an error in words; a length that is wrong takes no memory."""
    if data:
        with pytest.raises(DigestsError):
            read_set(io.BytesIO(data))


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """A file with a flipped bit anywhere, cut short, or with more behind it, counts as none."""
    DigestStore(tmp_path).keep_proven(RIGHT)
    path = path_of(tmp_path)
    good = path.read_bytes()
    for position in range(len(good)):
        for bad in (good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :], good[:position]):
            path.write_bytes(bad)
            assert DigestStore(tmp_path).of(CONTENT) is None
    path.write_bytes(good + b"\0")
    assert DigestStore(tmp_path).of(CONTENT) is None
    path.write_bytes(good)
    assert DigestStore(tmp_path).of(CONTENT) == KnownDigests(RIGHT, are_proven=True)


def test_another_files_digests_are_none(tmp_path: Path) -> None:
    """A set under another file's name, and one of another size than the content's, say nothing of it."""
    other = "f" * 128
    store = DigestStore(tmp_path)
    store.keep_proven(RIGHT)
    place = tmp_path / "digests-v1" / "proven" / "ff"
    place.mkdir()
    path_of(tmp_path).replace(place / other)
    assert DigestStore(tmp_path).of(Content("id", len(DATA), CONTENT.source, other)) is None
    DigestStore(tmp_path).keep_proven(RIGHT)
    assert DigestStore(tmp_path).of(Content("id", len(DATA) + 1, CONTENT.source, HASH)) is None
    assert store.of_nowait(Content("id", len(DATA), CONTENT.source)) is None  # a content without a hash


def test_what_is_proven_goes_before_what_was_imported(tmp_path: Path) -> None:
    """Digests that were made here are not replaced by imported ones, and replace them."""
    store = DigestStore(tmp_path)
    assert store.take_in(WRONG) is Imported.NEW
    assert store.take_in(WRONG) is Imported.KNOWN
    assert store.of(CONTENT) == KnownDigests(WRONG, are_proven=False)
    assert store.proven(HASH) is None
    store.keep_proven(RIGHT)
    assert store.of_nowait(CONTENT) == KnownDigests(RIGHT, are_proven=True)
    assert not path_of(tmp_path, "imported").exists()
    assert store.take_in(WRONG) is Imported.REFUSED
    assert store.take_in(RIGHT) is Imported.KNOWN
    assert DigestStore(tmp_path).of(CONTENT) == KnownDigests(RIGHT, are_proven=True)
    assert list(store.proven_hashes()) == [HASH]


def test_what_is_disproved_is_deleted(tmp_path: Path) -> None:
    """Bytes that have these digests and not the hash: the set that says otherwise is deleted, another one is not."""
    store = DigestStore(tmp_path)
    store.take_in(WRONG)
    store.disprove(RIGHT)
    assert store.of(CONTENT) == KnownDigests(WRONG, are_proven=False)
    store.disprove(WRONG)
    assert store.of(CONTENT) is None


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """Digests that cannot be stored serve this process all the same."""
    (tmp_path / "digests-v1").write_bytes(b"no folder")
    store = DigestStore(tmp_path)
    store.keep_proven(RIGHT)
    assert store.of_nowait(CONTENT) == KnownDigests(RIGHT, are_proven=True)
    assert DigestStore(tmp_path).of(CONTENT) is None
    assert list(store.proven_hashes()) == []


def test_the_disk_is_not_asked_each_time(tmp_path: Path) -> None:
    """What was found, and that nothing was found, is remembered for a while; what is larger than memory is not."""
    store = DigestStore(tmp_path)
    with pytest.raises(KeyError):
        store.of_nowait(CONTENT)
    assert store.of(CONTENT) is None
    assert store.of_nowait(CONTENT) is None
    DigestStore(tmp_path).keep_proven(RIGHT)  # by another process
    assert store.of_nowait(CONTENT) is None
    large = DigestSet(HASH, 2_000_000 * BLOCK_BYTES, bytes(32_000_000))
    store.keep_proven(large)
    with pytest.raises(KeyError):
        store.of_nowait(CONTENT)
