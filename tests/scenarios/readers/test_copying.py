"""Programs that copy holes and attributes, or look for folders to leave out, on files that are cached in part."""

import ctypes
import errno
import fcntl
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import ENGINES, Mount, Mounts, until
from vbnfs.dataset.markers import MARKERS

KIB: Final = 1 << 10
CONSTANT: Final = {f"user.vbnfs.{name}" for name in ("url", "version_id", "file_hash", "dataset_versions")}
STATE: Final = {f"user.vbnfs.{name}" for name in ("cached", "verified", "read_by")}
FS_IOC_FIEMAP: Final = 0xC020660B  # linux/fiemap.h

Copy = Callable[[Path, Path], object]


def run(*command: str | Path) -> str:
    """A program's standard output; it must succeed and complain of nothing."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


def tarred(*options: str, tar: str = "tar") -> Copy:
    """Copy a file by way of an archive, with its attributes."""

    def copy(source: Path, target: Path) -> None:
        archive, folder = target.with_suffix(".tar"), target.with_suffix(".folder")
        folder.mkdir()
        run(tar, *options, "-c", "-f", archive, "-C", source.parent, source.name)
        run(tar, "--xattrs", "-x", "-f", archive, "-C", folder)
        (folder / source.name).rename(target)

    return copy


def converted(source: Path, target: Path) -> None:
    """Copy a file as a disk image, which qemu-img makes of whole sectors."""
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", source, target)
    os.truncate(target, source.stat().st_size)


def sent(source: Path, target: Path) -> None:
    """Copy a file by sendfile(2)."""
    with source.open("rb") as reader, target.open("wb") as writer:
        at = 0
        while count := os.sendfile(writer.fileno(), reader.fileno(), at, KIB << 10):
            at += count


def by_segments(source: Path, target: Path) -> None:
    """Copy what SEEK_DATA and SEEK_HOLE of lseek(2) say is data, as most of these programs do."""
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        os.truncate(writer.fileno(), size)
        at = 0
        while at < size:
            start = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            at = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            os.pwrite(writer.fileno(), os.pread(reader.fileno(), at - start, start), start)


COPIES: Final[Mapping[str, Copy]] = {
    "cp": lambda source, target: run("cp", source, target),
    "cp --sparse=always": lambda source, target: run("cp", "--sparse=always", source, target),
    "cp --reflink=auto -a": lambda source, target: run("cp", "-a", "--reflink=auto", source, target),
    "rsync -S": lambda source, target: run("rsync", "-aS", source, target),
    "rsync --inplace": lambda source, target: run("rsync", "-a", "--inplace", source, target),
    "tar -S": tarred("-S"),
    "tar -S, seek": tarred("-S", "--hole-detection=seek"),
    "tar -S, raw": tarred("-S", "--hole-detection=raw"),
    "dd": lambda source, target: run("dd", "conv=sparse", "bs=64K", "status=none", f"if={source}", f"of={target}"),
    "install": lambda source, target: run("install", source, target),
    "shutil": shutil.copy2,
    "sendfile": sent,
    "lseek": by_segments,
}
WITH_PACKAGES: Final[Mapping[str, Copy]] = {
    "bsdtar": tarred(tar="bsdtar"),
    "bsdtar --read-sparse": tarred("--read-sparse", tar="bsdtar"),
    "qemu-img": converted,
    "ddrescue -S": lambda source, target: run("ddrescue", "-q", "-S", source, target),
}


def content(seed: int) -> bytes:
    """Bytes that have long runs of zeros, at the end too, and are not blocks of a file system."""
    chance = random.Random(seed)
    return (
        chance.randbytes(300 * KIB)
        + bytes(700 * KIB)
        + chance.randbytes(1)
        + bytes(1500 * KIB)
        + chance.randbytes(10)
    ) + bytes(400 * KIB + seed)


NAMES: Final = (*COPIES, *WITH_PACKAGES, "part", "backup", "whole")
FILES: Final = {f"sessions/{number}.nwb": content(number) for number, _ in enumerate(NAMES)}


def path_of(name: str) -> str:
    return f"sessions/{NAMES.index(name)}.nwb"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    with serve({"0.1.0": FILES}) as server:
        yield server


@pytest.fixture(scope="module", params=ENGINES)
def mount(
    request: pytest.FixtureRequest, server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A mount with each engine, alone in its folder."""
    directory, kept = tmp_path_factory.mktemp("copying"), tmp_path_factory.mktemp("kept")
    factory = Mounts(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(kept / "cache"))
        patch.setenv("VBNFS_LOG_FILE", str(kept / "vbnfs.log"))
        yield factory(server.endpoint_url, "--fuse", request.param)
    factory.end()


def partly_cached(mount: Mount, name: str) -> Path:
    """A file of which some blocks are cached, and most are not."""
    path = mount.path / path_of(name)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 1, 1100 * KIB)
    assert 0 < int(os.getxattr(path, "user.vbnfs.cached")) < path.stat().st_size
    assert 0 < path.stat().st_blocks * 512 <= path.stat().st_size
    return path


@pytest.mark.parametrize("name", COPIES)
def test_partly_cached_files_are_copied_whole(mount: Mount, tmp_path: Path, name: str) -> None:
    """What is not cached is no hole: each program copies all bytes of a file of which a part is cached."""
    COPIES[name](partly_cached(mount, name), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == FILES[path_of(name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PACKAGES)
def test_more_programs_copy_partly_cached_files_whole(mount: Mount, tmp_path: Path, name: str) -> None:
    """The same with programs that are packages of their own."""
    WITH_PACKAGES[name](partly_cached(mount, name), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == FILES[path_of(name)]


def test_no_file_has_holes(mount: Mount) -> None:
    """lseek(2) finds data from beginning to end, whatever is cached, and ioctl(2) gives no map of extents."""
    path = partly_cached(mount, "part")
    size = path.stat().st_size
    with path.open("rb") as file:
        for at in (0, 5, 1100 * KIB, size - 1):
            assert os.lseek(file.fileno(), at, os.SEEK_DATA) == at
            assert os.lseek(file.fileno(), at, os.SEEK_HOLE) == size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match="No such device or address"):
                os.lseek(file.fileno(), size, whence)
        with pytest.raises(OSError, match=r".") as caught:
            fcntl.ioctl(file.fileno(), FS_IOC_FIEMAP, bytearray(struct.pack("=QQIIII", 0, size, 0, 0, 0, 0)))
        assert caught.value.errno in {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS}


COPY_ATTRIBUTES: Final[Mapping[str, Copy]] = {
    "cp -a": lambda source, target: run("cp", "-a", source, target),
    "rsync -aX": lambda source, target: run("rsync", "-aX", source, target),
    "tar --xattrs": tarred("--xattrs"),
    "shutil": shutil.copy2,
}


def test_copies_have_what_is_true_of_them(mount: Mount, tmp_path: Path) -> None:
    """What is listed and copied says where a file comes from; what the cache has of it is only answered."""
    path = mount.path / path_of("whole")
    path.read_bytes()
    until(lambda: os.getxattr(path, "user.vbnfs.verified").startswith(b"blake2b:"))
    assert set(os.listxattr(path)) == CONSTANT
    assert all(os.getxattr(path, name) for name in STATE)
    shown = run("getfattr", "-d", "--absolute-names", path).splitlines()[1:-1]
    assert {line.partition("=")[0] for line in shown} == CONSTANT
    assert "user.vbnfs.cached=" in run("getfattr", "-n", "user.vbnfs.cached", "--absolute-names", path)
    for number, (name, copy) in enumerate(COPY_ATTRIBUTES.items()):
        target = tmp_path / str(number)
        copy(path, target)
        assert {one for one in os.listxattr(target) if "vbnfs" in one} == CONSTANT, name


def test_a_backup_sees_no_change(mount: Mount, tmp_path: Path) -> None:
    """`rsync -aX` finds nothing to do when all that has changed is what is cached, and verified."""
    path = partly_cached(mount, "backup")
    run("rsync", "-aX", path, tmp_path / "copy")
    until(lambda: os.getxattr(path, "user.vbnfs.verified").startswith(b"blake2b:"))
    assert run("rsync", "-aXi", path, tmp_path / "copy") == ""


LIBC: Final = ctypes.CDLL(None, use_errno=True)


def answer(function: Any, *arguments: object) -> int | str:
    """What a function of libc returns, or the name of its errno."""
    result: int = function(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result


def test_sizes_of_attribute_lists(mount: Mount) -> None:
    """A size of 0 asks for the length of a list or a value; one that is too small is ERANGE: listxattr(2)."""
    path = os.fsencode(mount.path / path_of("part"))
    names, value = "".join(f"{name}\0" for name in os.listxattr(path)).encode(), os.getxattr(path, "user.vbnfs.url")
    buffer = ctypes.create_string_buffer(4096)
    listed, got = partial(answer, LIBC.listxattr, path), partial(answer, LIBC.getxattr, path, b"user.vbnfs.url")
    assert [listed(buffer, size) for size in (0, 1, len(names) - 1, len(names), 4096)] == [
        *(len(names), "ERANGE", "ERANGE", len(names), len(names)),
    ]
    assert [got(buffer, size) for size in (0, 1, len(value) - 1, len(value), 4096)] == [
        *(len(value), "ERANGE", "ERANGE", len(value), len(value)),
    ]
    assert answer(LIBC.listxattr, os.fsencode(mount.path), None, 0) == 0


def test_inodes_as_programs_see_them(mount: Mount) -> None:
    """Numbers are exact in a program that has them as doubles; listings and stat(2) agree; a mount is a device."""
    shown = run("find", mount.path, "-printf", "%i %D %y %P\n").splitlines()
    assert len(shown) > len(FILES)
    numbers = "\n".join(line.split()[0] for line in shown)
    awk = ["awk", '{ printf "%.0f\\n", $1 }']
    assert subprocess.run(awk, input=numbers + "\n", text=True, capture_output=True, check=True).stdout.split() == [
        *numbers.split()
    ]
    assert (
        {line.split()[1] for line in shown}
        == {str(mount.path.stat().st_dev)}
        != {str(mount.path.parent.stat().st_dev)}
    )
    for folder, _, _ in os.walk(mount.path):
        with os.scandir(folder) as entries:
            assert all(entry.inode() == entry.stat(follow_symlinks=False).st_ino for entry in entries)


def test_markers_are_found_and_not_listed(mount: Mount) -> None:
    """Markers for indexers, editors and backups are found by programs that ask by name; listings lack them."""
    for name, data in MARKERS.items():
        marker = mount.path / name
        assert (marker.exists(), marker.read_bytes(), marker.stat().st_mode & 0o777) == (True, data, 0o444)
    visible = {"README.txt", "allensdk", "manifests", "sessions"}
    assert set(os.listdir(mount.path)) == visible
    assert {path.name for path in mount.path.glob("*")} == visible
    assert set(run("ls", "-A", mount.path).split()) == visible
    assert run("find", mount.path, "-name", ".*") == ""
    assert not any((mount.path / "sessions" / name).exists() for name in MARKERS)


def test_backups_leave_it_out(mount: Mount) -> None:
    """`tar --exclude-caches` and `--one-file-system`, `find -xdev`, `du -x` and `rsync -x` do not go into a mount."""
    above = mount.path.parent
    archived = run("sh", "-c", f"tar -c --exclude-caches -C '{above}' . | tar -t")
    assert not [line for line in archived.splitlines() if "sessions" in line or "README" in line]
    for command in (
        f"tar -c --one-file-system -C '{above}' . 2>/dev/null | tar -t",
        f"find '{above}' -xdev",
        f"du -ax '{above}'",
        f"rsync -rx --list-only '{above}/'",
    ):
        assert "README" not in run("sh", "-c", command), command


@pytest.mark.slow
def test_searching_leaves_recordings_out(mount: Mount, server: FakeS3Server) -> None:
    """ripgrep, also below the top, searches what is text, and fetches no recording; `rg -u` searches those, too.

    ag, ugrep and git leave recordings out as docs/mounting.md says. fd lists all names, and reads nothing.
    """
    before = server.count("get_range")
    assert "README.txt" in run("rg", "--files", mount.path)
    assert ".nwb" not in run("rg", "--files", mount.path)
    assert run("rg", "-l", "getfattr", mount.path).strip() == str(mount.path / "README.txt")
    assert subprocess.run(["rg", "x", mount.path / "sessions"], check=False, capture_output=True).returncode == 1
    assert server.count("get_range") == before
    assert ".nwb" in run("rg", "-u", "--files", mount.path)
    readme = str(mount.path / "README.txt")
    for search in (("ag", "--vimgrep"), ("ugrep", "--ignore-files", "-rl"), ("ugrep", "--exclude=*.nwb", "-rl")):
        assert run(*search, "getfattr", mount.path).partition(":")[0].split() == [readme], search
    command = ("ag", "--ignore", "*.nwb", "x", mount.path / "sessions")
    below = subprocess.run(command, check=False, capture_output=True)
    assert (below.returncode, below.stdout) == (1, b"")
    assert ".nwb" in run("fdfind", ".", mount.path)  # names alone, and all of them
    run("git", "init", "-q", mount.path.parent)
    added = run("git", "-C", mount.path.parent, "add", "-An", mount.path)
    assert ("README.txt" in added, ".nwb" in added) == (True, False)
    assert server.count("get_range") == before
