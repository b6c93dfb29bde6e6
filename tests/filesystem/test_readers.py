"""Which programs read which files: what is counted, for how long it is remembered, what programs are called."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from vbnfs.dataset.tree import Tree
from vbnfs.figures import Reader
from vbnfs.filesystem import readers
from vbnfs.filesystem.readers import Readers
from vbnfs.host.processes import name_of
from vbnfs.reading.file_reader import FileReader

US = os.getpid()
TREE = cast(Tree, type("NoTree", (), {"nodes": {}})())


def reader(*, advises: bool = True, fetched_reads: int = 0) -> FileReader:
    made: Any = FileReader.__new__(FileReader)
    made.advises, made.fetched_reads = advises, fetched_reads
    return cast(FileReader, made)


def rows(of: Readers, passed: frozenset[int] = frozenset()) -> list[Reader]:
    return of.rows(of.now(), passed, TREE)


def test_a_program_and_a_file_are_a_row() -> None:
    """What all handles of a program on a file have read is one row, also of handles that are closed."""
    of, first, second = Readers(), reader(fetched_reads=2), reader(fetched_reads=3)
    use = of.opened(7, US, first)
    assert of.opened(7, US, second) is use
    use.note(100)
    of.released(use, first)
    use.note(50)
    assert rows(of) == [Reader(name_of(US), US, "?", "mount", True, 2, 150, 5)]
    of.released(use, second)
    assert rows(of) == [Reader(name_of(US), US, "?", "mount", False, 2, 150, 5)]
    again = of.opened(7, US, b"")
    assert again is use
    [row] = rows(of, frozenset({7}))
    assert (row.is_open, row.read_by, row.read_bytes) == (True, "kernel", 150)


def test_closed_files_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds after it was closed a file is no row; only so many are remembered, those closed last."""
    of = Readers()
    for inode in range(300):
        of.released(of.opened(inode, US, b""), b"")
    kept = of.now()
    assert [use.inode for use in kept] == list(range(300 - 256, 300))
    monkeypatch.setattr(readers, "_REMEMBERED_SECONDS", 0.0)
    assert rows(of) == []


def test_what_programs_are_called(tmp_path: Path) -> None:
    """The process that has blocks read whole is the mount's own; a process that is not there has no name."""
    of = Readers()
    assert of.opened(1, US, reader(advises=False)).program == "vbnfs"
    assert of.opened(2, 1 << 22, b"").program is None
    assert of.opened(3, US, b"").program == Path(f"/proc/{US}/comm").read_text().rstrip("\n")
    assert {row.pid for row in rows(of)} == {US, 1 << 22}


def test_those_that_read_most_stand_first() -> None:
    """Open files stand before closed ones, and what was read most before the rest; at most a hundred."""
    of = Readers()
    for inode in range(120):
        use = of.opened(inode, US, b"")
        use.note(inode)
        if inode == 119:
            of.released(use, b"")
    found = rows(of)
    assert len(found) == 100
    assert [row.read_bytes for row in found[:3]] == [118, 117, 116]
