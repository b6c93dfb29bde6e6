"""`vbnfs import`: files that are on this machine already come into the cache, and only what is released does."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cache_files import content_folders, unfinished_folders
from tests.fakes.dataset import PROJECT, FakeDataset, serve
from tests.fakes.disks import memory_disk
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, checksum, digest
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT, HEADER_BYTES
from vbnfs.cache.digests import DigestSet, DigestStore

MIB = 1 << 20
NUMBERS = (101, 102, 103)
OLD = {
    f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb": random.Random(n).randbytes(3 * MIB + n) for n in NUMBERS
}
NEW = {**OLD, "behavior_ecephys_sessions/103/ecephys_session_103.nwb": random.Random(9).randbytes(3 * MIB + 103)}
TABLE = "project_metadata/units.csv"
TABLES = {"0.1.0": b"unit_id\n1\n", "0.2.0": b"unit_id\n2\n"}
FILES = {"0.1.0": {**OLD, TABLE: TABLES["0.1.0"]}, "0.2.0": {**NEW, TABLE: TABLES["0.2.0"]}}
CONTENTS = {data for files in FILES.values() for data in files.values()}  # three sessions, one anew, two tables


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two versions: a session and the table differ in bytes, and not in their lengths."""
    with serve(FILES) as server:
        yield server


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    """A cache_dir as AllenSDK has it: a folder for each version; what two have in common is a link in one of them."""
    top = tmp_path / "cache_dir"
    for version, files in FILES.items():
        for name, data in files.items():
            path = top / f"{PROJECT}-{version}" / name
            known = top / f"{PROJECT}-0.1.0" / name
            if version != "0.1.0" and FILES["0.1.0"][name] == data:
                path.parent.mkdir(parents=True)
                path.symlink_to(known)
            else:
                write(path, data)
        write(top / f"{PROJECT}_project_manifest_v{version}.json", b"{}")
    write(top / "_downloaded_data.json", b"{}")
    return top


def run(server: FakeS3Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_vbnfs("import", *arguments, "--endpoint-url", server.endpoint_url)


def outcomes(server: FakeS3Server, *arguments: str | Path) -> dict[str, int]:
    """How many files became what."""
    found: list[dict[str, Any]] = json.loads(run(server, *arguments, "--json").stdout)
    names = [one["outcome"] for one in found]
    return {name: names.count(name) for name in names}


def cached(tmp_path: Path) -> set[bytes]:
    """The bytes of all whole files of the cache."""
    return {path.read_bytes() for path in (tmp_path / "cache" / FORMAT).glob(f"*/whole/*/*/{DATA}")}


# What is taken


def test_a_cache_dir_of_allensdk(mounts: Mounts, server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """Every file of every version comes into the cache, verified, and is read without a GET; DIR stays as it is."""
    before = {path: path.stat() for path in sdk.rglob("*")}
    done = run(server, sdk)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "6 taken (12.0 MiB), 3 unknown" in done.stderr
    assert cached(tmp_path) == CONTENTS
    assert {path: path.stat().st_mtime_ns for path in before} == {p: s.st_mtime_ns for p, s in before.items()}
    assert {path.stat().st_nlink for path in before if path.is_file()} == {1}
    mount = mounts(server.endpoint_url)
    for version, files in FILES.items():
        for name, data in files.items():
            path = mount.path / "manifests" / f"v{version}" / name
            assert path.read_bytes() == data
            assert os.getxattr(path, "user.vbnfs.verified").startswith(b"blake2b:")
    assert mount.range_requests() == 0


def test_a_copy_by_sync(server: FakeS3Server, tmp_path: Path) -> None:
    """Keys as paths, below any folder: what is current in the bucket is there, of the newest version."""
    for name, data in FILES["0.2.0"].items():
        write(tmp_path / "sync" / "some" / "folder" / PROJECT / name, data)
    assert outcomes(server, tmp_path / "sync") == {"taken": 4}
    assert cached(tmp_path) == set(FILES["0.2.0"].values())


def test_a_file_of_any_name(server: FakeS3Server, tmp_path: Path) -> None:
    """A file that was given another name is recognised by its size, and may be named itself."""
    file = write(tmp_path / "downloads" / "session (1).nwb", NEW[next(iter(NEW))])
    assert outcomes(server, file) == {"taken": 1}


def test_another_cache(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The whole files of another vbnfs's cache are taken, and nothing else of it is looked at."""
    other = tmp_path / "other"
    mount = mounts(server.endpoint_url, "--cache-dir", other)
    assert run_vbnfs("verify", "--fetch", mount.path / "manifests").returncode == 0
    mount.umount()
    server.forget_requests()
    assert outcomes(server, other) == {"taken": 6}
    assert server.count("get_range") == 0
    assert cached(tmp_path) == CONTENTS


def read_a_part(mounts: Mounts, server: FakeS3Server, cache: Path) -> str:
    """Have a cache hold two blocks of a session, and the table; returns the session's name."""
    mount = mounts(server.endpoint_url, "--cache-dir", cache, name="other-mnt")
    name = next(iter(OLD))
    with (mount.path / "manifests/v0.1.0" / name).open("rb") as file:
        os.pread(file.fileno(), 2 * BLOCK_BYTES, 4 * BLOCK_BYTES)
    (mount.path / TABLE).read_bytes()
    until(lambda: int(os.getxattr(mount.path / "manifests/v0.1.0" / name, "user.vbnfs.cached")) >= 2 * BLOCK_BYTES)
    until(lambda: any((cache / FORMAT).glob(f"*/whole/*/*/{DATA}")))  # the table
    mount.umount()
    server.forget_requests()
    return name


def test_blocks_of_another_cache(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """What another cache has of a file that is not whole is taken, but for damaged blocks, and stays there."""
    other = tmp_path / "other"
    name = read_a_part(mounts, server, other)
    [data] = (other / FORMAT).glob(f"*/partial/*/*/{DATA}")
    with data.open("r+b") as file:
        file.seek(4 * BLOCK_BYTES)
        file.write(b"damaged")
    assert outcomes(server, other, "--dry-run") == {"would take": 2}
    before = data.with_name(CHECKSUMS).read_bytes()
    assert outcomes(server, other) == {"taken": 2}
    assert data.with_name(CHECKSUMS).read_bytes() == before
    assert server.count("get_range") == 0
    mount = mounts(server.endpoint_url)
    with (mount.path / "manifests/v0.1.0" / name).open("rb") as session:
        assert os.pread(session.fileno(), 9, 5 * BLOCK_BYTES) == OLD[name][5 * BLOCK_BYTES :][:9]
        assert mount.range_requests() == 0
        assert os.pread(session.fileno(), 9, 4 * BLOCK_BYTES) == OLD[name][4 * BLOCK_BYTES :][:9]
        assert mount.range_requests() > 0


@pytest.mark.parametrize("are_proven", [True, False], ids=["proven", "imported"])
def test_blocks_with_digests(mounts: Mounts, server: FakeS3Server, tmp_path: Path, are_proven: bool) -> None:
    """Where a file's digests are known, a wrong block with a right checksum is not taken; the others are."""
    other = tmp_path / "other"
    name = read_a_part(mounts, server, other)
    [data] = (other / FORMAT).glob(f"*/partial/*/*/{DATA}")
    wrong = bytes(BLOCK_BYTES)
    with data.open("r+b") as file, data.with_name(CHECKSUMS).open("r+b") as checksums:
        file.seek(4 * BLOCK_BYTES)
        file.write(wrong)
        checksums.seek(HEADER_BYTES + 4 * CHECKSUM_BYTES)
        checksums.write(checksum(data.parent.name, 4, wrong))
    blocks = [OLD[name][start : start + BLOCK_BYTES] for start in range(0, len(OLD[name]), BLOCK_BYTES)]
    known = DigestSet(hashlib.blake2b(OLD[name]).hexdigest(), len(OLD[name]), b"".join(map(digest, blocks)))
    prepare_cache_directory(tmp_path / "cache")
    store = DigestStore(tmp_path / "cache")
    (store.keep_proven if are_proven else store.take_in)(known)
    assert outcomes(server, other) == {"taken": 2}
    mount = mounts(server.endpoint_url)
    with (mount.path / "manifests/v0.1.0" / name).open("rb") as session:
        assert os.pread(session.fileno(), 9, 5 * BLOCK_BYTES) == blocks[5][:9]
        assert mount.range_requests() == 0
        assert os.pread(session.fileno(), 9, 4 * BLOCK_BYTES) == blocks[4][:9]
        assert mount.range_requests() > 0


@pytest.mark.root
def test_a_cache_of_another_user(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Whole files are proven by their hash; blocks of others are left out, unless their owner is believed."""
    other = tmp_path / "other"
    read_a_part(mounts, server, other)
    for path in (other, *other.rglob("*")):
        os.chown(path, 1, 1)
    done = run(server, other)
    assert done.returncode == 0, done.stderr
    assert f"left out   {other}: its incomplete files, which no hash can prove: cache directory" in done.stdout
    assert "name its owner by --trusted-users" in done.stdout
    assert "1 taken" in done.stderr
    assert outcomes(server, other, "--trusted-users", "daemon") == {"taken": 1, "there": 1}


def test_what_is_there_is_not_read(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """From stored manifests, without network; a second time everything is there, whatever DIR has by then."""
    assert run_vbnfs("versions", "--endpoint-url", server.endpoint_url).returncode == 0
    server.forget_requests()
    assert outcomes(server, sdk, "--offline") == {"taken": 6, "unknown": 3}
    for path in sdk.rglob("*.nwb"):
        if not path.is_symlink():
            path.write_bytes(bytes(path.stat().st_size))
    assert outcomes(server, sdk, "--offline") == {"there": 6, "unknown": 3}
    assert server.count() == 0
    assert cached(tmp_path) == CONTENTS


def test_a_dry_run(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """It says what would be taken, what is there, and what is unknown, and takes nothing."""
    done = run(server, sdk, "--dry-run")
    assert (done.returncode, done.stdout.count("would take")) == (0, 6)
    assert "6 would take (12.0 MiB)" in done.stderr
    assert content_folders(tmp_path / "cache") == []
    assert run(server, sdk / f"{PROJECT}-0.1.0").returncode == 0
    # Of what has the name and the length of two files only the hash shows which one it is.
    assert outcomes(server, sdk, "--dry-run") == {"there": 2, "unknown": 3, "would take": 4}
    assert outcomes(server, sdk) == {"there": 4, "unknown": 3, "taken": 2}


@pytest.mark.parametrize(("size", "no_room"), [("13M", 0), ("8M", 2), ("1M", 4)])
def test_a_dry_run_checks_the_room(server: FakeS3Server, sdk: Path, tmp_path: Path, size: str, no_room: int) -> None:
    """It names what has no room beside what comes before it. The import takes nothing then: both have status 1."""
    tried = run(server, sdk, "--dry-run", "--cache-size", size)
    assert tried.stdout.count("no room    ") == no_room
    assert tried.stdout.count("would take ") == 6 - no_room
    assert (f"{no_room} no room (" in tried.stderr) == bool(no_room)
    done = run(server, sdk, "--cache-size", size)
    assert tried.returncode == done.returncode == int(no_room > 0)
    for one in (tried, done):
        assert ("12.0 MiB of files are to be taken, but the cache in" in one.stderr) == bool(no_room)
    assert cached(tmp_path) == (set() if no_room else CONTENTS)


# What is not


def test_wrong_bytes(mounts: Mounts, server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """A file with a name of the dataset and other bytes, or of another length, is named with the remedy: status 1."""
    damaged, short = (sdk / f"{PROJECT}-0.1.0" / f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb"
                      for n in (101, 102))  # fmt: skip
    damaged.write_bytes(bytes(1) + damaged.read_bytes()[1:])
    os.truncate(short, MIB)
    done = run(server, sdk)
    assert done.returncode == 1
    assert f"wrong      {damaged}: its bytes are not the released ones: it was cut short or changed" in done.stdout
    assert f"wrong      {short}: 1,048,576 bytes, the released file has 3,145,830: it was cut" in done.stdout
    assert "2 of 9 files are not in the cache" in done.stderr
    assert len(cached(tmp_path)) == 4
    assert cached(tmp_path) < CONTENTS
    assert unfinished_folders(tmp_path / "cache") == []
    assert (mounts(server.endpoint_url).path / "manifests/v0.1.0" / next(iter(OLD))).read_bytes() == OLD[
        next(iter(OLD))
    ]


def test_a_session_in_any_folder(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """Its name has the session's id: so a download that broke off is named, wherever it lies. A table's has none."""
    (tmp_path / "downloads").mkdir()
    session, table = (tmp_path / "downloads" / name for name in ("ecephys_session_102.nwb", "units.csv"))
    session.write_bytes((sdk / f"{PROJECT}-0.1.0/behavior_ecephys_sessions/102" / session.name).read_bytes()[:-1])
    table.write_bytes(b"of another analysis")
    done = run(server, tmp_path / "downloads")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert f"wrong      {session}: 3,145,829 bytes, the released file has 3,145,830" in done.stdout
    assert "2 files: 1 unknown, 1 wrong" in done.stderr


def test_interrupted(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a file: status 130, and nothing of that file is left."""
    with hooked(INTERRUPTING, tmp_path, server, sdk) as process:
        assert process.communicate()[0].strip() == b"vbnfs: interrupted"
    assert process.returncode == 130
    assert len(cached(tmp_path)) == 2
    assert unfinished_folders(tmp_path / "cache") == []


INTERRUPTING = """
import os, signal, time
def hook(begun):
    if begun == 3:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
"""
CHANGING = """
import os, sys
def hook(begun):
    descriptor = os.open(sys.argv[2], os.O_WRONLY)
    os.pwrite(descriptor, b"changed", 8 << 20)
"""


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """What is copied is what is hashed: the file is not taken, and the line says why."""
    dataset, name, data = FakeDataset(), "notes/101/large.nwb", random.Random(4).randbytes(9 * MIB)
    dataset.publish("0.1.0", {name: data})
    file = write(tmp_path / "sync" / name, data)
    with FakeS3Server(dataset.store) as server:
        done = hooked(CHANGING, tmp_path, server, file).communicate()[0].decode()
        assert f"wrong      {file}: it changed while it was read: import it again" in done
        assert (cached(tmp_path), unfinished_folders(tmp_path / "cache")) == (set(), [])
        file.write_bytes(data)
        assert outcomes(server, file) == {"taken": 1}


def test_no_hash_no_import(tmp_path: Path) -> None:
    """A file of which the manifest has no hash cannot be proven: it is named, and not taken."""
    dataset, name = FakeDataset(), "notes/101/unhashed.nwb"
    dataset.publish_entries("0.1.0", {name: {**dataset.entry(name, b"what?"), "file_hash": ""}})
    write(tmp_path / "sync" / name, b"what?")
    with FakeS3Server(dataset.store) as server:
        done = run(server, tmp_path / "sync")
    assert (done.returncode, "no hash    " in done.stdout, cached(tmp_path)) == (0, True, set())


def test_what_is_of_another_dataset(server: FakeS3Server, tmp_path: Path) -> None:
    """Where nothing is recognised, the command says so with status 1; with -v it names the files."""
    file = write(tmp_path / "photos" / "a.jpg", b"a photo")
    os.mkfifo(tmp_path / "photos" / "pipe")
    (tmp_path / "photos" / "nowhere").symlink_to("none")
    (tmp_path / "photos" / "circle").symlink_to("circle")
    (tmp_path / "photos" / "above").symlink_to("..")
    done = run(server, tmp_path / "photos" / "a.jpg", "-v")
    assert (done.returncode, done.stdout) == (1, f"unknown    {file}\n")
    assert "no file of this dataset is there (1 file looked at): if they are of another dataset, name" in done.stderr
    assert outcomes(server, tmp_path / "photos") == {"unknown": 1}
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: no file is there; name a folder" in run(server, tmp_path / "empty").stderr
    (tmp_path / "photos").chmod(0)
    if os.geteuid() != 0:
        assert outcomes(server, tmp_path / "photos") == {"unreadable": 1}


def test_folders_in_folders(server: FakeS3Server, tmp_path: Path) -> None:
    """What lies more than a hundred folders deep is left, and named: a disk may come from anybody."""
    top = tmp_path / "deep"
    here = top.joinpath(*"a" * 100)
    here.joinpath(*"b" * 20).mkdir(parents=True)
    for path in (top / "x", here / "y", here / "b" / "z"):
        path.touch()
    done = run(server, top, "-v")
    assert (done.returncode, done.stdout.count("unknown ")) == (1, 2), done.stderr
    assert f"unreadable {here}: its folders are nested too deeply; name it itself" in done.stdout


def test_folders_that_nothing_is_taken_from(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A mount, the cache itself, a folder that is not there: status 1 and the remedy; below DIR they are left out."""
    mount = mounts(server.endpoint_url)
    for folder, words in {
        mount.path / TABLE: "vbnfs verify --fetch",
        tmp_path / "cache" / FORMAT: "the cache itself",
        tmp_path / "none": "no such folder",
    }.items():
        done = run(server, folder)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    write(tmp_path / "units.csv", TABLES["0.1.0"])
    assert outcomes(server, tmp_path)["taken"] == 1
    assert mount.range_requests() == 0


# Room, interruptions, others


def test_what_has_no_room_is_not_taken(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """A cache that may take less than all of it: status 1, the figures and the remedy, and nothing is taken."""
    done = run(server, sdk, "--cache-size", "8M")
    assert (done.returncode, done.stdout) == (1, "")
    assert "12.0 MiB of files are to be taken" in done.stderr
    assert "--cache-size 13M lets it take more" in done.stderr
    assert "or read them where they lie (--in-place); nothing was copied" in done.stderr
    assert cached(tmp_path) == set()


@pytest.mark.root
def test_a_disk_without_room(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """A disk that has less free is found out before anything is copied; if it fills up, what was taken stays."""
    with memory_disk(tmp_path / "cache", "size=10m") as cache:
        tried = run(server, sdk, "--dry-run")
        assert (tried.returncode, "10.0 MiB free" in tried.stderr) == (1, True), tried.stderr
        assert tried.stdout.count("no room    ") == 1
        done = run(server, sdk)
        assert (done.returncode, "10.0 MiB free" in done.stderr, cached(tmp_path)) == (1, True, set()), done.stderr
        (sdk / f"{PROJECT}-0.1.0" / next(iter(OLD))).unlink()
        done = hooked(FILLING, tmp_path, server, sdk).communicate()[0]
        assert b"takes no more: No space left on device; " in done
        assert b"free some on that disk, and run it again" in done
        assert (len(cached(tmp_path)), unfinished_folders(cache)) == (1, [])
        (cache / "other").unlink()
        assert outcomes(server, sdk) == {"taken": 4, "there": 1, "unknown": 3}


def hooked(hook: str, tmp_path: Path, server: FakeS3Server, folder: Path) -> subprocess.Popen[bytes]:
    """An import in which `hook` is called with how many files it has begun to write."""
    assert run_vbnfs("versions", "--endpoint-url", server.endpoint_url).returncode == 0
    program = tmp_path / "hooked.py"
    program.write_text(f"{hook}\n{HOOKED}")
    command = [sys.executable, program, "import", folder, "--endpoint-url", server.endpoint_url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


HOOKED = """
from vbnfs.cache import adoption
write, begun = adoption.write_all, []
def hooked(descriptor, parts, offset):
    write(descriptor, parts, offset)
    begun.extend([descriptor] if offset == 0 and any(parts[0]) else [])  # data, which begin so; not a header
    hook(len(begun))
adoption.write_all = hooked
from vbnfs.cli.main import main
main()
"""
PAUSING = """
import time
def hook(begun):
    if begun == 3:
        print("in the middle", flush=True)
        time.sleep(600)
"""
FILLING = """
import os, pathlib
def hook(begun):
    other = pathlib.Path(os.environ["VBNFS_CACHE_DIR"], "other")
    if begun == 2 and not other.exists():
        other.write_bytes(bytes(5 << 20))
"""


def test_killed_in_the_middle(server: FakeS3Server, sdk: Path, tmp_path: Path) -> None:
    """A process that is killed leaves whole files and one that is not; the next import takes only what is missing."""
    with hooked(PAUSING, tmp_path, server, sdk) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in the middle\n"
        [unfinished] = unfinished_folders(tmp_path / "cache")
        assert (unfinished / DATA).stat().st_size > 0
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_ino for path in content_folders(tmp_path / "cache")}
    assert len(before) == 2
    assert outcomes(server, sdk) == {"taken": 4, "there": 2, "unknown": 3}
    assert cached(tmp_path) == CONTENTS
    assert unfinished_folders(tmp_path / "cache") == []
    assert before.items() <= {path: path.stat().st_ino for path in content_folders(tmp_path / "cache")}.items()
