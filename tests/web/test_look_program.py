"""What the program that makes quick looks says to the page, and what it makes of the bytes that come."""

import io
import json
from typing import Any

import pytest

from tests.web.test_hostile_files import SMALL
from vbnfs.web.look_program import _answer, _Asked
from vbnfs.web.quick_looks import TITLES, AskedLook


class Page:
    """The other end of both pipes: what is asked for comes, as long as there is any of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.reads, self._come = data, list[tuple[int, int]](), io.BytesIO()

    def write(self, line: bytes) -> None:
        """A line of the program's."""
        offset, size = json.loads(line)["read"]
        self.reads.append((offset, size))
        self._come = io.BytesIO(self.data[offset : offset + size])

    def flush(self) -> None:
        """Nothing waits."""

    def readinto(self, piece: memoryview) -> int:
        """The bytes that were asked for."""
        return self._come.readinto(piece)


def asked(page: Page, size_bytes: int) -> _Asked:
    """A file of the page's, as the program has it."""
    ends: Any = page
    return _Asked(ends, ends, size_bytes)


@pytest.mark.parametrize("kind", TITLES)
def test_an_answer(kind: str) -> None:
    """It is of JSON, and made of no bytes but those that were asked for."""
    page = Page(SMALL)
    answer = json.loads(json.dumps(_answer(asked(page, len(SMALL)), AskedLook(kind))))
    assert answer.keys() == {"figures", "units"}
    assert sum(size for _, size in page.reads) < len(SMALL)


def test_a_problem_is_short() -> None:
    """What a file names is no longer than a page has room for."""
    assert _answer(asked(Page(b"no HDF5"), 7), AskedLook("unit")).keys() == {"problem"}
    answer = _answer(asked(Page(SMALL), len(SMALL)), AskedLook("unit", unit=10**600))
    assert 0 < len(answer["problem"]) <= 500


def test_large_reads_are_asked_for_in_pieces() -> None:
    """Each of 4 MiB at most; a read ends where the file does, and fails where the page sends less."""
    data = bytes(range(256)) * (9 << 12)
    page = Page(data)
    file = asked(page, len(data))
    assert (file.readable(), file.seekable(), file.seek(-10, io.SEEK_END), file.tell()) == (
        True,
        True,
        len(data) - 10,
        len(data) - 10,
    )
    assert (file.read(100), file.read(1)) == (data[-10:], b"")
    page.reads.clear()
    assert (file.seek(0), file.seek(5, io.SEEK_CUR)) == (0, 5)
    buffer = bytearray(len(data) - 5)
    assert file.readinto(buffer) == len(buffer)
    assert buffer == data[5:]
    assert page.reads == [(5, 4 << 20), (5 + (4 << 20), 4 << 20), (5 + (8 << 20), (1 << 20) - 5)]
    page.data = data[:1000]
    file.seek(999)
    with pytest.raises(EOFError):
        file.read(2)
