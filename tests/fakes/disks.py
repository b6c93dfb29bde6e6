"""Disks of their own for tests: in an image, mounted by a loop device, or in memory. Only root can have one."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def make_image(image: Path, make: Sequence[str], size_bytes: int) -> Path:
    """A file of this size with a file system in it; `make` is the command that makes that, without the image."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([*make, image], check=True, capture_output=True)
    return image


@contextmanager
def loop_disk(folder: Path, make: Sequence[str], size_bytes: int) -> Iterator[Path]:
    """The folder, on which such a disk is mounted; the image is beside it."""
    with _mounted(folder, "loop", str(make_image(folder.with_suffix(".img"), make, size_bytes))):
        yield folder


@contextmanager
def memory_disk(folder: Path, options: str) -> Iterator[Path]:
    """The folder, on which a tmpfs with these options is mounted. It is its owner's alone."""
    with _mounted(folder, f"mode=0700,{options}", "-t", "tmpfs", "tmpfs"):
        yield folder


def remount(folder: Path, options: str) -> None:
    """Give a disk other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def used_bytes(disk: Path) -> int:
    """What a disk has given, to files without a name, too."""
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextmanager
def _mounted(folder: Path, options: str, *what: str) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-o", options, *what, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
