"""Whole cached files that the kernel reads by itself: what reaches the daemon, and what happens to readers."""

import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders
from tests.fakes.dataset import serve
from tests.fakes.disks import loop_disk
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES
from vbnfs.cache.content_folder import DATA, HEADER_BYTES, WHOLE
from vbnfs.cache.holdings import all_held
from vbnfs.host.mount_programs import detach
from vbnfs.host.places import folder_at

NAME = "ecephys_sessions/ecephys_session_1044.nwb"
PATTERN = Pattern(3_000_001)
PLAIN = PATTERN[: len(PATTERN)]
DISKS = {"ext4": (["mkfs.ext4", "-q"], 50 << 20), "xfs": (["mkfs.xfs", "-q"], 400 << 20)}

pytestmark = pytest.mark.root


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n", NAME: PATTERN}}) as server:
        yield server


@pytest.fixture
def file(mounts: Mounts, server: FakeS3Server) -> "File":
    """A mount with the session, which is whole and checked."""
    mount = mounts(server.endpoint_url)
    file = File(mount)
    assert file.path.read_bytes() == PLAIN
    until(lambda: file.read_by() == "kernel")
    assert mount.status()["metrics"]["checked_bytes"] == 0  # hashing it was enough
    assert file.is_passed()
    return file


class File:
    """The session in a mount."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.path = mount.path / NAME

    def counts(self) -> tuple[int, int]:
        """How many opens were passed through, and how many reads reached the daemon."""
        metrics = self.mount.status()["metrics"]
        return metrics["passthrough_opens"], metrics["read_requests"]

    def read_by(self) -> str:
        """What the extended attribute says."""
        return os.getxattr(self.path, "user.vbnfs.read_by").decode()

    def is_passed(self) -> bool:
        """Whether the kernel reads it by itself if it is opened now."""
        before, _ = self.counts()
        os.close(os.open(self.path, os.O_RDONLY))
        return self.counts()[0] > before


def whole_data(tmp_path: Path) -> Path:
    """The session's file in the cache."""
    folders = content_folders(tmp_path / "cache")
    found = [one for one in folders if one.parts[-3] == WHOLE and (one / DATA).stat().st_size == len(PATTERN)]
    return found[0] / DATA if found else tmp_path / "not whole"


def test_no_read_reaches_the_daemon(file: File) -> None:
    """Whatever way a whole file is read: at once, in parts, mapped, by sendfile, directly, beyond its end."""
    _, before = file.counts()
    with file.path.open("rb") as opened:
        assert opened.read() == PLAIN
        for offset in (0, 4095, BLOCK_BYTES - 1, len(PLAIN) - 5):
            assert os.pread(opened.fileno(), 4096, offset) == PLAIN[offset : offset + 4096]
        assert os.pread(opened.fileno(), 4096, len(PLAIN)) == b""
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == PLAIN
        copy = file.mount.path.parent / "copy"
        with copy.open("wb") as target:
            assert os.sendfile(target.fileno(), opened.fileno(), 0, len(PLAIN)) == len(PLAIN)
        assert copy.read_bytes() == PLAIN
    command = ["dd", "iflag=direct", f"if={file.path}", f"of={copy}", "bs=64K", "status=none"]
    subprocess.run(command, check=True)
    assert copy.read_bytes() == PLAIN
    assert file.counts()[1] == before


READS = """
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
"""


def hashes_by(count: int, path: Path) -> set[str]:
    """What so many processes find that read a file at the same time."""
    command = [sys.executable, "-S", "-c", READS, str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    found = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * count
    return found


def test_many_processes(file: File) -> None:
    """Sixteen processes read it at the same time, and none of them asks the daemon."""
    opens, reads = file.counts()
    assert len(hashes_by(16, file.path)) == 1
    assert file.counts() == (opens + 16, reads)


def test_a_file_that_is_evicted_while_it_is_open(file: File, tmp_path: Path) -> None:
    """Its readers go on, and so does who opens it beside them; afterwards the daemon serves."""
    data = whole_data(tmp_path)
    with file.path.open("rb") as opened:
        assert opened.read(10) == PLAIN[:10]
        for one in (data, data.parent / "checksums"):
            one.unlink()
        data.parent.rmdir()
        _, before = file.counts()
        assert file.path.read_bytes() == opened.read(0) + PLAIN
        assert opened.read() == PLAIN[10:]
        assert file.counts()[1] == before
    assert not file.is_passed()
    assert file.path.read_bytes() == PLAIN


def test_the_daemon_is_killed(file: File) -> None:
    """After kill -9 a program reads and maps on what it has open; after mounting anew all is as before."""
    with file.path.open("rb") as opened:
        assert opened.read(10) == PLAIN[:10]
        os.kill(file.mount.status()["pid"], signal.SIGKILL)
        assert opened.read() == PLAIN[10:]
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[-10:] == PLAIN[-10:]
        file.mount.mount()
        assert file.path.read_bytes() == PLAIN
        assert os.pread(opened.fileno(), 10, 0) == PLAIN[:10]
    until(file.is_passed)


def test_a_dead_mount_holds_what_was_open(file: File, tmp_path: Path) -> None:
    """After kill -9 the kernel holds it until the program has closed it and the mount was taken away."""
    cache = folder_at(tmp_path / "cache")

    def read_by_kernel() -> list[int]:
        return [one.allocated_bytes for one in all_held(cache) if one.is_read_by_kernel]

    until(lambda: read_by_kernel() == [])  # what was open before this
    with file.path.open("rb"):
        until(lambda: read_by_kernel() != [])
        os.kill(file.mount.status()["pid"], signal.SIGKILL)
        until(lambda: all(one.is_read_by_kernel for one in all_held(cache)))
        detach(file.mount.path, lazy=True)
        until(lambda: [held_bytes >= len(PLAIN) for held_bytes in read_by_kernel()] == [True])
    until(lambda: read_by_kernel() == [])
    file.mount.mount()


def test_after_mounting_anew(file: File) -> None:
    """The first reader is the daemon's, at once; a later open is passed through, when all blocks were checked."""
    file.mount.umount()
    file.mount.mount()
    assert file.path.read_bytes() == PLAIN
    opens, reads = file.counts()
    assert (opens, reads > 0) == (0, True)
    until(file.is_passed)
    assert file.mount.range_requests() == 0
    assert file.mount.status()["metrics"]["checked_bytes"] == len(PLAIN)


@pytest.mark.parametrize("is_touched", [False, True], ids=["same", "touched"])
def test_a_cache_that_is_trusted(file: File, tmp_path: Path, is_touched: bool) -> None:
    """With --trust-cache a file that has the seal of its verdict is passed through unread; else it is read first."""
    file.mount.umount()
    file.mount.options.append("--trust-cache")
    if is_touched:
        os.utime(whole_data(tmp_path))
    file.mount.mount()
    assert file.is_passed() is not is_touched
    until(file.is_passed)
    metrics = file.mount.status()["metrics"]
    assert (metrics["checked_bytes"], metrics["read_requests"]) == (len(PLAIN) if is_touched else 0, 0)


def test_the_first_programs_after_mounting(file: File) -> None:
    """With --trust-cache they are the kernel's, however many open the file at once; its attribute says so before."""
    file.mount.umount()
    file.mount.options.append("--trust-cache")
    file.mount.mount()
    assert file.counts() == (0, 0)
    assert len(hashes_by(16, file.path)) == 1
    assert file.counts() == (16, 0)
    file.mount.umount()
    file.mount.mount()
    assert file.read_by() == "kernel"
    assert file.counts() == (0, 0)


@pytest.mark.parametrize("left", ["nothing", "a part", "another"])
def test_a_stored_seal_of_what_is_not_there_any_more(file: File, tmp_path: Path, left: str) -> None:
    """With --trust-cache, too, nothing is passed through but the file that was hashed."""
    file.mount.umount()
    file.mount.options.append("--trust-cache")
    data = whole_data(tmp_path)
    if left == "nothing":
        shutil.rmtree(data.parent)
    elif left == "a part":
        with (data.parent / "checksums").open("r+b") as records:
            records.seek(HEADER_BYTES)
            records.write(bytes(CHECKSUM_BYTES))
    else:
        (data.parent / "new").write_bytes(bytes(len(PLAIN)))
        (data.parent / "new").replace(data)
    file.mount.mount()
    assert file.read_by() != "kernel"
    assert file.path.read_bytes() == PLAIN
    assert file.counts()[0] == 0
    until(file.is_passed)
    assert file.path.read_bytes() == PLAIN


def test_an_old_handle(file: File) -> None:
    """While a program has it open from before the check, the daemon serves all who open it, and it is named."""
    file.mount.umount()
    file.mount.mount()
    with file.path.open("rb") as old:
        assert old.read(10) == PLAIN[:10]
        until(lambda: file.mount.status()["passthrough"]["old_handles"] != [])
        assert not file.is_passed()
        (one,) = file.mount.status()["passthrough"]["old_handles"]
        assert (file.mount.path / one["file"]).stat().st_ino == os.fstat(old.fileno()).st_ino
        assert one["pid"] == os.getpid()
        text = f"{one['program']} (pid {os.getpid()}) has it open from before it was checked"
        assert file.read_by() == f"daemon: {text}"
        assert text in run_vbnfs("status", file.mount.path).stdout
        assert old.read() == PLAIN[10:]
    until(file.is_passed)
    with file.path.open("rb"):
        report = file.mount.status()["passthrough"]
        assert (report["reason"], report["open_files"], len(report["files"])) == (None, 1, 1)
        assert file.read_by() == "kernel"
        assert "on; open now and read by the kernel itself: 1 file" in run_vbnfs("status", file.mount.path).stdout


def test_small_reads_before_the_check(file: File) -> None:
    """The page filler opens a file that is read in small parts, and keeps the kernel from it for a moment at most."""
    file.mount.umount()
    file.mount.mount()
    with file.path.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in [*range(BLOCK_BYTES, len(PLAIN), BLOCK_BYTES), *range(0, len(PLAIN), BLOCK_BYTES // 2)][::-1]:
            assert os.pread(opened.fileno(), 4096, offset + 4096) == PLAIN[offset + 4096 :][:4096]
        until(lambda: file.mount.status()["metrics"]["whole_blocks"] > 0)
    until(file.is_passed)
    _, before = file.counts()
    assert file.path.read_bytes() == PLAIN
    assert file.counts()[1] == before


def test_a_damaged_file_is_never_passed_through(file: File, tmp_path: Path) -> None:
    """A whole file of which a block was damaged while it was not mounted is mended from S3, and then checked anew."""
    file.mount.umount()
    data = whole_data(tmp_path)
    with data.open("r+b") as opened:
        opened.seek(2 * BLOCK_BYTES + 5)
        opened.write(b"\xff\xfe\xfd\xfc")
    file.mount.mount()
    with file.path.open("rb") as opened:
        assert opened.read(10) == PLAIN[:10]
    until(lambda: file.mount.status()["metrics"]["corrupt_blocks"] > 0)
    assert not file.is_passed()
    assert file.path.read_bytes() == PLAIN
    until(file.is_passed)
    assert file.path.read_bytes() == PLAIN


def test_a_file_that_changes_under_the_mount(file: File, tmp_path: Path) -> None:
    """The seal is compared at each open: a file that was written to since it was checked is not passed through."""
    data = whole_data(tmp_path)
    good = data.read_bytes()
    data.write_bytes(good)  # the same bytes, at another time
    assert not file.is_passed()
    until(file.is_passed)


@pytest.mark.parametrize(
    "options", [("--passthrough", "no"), ("--verify", "always"), ("--fuse", "pyfuse3")], ids=" ".join
)
def test_without_it(mounts: Mounts, server: FakeS3Server, options: tuple[str, ...]) -> None:
    """The daemon serves every read, and the status says why."""
    file = File(mounts(server.endpoint_url, *options))
    assert file.path.read_bytes() == PLAIN
    until(lambda: os.getxattr(file.path, "user.vbnfs.verified").startswith(b"blake2b"))
    assert file.path.read_bytes() == PLAIN
    assert file.counts()[0] == 0
    reason = file.mount.status()["passthrough"]["reason"]
    assert options[1 if options[0] == "--fuse" else 0] in reason
    assert file.read_by() == f"daemon: {reason}"


@contextmanager
def mounted(kind: str, disk: Path, *options: str) -> Iterator[Path]:
    """A file system on a folder that is made."""
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", kind, *options, kind, disk], check=True)
    try:
        disk.chmod(0o700)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def overlay(disk: Path, *, lower: Path, above: Path) -> Iterator[Path]:
    """An overlay on the folder `lower`; what is written goes to a folder in `above`."""
    upper, work = above / f"{disk.name}-upper", above / f"{disk.name}-work"
    for one in (upper, work):
        one.mkdir(mode=0o700)
    with mounted("overlay", disk, "-o", f"lowerdir={lower},upperdir={upper},workdir={work}"):
        yield disk


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "ramfs", "overlay on ext4", "overlay on tmpfs"])
def test_file_systems_of_the_cache(mounts: Mounts, server: FakeS3Server, tmp_path: Path, kind: str) -> None:
    """A cache on a disk, in memory, or stacked on these as a container's own layer is: it is passed through."""
    with ExitStack() as opened:
        name = kind.rpartition(" ")[2]
        on_disk = name in DISKS
        has = loop_disk(tmp_path / "disk", *DISKS[name]) if on_disk else mounted(name, tmp_path / "ram")
        disk = opened.enter_context(has)
        if "overlay" in kind:
            disk = opened.enter_context(overlay(tmp_path / "overlay", lower=tmp_path, above=disk))
        file = File(mounts(server.endpoint_url, "--cache-dir", disk / "vbnfs"))
        assert file.path.read_bytes() == PLAIN
        until(file.is_passed)
        _, before = file.counts()
        assert file.path.read_bytes() == PLAIN
        with file.path.open("rb") as shown, mmap.mmap(shown.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == PLAIN
        assert file.counts()[1] == before
        file.mount.umount()


def test_a_cache_that_is_stacked_twice(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The kernel takes no file of an overlay on an overlay: the daemon serves, and the status says why."""
    with (
        overlay(tmp_path / "one", lower=tmp_path, above=tmp_path) as one,
        overlay(tmp_path / "two", lower=one, above=tmp_path) as two,
    ):
        file = File(mounts(server.endpoint_url, "--cache-dir", two / "vbnfs"))
        assert file.path.read_bytes() == PLAIN
        until(lambda: os.getxattr(file.path, "user.vbnfs.verified").startswith(b"blake2b"))
        assert file.path.read_bytes() == PLAIN
        reason = "the cache is on a file system that is stacked on others: give another --cache-dir"
        until(lambda: not file.is_passed() and file.read_by() == f"daemon: {reason}")
        assert file.counts()[0] == 0
        assert reason in run_vbnfs("status", file.mount.path).stdout
        file.mount.umount()
