"""Disks of their own for tests: a file system in an image, mounted by a loop device. Only root can have one."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def loop_disk(tmp_path: Path, make: Sequence[str], size_bytes: int) -> Iterator[Path]:
    """Where a disk of this size is mounted; `make` is the command that makes its file system, without the image."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([*make, image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def used_bytes(disk: Path) -> int:
    """What a disk has given, to files without a name, too."""
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
