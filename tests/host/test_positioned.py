"""Reading and writing at places: all of what is to be written is written, or the caller hears that it is not."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from vbnfs.host import positioned
from vbnfs.host.positioned import read_at, read_into, write_all


def test_many_parts_are_written_as_one(tmp_path: Path) -> None:
    """More parts than one call of pwritev(2) takes, empty ones among them, stand behind one another."""
    parts = [os.urandom(number % 7) for number in range(3000)]
    with (tmp_path / "file").open("w+b") as file:
        write_all(file.fileno(), parts, 5)
        assert os.pread(file.fileno(), 20_000, 0) == bytes(5) + b"".join(parts)


def test_what_is_taken_in_part_goes_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes less than it was given is no failure; one that takes nothing, without an error, is one."""
    pwritev, left = os.pwritev, [10, 3, 1, 2]
    data = os.urandom(20)

    def short(descriptor: int, views: list[memoryview], offset: int) -> int:
        return pwritev(descriptor, [b"".join(views)[: left.pop(0)]], offset) if left else 0

    monkeypatch.setattr(os, "pwritev", short)
    with (tmp_path / "file").open("w+b") as file:
        with pytest.raises(OSError, match="Input/output error"):
            write_all(file.fileno(), [data[:4], data[4:11], data[11:]], 0)
        assert os.pread(file.fileno(), 20, 0) == data[:16]


def test_where_files_have_a_position_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads read and write at places of one file, as by pread(2); its position stays what it was."""
    for name in ("_HAS_PREAD", "_HAS_PREADV", "_HAS_PWRITE", "_HAS_PWRITEV"):
        monkeypatch.setattr(positioned, name, False)
    data = os.urandom(100_000)
    with (tmp_path / "file").open("w+b", buffering=0) as file, ThreadPoolExecutor(8) as threads:
        file.write(b"begin")
        places = range(0, len(data), 1000)
        write = partial(write_part, file.fileno(), data)
        list(threads.map(write, places))
        parts = threads.map(lambda at: read_at(file.fileno(), 1000, at + 7), places)
        assert b"".join(parts) == data
        buffer = bytearray(2000)
        assert read_into(file.fileno(), memoryview(buffer), len(data) - 993) == 1000
        assert buffer == data[-1000:] + bytes(1000)
        assert file.tell() == 5


def write_part(descriptor: int, data: bytes, at: int) -> None:
    write_all(descriptor, [data[at : at + 300], data[at + 300 : at + 1000]], at + 7)
