"""Folders with modes and owners, and users who have no other use."""

import os
from pathlib import Path
from typing import Final

NOBODY: Final = 65534


def make(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path
