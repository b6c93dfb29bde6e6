"""File handles, by which an NFS server finds what a client named once: also after the kernel has forgotten it."""

import errno
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import LISTING_REFUSED, FakeS3Server, for_kind
from tests.fixtures_mount import Mounts, until
from tests.scenarios.hosts.handles import Handle, handle_of, open_handle

TABLE = "project_metadata/units.csv"
DATA = b"unit_id\n1\n"
OTHER = b"unit_id\n1\n2\n"

pytestmark = pytest.mark.root


@pytest.fixture
def dataset() -> FakeDataset:
    """One version of a dataset with a table."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {TABLE: DATA})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of the dataset."""
    with FakeS3Server(dataset.store) as server:
        yield server


def forget() -> None:
    """Have the kernel forget the inodes that no program uses, as it does when memory is short: proc_sys_vm(5)."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


def all_below(folder: Path) -> list[Path]:
    """The folder itself, and all that is in it: files, folders and links."""
    found = [folder]
    for parent, folders, files in os.walk(folder):
        found += (Path(parent, name) for name in (*folders, *files))
    return found


def check(mount: Path, handle: Handle, path: Path, status: os.stat_result) -> None:
    """By its handle an inode is what it was by its path."""
    flags = os.O_PATH | os.O_NOFOLLOW if stat.S_ISLNK(status.st_mode) else os.O_RDONLY
    descriptor = open_handle(mount, handle, flags)
    try:
        now = os.fstat(descriptor)
        assert (now.st_ino, now.st_mode, now.st_size) == (status.st_ino, status.st_mode, status.st_size), path
        if stat.S_ISREG(status.st_mode):
            assert os.read(descriptor, status.st_size + 1) == path.read_bytes(), path
        elif stat.S_ISDIR(status.st_mode):
            assert sorted(os.listdir(descriptor)) == sorted(os.listdir(path)), path
            # An NFS server wants to know where a folder is: the kernel asks for `..` up to the top.
            assert os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("engine")
def test_handles_outlive_everything(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A handle of anything in the mount finds it again: forgotten, mounted anew, with another version."""
    mount = mounts(server.endpoint_url)
    known = {path: (handle_of(path), path.lstat()) for path in all_below(mount.path)}
    assert {stat.S_IFMT(status.st_mode) for _, status in known.values()} == {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}

    def check_all() -> None:
        for path, (handle, status) in known.items():
            check(mount.path, handle, path, status)

    forget()
    check_all()
    mount.umount()
    mount.mount()  # nothing was looked up here
    check_all()
    dataset.publish("0.2.0", {TABLE: OTHER})
    mount.umount()
    mount.options += ["--cache-dir", str(mount.path.parent / "another cache")]
    mount.mount()
    assert (mount.path / TABLE).read_bytes() == OTHER
    for path in (mount.path / "manifests" / "v0.1.0", mount.path / "manifests" / "v0.1.0" / TABLE):
        handle, status = known[path]
        check(mount.path, handle, path, status)


def test_handles_of_what_is_not_there(mounts: Mounts, server: FakeS3Server) -> None:
    """A handle of what never was is stale (ESTALE), as of what no version has any more.

    In a dead mount every handle is refused, and hangs no server; when it is mounted anew, it is good again.
    """
    mount = mounts(server.endpoint_url)
    handle = handle_of(mount.path / TABLE)
    never = replace(handle, data=bytes(7) + b"\x07" + handle.data[8:])
    assert errno_of(mount.path, never) == errno.ESTALE
    assert (
        errno_of(mount.path, replace(handle, data=handle.data[:8] + b"\1" * (len(handle.data) - 8))) == errno.ESTALE
    )
    os.kill(mount.status()["pid"], signal.SIGKILL)
    until(lambda: errno_of(mount.path, handle) in {errno.ENOTCONN, errno.ECONNABORTED})
    mount.mount()
    os.close(open_handle(mount.path, handle, os.O_RDONLY))


def errno_of(mount: Path, handle: Handle) -> int | None:
    """How opening by a handle fails."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        open_handle(mount, handle, os.O_RDONLY)
    return caught.value.errno


def test_a_handle_of_a_file_of_unknown_size(mounts: Mounts, server: FakeS3Server) -> None:
    """Where the bucket lists no sizes, a file is found by its handle, too: its size is asked for then."""
    mount = mounts(server.endpoint_url)
    handle = handle_of(mount.path / TABLE)
    mount.umount()
    server.behaviours.append(for_kind("list_versions", LISTING_REFUSED))
    mount.options += ["--cache-dir", str(mount.path.parent / "another cache")]
    mount.mount()
    server.forget_requests()
    descriptor = open_handle(mount.path, handle, os.O_RDONLY)
    assert os.read(descriptor, 100) == DATA
    os.close(descriptor)
    assert server.count("head") == 1
