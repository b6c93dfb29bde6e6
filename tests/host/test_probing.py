"""What a file system can do is found out by trying."""

import os
from pathlib import Path

import pytest

from vbnfs.host.folders_by_path import FolderByPath
from vbnfs.host.own_folders import open_own
from vbnfs.host.probing import FileSystemTraits, probe


def test_a_usual_disk(tmp_path: Path) -> None:
    """It keeps modes and has sparse files; the file that showed it is gone."""
    folder = open_own(tmp_path, make=False)
    try:
        assert probe(folder) == FileSystemTraits(keeps_modes=True, has_sparse_files=True)
    finally:
        folder.close()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_file() -> None:
    """It shows nothing."""
    with pytest.raises(OSError, match=r"."):
        probe(FolderByPath(Path("/proc")))
