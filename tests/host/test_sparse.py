"""Files with holes, also where a system knows less of them."""

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.msvcrt import msvcrt
from vbnfs.host import sparse
from vbnfs.host.sparse import make_long, next_data, take_space

LENGTH = 10 << 20
AT = 4 << 20


def test_where_a_file_has_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file is a hole but for what is written; where that is not said, all of it may be data."""
    with (tmp_path / "file").open("w+b") as file:
        make_long(file.fileno(), LENGTH)
        assert next_data(file.fileno(), 0, LENGTH) is None
        os.pwrite(file.fileno(), bytes(4096), AT)
        found = next_data(file.fileno(), 0, LENGTH)
        assert found is not None
        assert AT in found
        assert len(found) < LENGTH // 2
        assert next_data(file.fileno(), found.stop, LENGTH) is None
        assert os.fstat(file.fileno()).st_blocks * 512 < LENGTH // 2
        monkeypatch.setattr(sparse, "_HAS_SEEK_DATA", False)
        assert next_data(file.fileno(), 5, LENGTH) == range(5, LENGTH)
        assert next_data(file.fileno(), LENGTH, LENGTH) is None
    monkeypatch.undo()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        next_data(-1, 0, LENGTH)


@pytest.mark.parametrize("has_fallocate", [True, False])
def test_room_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_fallocate: bool) -> None:
    """The file is as long, and has no hole."""
    monkeypatch.setattr(sparse, "_HAS_FALLOCATE", has_fallocate)
    with (tmp_path / "file").open("w+b") as file:
        take_space(file.fileno(), 1 << 20)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_blocks * 512 >= 1 << 20) == (1 << 20, True)


def test_windows_is_asked_for_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handle of the file is made sparse, before it is long; without that library nothing is asked."""
    asked = list[tuple[int, int]]()

    def control(handle: ctypes.c_void_p, code: int, *_: object) -> int:
        asked.append((handle.value or 0, code))
        return 1

    monkeypatch.setattr(sparse, "MSVCRT", msvcrt())
    with (tmp_path / "file").open("w+b") as file:
        make_long(file.fileno(), 1000)
        kernel = SimpleNamespace(kernel32=SimpleNamespace(DeviceIoControl=control))
        monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
        make_long(file.fileno(), 2000)
        assert asked == [(file.fileno() + 1000, 0x900C4)]
        assert os.fstat(file.fileno()).st_size == 2000
