"""Disks of their own for tests: in an image, mounted by a loop device, or in memory. Only root can have one."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import until

_EXT4 = ("mkfs.ext4", "-q")


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
def fuse_disk(folder: Path, make: Sequence[str], size_bytes: int, mount: Sequence[str | Path]) -> Iterator[Path]:
    """The folder, on which a program serves a disk of a file system that the kernel may lack."""
    image = make_image(folder.with_suffix(".img"), make, size_bytes)
    found = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    loop = found.stdout.strip()
    folder.mkdir()
    try:
        subprocess.run([*mount, loop, folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


@contextmanager
def memory_disk(folder: Path, options: str) -> Iterator[Path]:
    """The folder, on which a tmpfs with these options is mounted. It is its owner's alone."""
    with _mounted(folder, f"mode=0700,{options}", "-t", "tmpfs", "tmpfs"):
        yield folder


def mount_copy(folder: Path, image: Path, options: str = "loop") -> Path:
    """Mount a copy of the image in its place, as another machine would find it; returns the copy, which is beside it.

    What is in memory of the disk stays behind: what was not synced before, and what was read. The image itself may be
    in use still: a mount namespace that was made meanwhile, for another test, has a mount of it, too. mount(8) would
    find its loop device, and the kernel the file system that it has on it, with all that is in memory.
    """
    subprocess.run(["umount", folder], check=True)
    copy = image.with_suffix(".copy")
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    subprocess.run(["mount", "-o", options, copy, folder], check=True)
    return copy


def remount(folder: Path, options: str) -> None:
    """Give a disk other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def used_bytes(disk: Path) -> int:
    """What a disk has given, to files without a name, too."""
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def freeze(disk: Path) -> None:
    """What writes to a disk waits from now on: fsfreeze(8), as snapshots do it."""
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)


def thaw(disk: Path) -> None:
    """What waits goes on. It is no error if it was not frozen."""
    subprocess.run(["fsfreeze", "--unfreeze", disk], check=False, capture_output=True)


@contextmanager
def freezable_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """The folder, on which an ext4 is mounted that is thawed at the end."""
    with loop_disk(folder, _EXT4, size_bytes):
        try:
            yield folder
        finally:
            thaw(folder)


@dataclass(frozen=True)
class SlowDisk:
    """An ext4 whose image is on a file system that delays each write while it is to `be_slow`."""

    path: Path
    _switch: Path

    def be_slow(self, seconds: float) -> None:
        """Delay each write by so much from now on; 0: not at all."""
        self._switch.write_text(f"{seconds}")


@contextmanager
def slow_disk(folder: Path, size_bytes: int) -> Iterator[SlowDisk]:
    """As fast as any until it is to `be_slow`, and at the end. What is written is on it at once (mount -o sync)."""
    image, below, switch = (folder.with_suffix(suffix) for suffix in (".img", ".below", ".delay"))
    make_image(image, _EXT4, size_bytes)
    disk = SlowDisk(folder, switch)
    disk.be_slow(0)
    with _slow_image(image, switch, below) as slow, _mounted(folder, "loop,sync", str(slow)):
        try:
            yield disk
        finally:
            disk.be_slow(0)


@contextmanager
def _slow_image(image: Path, switch: Path, folder: Path) -> Iterator[Path]:
    """The image, seen through slow_image.py."""
    folder.mkdir()
    words = [sys.executable, "-m", "tests.fakes.slow_image", *map(str, (image, switch, folder))]
    program = subprocess.Popen(words, cwd=Path(__file__).parents[2])
    try:
        until(folder.is_mount)
        yield folder / "image"
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        with suppress(subprocess.TimeoutExpired):  # a mount namespace of another test has it, too
            program.wait(60)
        program.kill()
        program.wait()


@contextmanager
def _mounted(folder: Path, options: str, *what: str) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-o", options, *what, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
