"""What a file system can do is found out by trying."""

import os
from pathlib import Path

import pytest

from vbnfs.host.places import FOLDER
from vbnfs.host.probing import FileSystemTraits, probe


def test_a_usual_disk(tmp_path: Path) -> None:
    """It keeps modes and has sparse files; the file that showed it is gone."""
    folder = os.open(tmp_path, FOLDER)
    try:
        assert probe(folder) == FileSystemTraits(keeps_modes=True, has_sparse_files=True)
    finally:
        os.close(folder)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_file() -> None:
    """It shows nothing."""
    folder = os.open("/proc", FOLDER)
    try:
        with pytest.raises(OSError, match=r"."):
            probe(folder)
    finally:
        os.close(folder)
