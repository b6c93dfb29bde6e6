"""The structure index of a cache directory, and what is handed in besides."""

import errno
from pathlib import Path

import pytest

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import structure_index
from vbnfs.cache.sets import Imported
from vbnfs.cache.structure_index import KnownStructure, StructureIndex
from vbnfs.cache.structure_sets import StructureSet, structure_set
from vbnfs.objects import Content, ObjectVersion

HASH = "ab" * 64
SIZE = 100 * BLOCK_BYTES
CONTENT = Content("id", SIZE, ObjectVersion("key", "1"), HASH)


def found(*blocks: int, is_whole: bool = False, size_bytes: int = SIZE, file_hash: str = HASH) -> StructureSet:
    return StructureSet(file_hash, size_bytes, blocks, is_whole=is_whole)


def test_what_is_recorded_stays(tmp_path: Path) -> None:
    """It is there for all processes on the cache: those that begin later, and those that have looked already."""
    index, other = StructureIndex(tmp_path), StructureIndex(tmp_path)
    assert other.of(CONTENT) is None
    index.record(found(0, 7))
    assert other.of(CONTENT) == KnownStructure(found(0, 7), "recorded")
    other.record(found(0, 9))
    assert index.of(CONTENT) == KnownStructure(found(0, 7, 9), "recorded")
    index.record(found(0, 5, is_whole=True))  # a walk to its end says all
    for one in (index, other, StructureIndex(tmp_path)):
        known = one.of(CONTENT)
        assert known == KnownStructure(found(0, 5, is_whole=True), "recorded")
        assert known.is_proven
        assert [one.proven(name) for name in one.proven_hashes()] == [found(0, 5, is_whole=True)]
    size = (tmp_path / "structure-v1" / "recorded").stat().st_size
    other.record(found(0, 50))
    other.record(found(0, 5, is_whole=True))
    assert (tmp_path / "structure-v1" / "recorded").stat().st_size == size  # nothing new


def test_another_content_has_none(tmp_path: Path) -> None:
    """A set about another size, or another hash, says nothing of a content, nor does any of one without a hash."""
    index = StructureIndex(tmp_path)
    index.record(found(0, 1, size_bytes=SIZE + 1))
    index.record(found(0, 1, file_hash="cd" * 64))
    assert index.of(CONTENT) is None
    assert index.of(Content("id", SIZE, CONTENT.source)) is None
    assert index.take_in(found(0, 1, file_hash="cd" * 64, size_bytes=SIZE - 1)) is Imported.REFUSED


def test_what_others_say_is_a_claim(tmp_path: Path) -> None:
    """It stands behind what was found here, adds to a part of it, and is no proof, however whole it is called."""
    index = StructureIndex(tmp_path)
    claim = found(0, 30, is_whole=True)
    assert index.take_in(claim) is Imported.NEW
    assert index.take_in(claim) is Imported.KNOWN
    known = index.of(CONTENT)
    assert known == KnownStructure(claim, "imported")
    assert not known.is_proven
    assert list(index.proven_hashes()) == []  # claims are not handed on
    index.hand_in("published", found(0, 40).encode())
    assert index.of(CONTENT) == KnownStructure(claim, "imported")
    index.record(found(0, 20))
    index.record(found(0, 21, is_whole=True))
    assert index.of(CONTENT) == KnownStructure(found(0, 21, is_whole=True), "recorded")
    assert index.take_in(claim) is Imported.KNOWN


def test_what_is_handed_in(tmp_path: Path) -> None:
    """An index that is not stored here counts until another one of its origin comes; bytes that are none do not."""
    index = StructureIndex(tmp_path)
    assert index.hand_in("given", found(0, 1).encode() + found(0, 2).encode()) == 1
    assert index.of(CONTENT) == KnownStructure(found(0, 1, 2), "given")
    assert index.hand_in("given", b"<html>log in first</html>") == 0
    assert index.of(CONTENT) == KnownStructure(found(0, 1, 2), "given")
    index.hand_in("given", found(0, 3).encode())
    index.record(found(0, 8))
    assert index.of(CONTENT) == KnownStructure(found(0, 3, 8), "recorded")
    assert [one.found for one in index.every()] == [found(0, 3, 8)]


def test_a_torn_file(tmp_path: Path) -> None:
    """A set that a power cut tore, and whatever else stands in the file, costs itself alone."""
    index, path = StructureIndex(tmp_path), tmp_path / "structure-v1" / "recorded"
    index.record(found(0, 1))
    path.write_bytes(path.read_bytes() + found(0, 2, file_hash="cd" * 64).encode()[:50])
    index.record(found(0, 3))
    for one in (index, StructureIndex(tmp_path)):
        assert one.of(CONTENT) == KnownStructure(found(0, 1, 3), "recorded")
    path.write_bytes(b"\0" * 1000)
    assert StructureIndex(tmp_path).of(CONTENT) is None
    index.record(found(0, 4))
    path.unlink()
    assert index.of(CONTENT) is None
    index.record(found(0, 5))
    assert StructureIndex(tmp_path).of(CONTENT) == KnownStructure(found(0, 5), "recorded")


def test_a_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What later sets have replaced is left out in the end, and what is known stays."""
    monkeypatch.setattr(structure_index, "_SPARE_BYTES", 1_000)
    index, path = StructureIndex(tmp_path), tmp_path / "structure-v1" / "recorded"
    index.record(found(0, 1, file_hash="cd" * 64))
    for block in range(40):
        index.record(found(block))
    assert index.of(CONTENT) == KnownStructure(found(*range(40)), "recorded")
    assert path.stat().st_size < 5_000
    assert StructureIndex(tmp_path).of(CONTENT) == KnownStructure(found(*range(40)), "recorded")
    assert StructureIndex(tmp_path).proven("cd" * 64) is not None


def test_a_full_index_and_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is no error of a mount, and one of an import."""
    monkeypatch.setattr(structure_index, "MOST_BYTES", 200)
    index = StructureIndex(tmp_path / "full")
    index.record(found(0, 1))
    index.record(found(0, 1, file_hash="cd" * 64))
    assert len(list(index.proven_hashes())) == 1
    index.take_in(found(0, 1, file_hash="01" * 64))
    with pytest.raises(OSError, match="no room for more files") as raised:
        index.take_in(found(0, 1, file_hash="02" * 64))
    assert raised.value.errno == errno.ENOSPC
    (tmp_path / "structure-v1").write_bytes(b"no folder")
    broken = StructureIndex(tmp_path)
    broken.record(found(0, 1))
    assert broken.of(CONTENT) is None


def test_what_has_no_structure_is_known(tmp_path: Path) -> None:
    """A file that is no HDF5 is recorded without blocks."""
    none = structure_set(HASH, SIZE, (), is_whole=True)
    assert none is not None
    index = StructureIndex(tmp_path)
    index.record(none)
    known = StructureIndex(tmp_path).of(CONTENT)
    assert known == KnownStructure(none, "recorded")
    assert known.is_proven
