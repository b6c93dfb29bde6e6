"""Real mounts whose cache, disk or server is not to be trusted: nothing that they answer is wrong."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.cache_files import allocated_bytes, content_folders, leave_unfinished
from tests.fakes.certificates import make_certificate
from tests.fakes.dataset import FakeDataset
from tests.fakes.disks import memory_disk
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server, always, error, for_kind
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, drop_pages, run_vbnfs, until
from tests.scenarios.test_descriptors import no_more_files
from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES
from vbnfs.cache.content_folder import CHECKSUMS, DATA, HEADER_BYTES

NAME = "ecephys_sessions/ecephys_session_1044.nwb"
PATTERN = Pattern(6_000_001)
PLAIN = PATTERN[: len(PATTERN)]
TABLE = "project_metadata/units.csv"
VERIFIED = "user.vbnfs.verified"


@pytest.fixture
def dataset() -> FakeDataset:
    """A session and a table."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {TABLE: b"unit_id\n1\n", NAME: PATTERN})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of the dataset."""
    with FakeS3Server(dataset.store) as server:
        yield server


def verified(path: Path) -> str:
    return os.getxattr(path, VERIFIED).decode()


def errno_of(path: Path) -> int | None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        path.read_bytes()
    return caught.value.errno


def folder_of_session(tmp_path: Path) -> Path:
    """Where the session's blocks are. Raises `FileNotFoundError` while the folder moves to the whole ones."""
    found = [one for one in content_folders(tmp_path / "cache") if (one / DATA).stat().st_size == len(PATTERN)]
    if len(found) != 1:
        raise FileNotFoundError(found)
    return found[0]


# Whole files


def test_a_complete_file_is_verified_once(mounts: Mounts, server: FakeS3Server) -> None:
    """The attribute tells the hash and the time; the next mount knows of it and does not hash again."""
    mount = mounts(server.endpoint_url)
    assert verified(mount.path / NAME) == "no: not complete"
    assert (mount.path / NAME).read_bytes() == PLAIN
    until(lambda: verified(mount.path / NAME).startswith("blake2b:"))
    verdict = verified(mount.path / NAME)
    assert verdict.startswith(f"blake2b:{hashlib.blake2b(PLAIN).hexdigest()[:16]} 20")
    assert mount.status()["metrics"]["verified_files"] == 1
    mount.umount()
    mount.mount()
    assert verified(mount.path / NAME) == verdict
    assert mount.status()["metrics"]["verified_files"] == 0


def test_bytes_damaged_on_their_way_are_found_out_and_fetched_anew(mounts: Mounts, server: FakeS3Server) -> None:
    """A wrong byte in a sound reply: when the file is complete it is refused, and good after it was fetched again."""
    server.behaviours.append(Damaged(NAME, at=1_000_000, times=1))
    mount = mounts(server.endpoint_url)
    (mount.path / NAME).read_bytes()
    until(lambda: verified(mount.path / NAME).startswith("blake2b:"))
    assert (mount.path / NAME).read_bytes() == PLAIN
    metrics = mount.status()["metrics"]
    assert (metrics["mismatched_files"], metrics["verified_files"]) == (1, 1)


def test_what_s3_itself_has_wrong_is_refused_and_not_fetched_again(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path
) -> None:
    """Two complete fetches, then EIO without a request, also after mounting again; `verify --fetch` mends it."""
    damage = Damaged(NAME, at=1_000_000, times=1_000)
    server.behaviours.append(damage)
    mount = mounts(server.endpoint_url)
    (mount.path / NAME).read_bytes()
    until(lambda: mount.status()["metrics"]["mismatched_files"] == 2)
    asked = mount.range_requests()
    assert errno_of(mount.path / NAME) == errno.EIO
    assert "S3 has other bytes" in verified(mount.path / NAME)
    assert "S3 has other bytes" in str(mount.status()["last_error"])
    mount.umount()
    mount.mount()
    assert errno_of(mount.path / NAME) == errno.EIO
    assert mount.range_requests() == 0
    assert asked <= 2 * 23  # blocks, each twice at the most
    done = run_vbnfs("verify", "--fetch", mount.path / NAME)
    assert done.returncode == 1
    assert "mismatch" in done.stdout
    damage.times = 0
    done = run_vbnfs("verify", "--fetch", mount.path / NAME)
    assert done.returncode == 0, done.stderr
    until(lambda: verified(mount.path / NAME).startswith("blake2b:"))
    assert (mount.path / NAME).read_bytes() == PLAIN


def test_verify_on_the_command_line(mounts: Mounts, server: FakeS3Server) -> None:
    """Files, folders and versions, with a mount and without; what is missing is fetched only when asked for."""
    mount = mounts(server.endpoint_url)
    done = run_vbnfs("verify", "--json", mount.path / NAME)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["outcome"] == "not complete"
    (mount.path / TABLE).read_bytes()
    until(lambda: verified(mount.path / TABLE).startswith("blake2b:"))
    done = run_vbnfs("verify", mount.path / "project_metadata")
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout
    done = run_vbnfs("verify", mount.path / "nothing")
    assert (done.returncode, f"{mount.path / 'nothing'}: no such file" in done.stderr) == (1, True)
    mount.umount()
    everything = run_vbnfs("verify", "--endpoint-url", server.endpoint_url)
    assert everything.returncode == 0, everything.stderr
    assert "1 of 1 files good" in everything.stderr
    done = run_vbnfs("verify", "--fetch", "0.1.0", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 files good" in done.stderr


def test_verify_trusts_whom_the_mount_trusts(mounts: Mounts, dataset: FakeDataset, tmp_path: Path) -> None:
    """What a mount with certificates of its own lacks is fetched with the same certificates."""
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with FakeS3Server(dataset.store, tls=certificate.server_context()) as server:
        mount = mounts(server.endpoint_url, "--ca-bundle", certificate.path)
        done = run_vbnfs("verify", "--fetch", mount.path / NAME)
        assert (done.returncode, done.stdout) == (0, f"good         {NAME}\n"), done.stderr
        mount.umount()


# Damage under a live mount


def test_verify_always_serves_no_damage_under_a_live_mount(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path
) -> None:
    """Flips in blocks and records, zeros, swaps, noise, cut and lost files, between reads: no byte is wrong."""
    mount = mounts(server.endpoint_url, "--verify", "always", "--memory-limit", "16M")
    (mount.path / NAME).read_bytes()
    until(lambda: verified(mount.path / NAME).startswith("blake2b:"))
    order = random.Random(4)
    kinds = [*range(8)] * 8 + [8, 0]  # a lost file is missed last: until then the mount has it open
    for kind in kinds:
        (mount.path / NAME).read_bytes()
        os.getxattr(mount.path / NAME, "user.vbnfs.cached")  # when what was fetched is written
        until(lambda kind=kind: _is_damaged(tmp_path, kind, order))
        drop_pages(mount.path / NAME)
        assert (mount.path / NAME).read_bytes() == PLAIN, kind
    assert mount.status()["metrics"]["corrupt_blocks"] > 10


def _is_damaged(tmp_path: Path, kind: int, order: random.Random) -> bool:
    """Damage the session's files; False if its folder moves to the whole ones meanwhile."""
    try:
        _damage(folder_of_session(tmp_path), kind, order)
    except FileNotFoundError:
        return False
    return True


def _damage(folder: Path, kind: int, order: random.Random) -> None:
    path = folder / (CHECKSUMS if kind in {1, 6, 8} else DATA)
    data = path.read_bytes()
    if kind == 8:  # the other one stays
        path.unlink()
        return
    with open(path, "r+b") as file:
        if kind in {5, 6}:
            file.truncate(order.randrange(len(data)))
            return
        at = order.randrange(len(data) - 2 * BLOCK_BYTES) if kind != 1 else HEADER_BYTES + order.randrange(160)
        block = at // BLOCK_BYTES * BLOCK_BYTES
        change = {
            0: bytes([data[at] ^ 1 << order.randrange(8)]),
            1: bytes([data[at] ^ 1 << order.randrange(8)]),
            2: bytes(5000),
            3: data[block + BLOCK_BYTES :][:BLOCK_BYTES],
            4: order.randbytes(5000),
            7: data[block + BLOCK_BYTES :][:BLOCK_BYTES],
        }[kind]
        file.seek(block if kind in {3, 7} else at)
        file.write(change)
    if kind == 7:  # with its record
        records = folder / CHECKSUMS
        first = HEADER_BYTES + block // BLOCK_BYTES * CHECKSUM_BYTES
        table = bytearray(records.read_bytes())
        table[first : first + CHECKSUM_BYTES] = table[first + CHECKSUM_BYTES :][:CHECKSUM_BYTES]
        records.write_bytes(table)


# Crashes


def test_killed_while_it_writes(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """SIGKILL at random points of a load: mounted anew over the dead mount, no wrong byte, all blocks are used."""
    mount = mounts(server.endpoint_url)
    order = random.Random(5)
    for _ in range(5):
        with open(mount.path / NAME, "rb") as file:
            for _ in range(order.randrange(1, 8)):
                at = order.randrange(len(PLAIN))
                file.seek(at)
                assert file.read(100_000) == PLAIN[at : at + 100_000]
        os.kill(mount.status()["pid"], signal.SIGKILL)
        unfinished = leave_unfinished(folder_of_session(tmp_path).parent)
        left = tmp_path / "cache" / "datasets-v1" / ".left.new"  # of a small file
        left.touch()
        mount.mount()
        assert not left.exists()
        until(lambda unfinished=unfinished: not any(folder.exists() for folder in unfinished))
    (mount.path / NAME).read_bytes()
    os.getxattr(mount.path / NAME, "user.vbnfs.cached")  # when all of it is written
    os.kill(mount.status()["pid"], signal.SIGKILL)
    mount.mount()
    assert (mount.path / NAME).read_bytes() == PLAIN
    assert mount.range_requests() == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_while_it_evicts(
    mounts: Mounts, dataset: FakeDataset, server: FakeS3Server, tmp_path: Path, seed: int
) -> None:
    """SIGKILL as soon as a content of the cache is deleted, under a reader: no wrong byte, then and afterwards."""
    files = {f"ecephys_sessions/ecephys_session_{n}.nwb": Pattern(3_000_001, seed=n) for n in range(1, 4)}
    plain = {name: data[: len(data)] for name, data in files.items()}
    dataset.publish("0.2.0", files)
    mount = mounts(server.endpoint_url, "--cache-size", "4M")
    order = random.Random(seed)

    def read_until_killed() -> int:
        for count in range(1000):
            name = order.choice(list(plain))
            try:
                data = (mount.path / name).read_bytes()
                drop_pages(mount.path / name)
            except OSError:
                return count
            assert data == plain[name]
        raise AssertionError("it was never killed")

    for _ in range(4):
        pid, seen = mount.status()["pid"], set[Path]()

        def has_deleted(seen: set[Path] = seen) -> bool:
            now = set(content_folders(tmp_path / "cache"))
            seen |= now
            return seen != now

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_until_killed)
            try:
                until(has_deleted)
            finally:
                os.kill(pid, signal.SIGKILL)
            reading.result()
        mount.mount()
    for name, data in plain.items():
        assert (mount.path / name).read_bytes() == data


# Resources


def warnings_of(tmp_path: Path) -> list[str]:
    """What the log warns of that has to do with the cache."""
    lines = [json.loads(line) for line in (tmp_path / "vbnfs.log").read_text().splitlines()]
    events = [line["event"] for line in lines if line["level"] == "warning"]
    return [event for event in events if "kept" in event or "cache cannot be read" in event]


def wait_until_all_is_kept(mount: Mount) -> None:
    """Read until every block is in the cache."""

    def is_kept() -> bool:
        drop_pages(mount.path / NAME)
        assert (mount.path / NAME).read_bytes() == PLAIN
        return cached_bytes(mount) == len(PLAIN)

    until(is_kept)


def cached_bytes(mount: Mount) -> int:
    """How much of the session is in the cache."""
    return int(os.getxattr(mount.path / NAME, "user.vbnfs.cached"))


def use_up_inodes(directory: Path) -> None:
    for number in range(100):
        try:
            (directory / str(number)).touch()
        except OSError:
            return
    raise AssertionError("there is no end of inodes")


@pytest.mark.root
@pytest.mark.parametrize("options", ["size=1m", "nr_inodes=15"])
def test_a_full_disk(mounts: Mounts, server: FakeS3Server, tmp_path: Path, options: str) -> None:
    """No room, or no inode: reads go on uncached with one warning, and caching resumes when there is room."""
    with memory_disk(tmp_path / "cache", options):
        mount = mounts(server.endpoint_url, "--memory-limit", "16M")  # less than the file is remembered
        taken = tmp_path / "cache" / "taken"
        if options.startswith("nr"):
            taken.mkdir()
            use_up_inodes(taken)
        for _ in range(3):
            assert (mount.path / NAME).read_bytes() == PLAIN
            drop_pages(mount.path / NAME)
        assert mount.status()["metrics"]["cache_write_errors"] > 0
        assert len(warnings_of(tmp_path)) == 1
        assert cached_bytes(mount) < 1 << 20
        subprocess.run(["mount", "-o", "remount,size=100m,nr_inodes=1000", tmp_path / "cache"], check=True)
        wait_until_all_is_kept(mount)
        assert len(warnings_of(tmp_path)) == 1
        mount.umount()


@pytest.mark.root
def test_what_came_while_the_disk_was_full(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A small file is kept as soon as there is room, without being read or fetched again, and outlives the mount."""
    with memory_disk(tmp_path / "cache", "size=1m"):
        mount = mounts(server.endpoint_url)
        taken = tmp_path / "cache" / "taken"
        with suppress(OSError), taken.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
        assert os.getxattr(mount.path / TABLE, "user.vbnfs.cached") == b"0"
        assert len(warnings_of(tmp_path)) == 1
        asked = mount.range_requests()
        taken.unlink()
        until(lambda: os.getxattr(mount.path / TABLE, "user.vbnfs.cached") == b"10")
        until(lambda: verified(mount.path / TABLE).startswith("blake2b:"))
        assert mount.range_requests() == asked
        mount.umount()
        mount.mount()
        assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
        assert mount.range_requests() == 0
        mount.umount()


@pytest.mark.root
def test_a_read_only_cache(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """What is cached is served, the rest is fetched each time with one warning; written to again, the cache fills."""
    with memory_disk(tmp_path / "cache", "size=100m"):
        mount = mounts(server.endpoint_url, "--memory-limit", "16M")  # less than the file is remembered
        assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
        until(lambda: verified(mount.path / TABLE).startswith("blake2b:"))
        mount.umount()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "cache"], check=True)
        mount.mount()
        assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
        assert mount.range_requests() == 0
        for _ in range(2):
            server.forget_requests()
            assert (mount.path / NAME).read_bytes() == PLAIN
            drop_pages(mount.path / NAME)
            assert server.count("get_range") > 0
        assert cached_bytes(mount) == 0
        assert mount.status()["metrics"]["cache_write_errors"] > 0
        subprocess.run(["mount", "-o", "remount,rw", tmp_path / "cache"], check=True)
        wait_until_all_is_kept(mount)
        assert len(warnings_of(tmp_path)) == 1
        mount.umount()


def test_a_quota_smaller_than_one_read(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """With a limit of 1 MiB a read of 6 MB is right, each time, and the cache stays within 5 % of its limit."""
    mount = mounts(server.endpoint_url, "--cache-size", "1M", "--memory-limit", "16M")
    for _ in range(3):
        assert (mount.path / NAME).read_bytes() == PLAIN
        drop_pages(mount.path / NAME)
        os.getxattr(mount.path / NAME, "user.vbnfs.cached")  # when what was fetched is written
        assert allocated_bytes(tmp_path / "cache") <= 1.05 * (1 << 20)
    metrics = mount.status()["metrics"]
    assert metrics["evicted_contents"] > 0
    assert metrics["cache_write_errors"] == 0


def test_no_descriptor_left(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """When no file can be opened any more, reads go on with one warning; with descriptors again, blocks are kept."""
    mount = mounts(server.endpoint_url, "--memory-limit", "16M")  # less than the file is remembered
    pid = mount.status()["pid"]
    server.behaviours.append(for_kind("get_range", always(error(403, "AccessDenied"))))
    assert errno_of(mount.path / TABLE) == errno.EACCES  # leaves a connection, and no content that could be closed
    server.behaviours.clear()
    with no_more_files(pid), open(mount.path / NAME, "rb", buffering=0) as file:
        for at in range(0, len(PLAIN), 100_000):
            file.seek(at)
            assert file.read(100_000) == PLAIN[at : at + 100_000]
        assert content_folders(tmp_path / "cache") == []
    assert mount.status()["metrics"]["cache_write_errors"] > 0
    wait_until_all_is_kept(mount)
    assert len(warnings_of(tmp_path)) == 1
