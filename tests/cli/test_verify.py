"""`vbnfs verify`: what it says at its end is so on the disk, and what could not be verified is not called good."""

import json
import os
import re
import shlex
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.disks import memory_disk
from tests.fakes.s3_server import FakeS3Server, Reply, Request, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until, without_address
from vbnfs.cache.eviction import scan

MIB = 1 << 20
FILES = {f"ecephys_sessions/ecephys_session_{n}.nwb": Pattern(6 * MIB + n, seed=n) for n in range(1, 4)}
TABLE = "project_metadata/units.csv"
WITHOUT_HASH = "notes/unhashed.nwb"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with three sessions, a table, and a file of which the manifest has no hash."""
    dataset = FakeDataset()
    entries = {name: dataset.entry(name, data) for name, data in FILES.items()}
    entries[TABLE] = dataset.entry(TABLE, b"unit_id\n1\n")
    entries[WITHOUT_HASH] = {**dataset.entry(WITHOUT_HASH, b"what?"), "file_hash": ""}
    dataset.publish_entries("0.1.0", entries)
    with FakeS3Server(dataset.store) as server:
        yield server


def verify(server: FakeS3Server, *arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], Counter[str]]:
    """The command without a mount, and how often it said each outcome at its end."""
    done = run_vbnfs("verify", "--json", *arguments, "--endpoint-url", server.endpoint_url)
    return done, Counter(finding["outcome"] for finding in findings_of(done))


def findings_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def kept_bytes(tmp_path: Path) -> int:
    return sum(file.allocated_bytes for file in scan(tmp_path / "cache"))


@pytest.fixture
def small_cache(tmp_path: Path) -> Path:
    """A cache folder of its own, of which the size is 8 MiB."""
    (tmp_path / "cache").mkdir(mode=0o700)
    assert run_vbnfs("clean", "--cache-size", "8M").returncode == 0
    return tmp_path / "cache"


def test_the_names_of_a_version_s_files(server: FakeS3Server) -> None:
    """Files of a version that is named are named by paths that every command takes."""
    done, _ = verify(server, "--fetch", "0.1.0")
    path = next(finding["path"] for finding in findings_of(done) if TABLE in finding["path"])
    assert path == f"manifests/v0.1.0/{TABLE}"
    assert verify(server, path)[1] == {"good": 1}


def test_a_file_in_a_mount_waits_for_no_list(mounts: Mounts, server: FakeS3Server) -> None:
    """The mount knows its versions: a server that takes connections and answers nothing is not waited for."""
    mount, gate = mounts(server.endpoint_url), threading.Event()
    assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
    assert os.getxattr(mount.path / TABLE, "user.vbnfs.cached") == b"10"  # when it has been written
    server.behaviours[:] = [held(gate)]
    server.forget_requests()
    try:
        done = run_vbnfs("verify", "--fetch", mount.path / TABLE)
        assert (done.returncode, done.stderr) == (0, "1 of 1 files good, 10 B\n")
        assert server.count() == 0
    finally:
        gate.set()


# Room


@pytest.mark.usefixtures("small_cache")
def test_what_does_not_fit_into_the_cache_is_not_fetched(server: FakeS3Server, tmp_path: Path) -> None:
    """18 MiB for a cache of 8: refused with status 1, the figures and the remedy, before any byte travels."""
    for arguments in ([], ["--json"]):
        done = run_vbnfs("verify", "--fetch", "0.1.0", *arguments, "--endpoint-url", server.endpoint_url)
        assert (done.returncode, done.stdout, without_address(done.stderr).count("\n")) == (1, "", 1)
        for part in (
            "18.0 MiB",
            "8.0 MiB",
            f"vbnfs clean --cache-size 19M --cache-dir {tmp_path}/cache'",
            "fewer files",
        ):
            assert part in done.stderr
    assert server.count("get_range") == 0
    assert run_vbnfs("clean", "--cache-size", "19M").returncode == 0
    done, outcomes = verify(server, "--fetch", "ecephys_sessions")
    assert (done.returncode, outcomes) == (0, {"good": 3}), done.stderr
    assert kept_bytes(tmp_path) > 18 * MIB


def test_the_remedy_names_the_cache_of_the_mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The cache of a mount need not be that of the command line: the remedy names it, and works as it is written."""
    cache = tmp_path / "{a} cache"
    cache.mkdir(mode=0o700)
    assert run_vbnfs("clean", "--cache-size", "8M", "--cache-dir", cache).returncode == 0
    files = mounts(server.endpoint_url, "--cache-dir", cache).path / "ecephys_sessions"
    done = run_vbnfs("verify", "--fetch", files)
    [remedy] = re.findall(r"'(vbnfs clean .*)' lets it take more", done.stderr)
    assert run_vbnfs(*shlex.split(remedy)[1:]).returncode == 0
    assert run_vbnfs("verify", "--fetch", files).returncode == 0


def test_the_remedy_for_a_mount_that_was_given_a_size(mounts: Mounts, server: FakeS3Server) -> None:
    """The size that a mount was given is the mount's: it is to be mounted again with a larger one."""
    mount = mounts(server.endpoint_url, "--cache-size", "8M")
    done = run_vbnfs("verify", "--fetch", mount.path / "ecephys_sessions")
    assert (done.returncode, done.stdout) == (1, "")
    assert "mount it again with --cache-size 19M" in done.stderr
    assert server.count("get_range") == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A cache folder on a disk of 12 MiB."""
    with memory_disk(tmp_path / "cache", "size=12m") as cache:
        yield cache


@pytest.mark.root
def test_what_does_not_fit_on_the_disk_is_not_fetched(server: FakeS3Server, small_disk: Path) -> None:
    """18 MiB for a disk of 12: refused with status 1, the figures and the remedy, before any byte travels."""
    done, _ = verify(server, "--fetch", "0.1.0")
    assert (done.returncode, done.stdout) == (1, "")
    for part in ("18.0 MiB", str(small_disk), "free some", "--cache-dir", "fewer files"):
        assert part in done.stderr
    assert server.count("get_range") == 0
    done, outcomes = verify(server, "--fetch", next(iter(FILES)))
    assert (done.returncode, outcomes) == (0, {"good": 1}), done.stderr


# What is kept


@pytest.mark.root
def test_a_disk_that_fills_up_meanwhile(server: FakeS3Server, small_disk: Path) -> None:
    """Somebody else takes the room while it is fetched: good by its hash, but not kept, with the reason; status 1."""

    def take_room(request: Request, honest: Reply) -> Reply | None:
        if request.kind == "get_range" and not (small_disk / "taken").exists():
            with (small_disk / "taken").open("wb") as file:
                file.write(bytes(8 * MIB))
        return None

    server.behaviours.append(take_room)
    done = run_vbnfs("verify", "--fetch", next(iter(FILES)), "--endpoint-url", server.endpoint_url)
    assert done.returncode == 1
    assert done.stdout.startswith("not kept")
    assert "No space left on device" in done.stdout
    assert "0 of 1 files good" in done.stderr
    (small_disk / "taken").unlink()
    server.behaviours.clear()
    done, outcomes = verify(server, "--fetch", next(iter(FILES)))
    assert (done.returncode, outcomes) == (0, {"good": 1})


def test_what_is_deleted_meanwhile(server: FakeS3Server, tmp_path: Path) -> None:
    """Another process makes the cache small while files are fetched: nothing of them is evicted until all are here.

    It deletes one of them by its name, after that was hashed: what is gone at the end is not called good.
    """
    first, *_, last = FILES

    def shrink(request: Request, honest: Reply) -> Reply | None:
        if request.kind == "get_range" and last in request.path and server.behaviours:
            server.behaviours.clear()
            until(lambda: bool(list(tmp_path.glob("cache/verified-v1/*/good/*/*"))))
            run_vbnfs("clean", "--cache-size", "7M")
            run_vbnfs("clean", first, "--endpoint-url", server.endpoint_url)
        return None

    server.behaviours.append(shrink)
    done = run_vbnfs("verify", "--fetch", "ecephys_sessions", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 1, done.stdout
    assert f"not kept     {first}: " in done.stdout
    assert "2 of 3 files good, 12.0 MiB, 1 not kept" in done.stderr
    assert kept_bytes(tmp_path) > 12 * MIB
    _, outcomes = verify(server, "ecephys_sessions")
    assert outcomes == {"good": 2, "not complete": 1}
    assert run_vbnfs("clean").returncode == 0
    assert kept_bytes(tmp_path) < 7 * MIB


# What cannot be verified


@pytest.mark.parametrize(
    ("path", "outcome", "why"),
    [
        ("README.txt", "no file", "vbnfs wrote it"),
        ("manifests/v0.1.0/visual-behavior-neuropixels_project_manifest_v0.1.0.json", "no hash", "ETag"),
        (WITHOUT_HASH, "no hash", "the manifest has no hash of it"),
        ("notes", "no hash", "the manifest has no hash of it"),
    ],
)
def test_what_cannot_be_verified(server: FakeS3Server, path: str, outcome: str, why: str) -> None:
    """Asked for just that, the command says that nothing was verified, and why; its status is 1, fetching or not."""
    for option in ([], ["--fetch"]):
        done = run_vbnfs("verify", *option, path, TABLE, "--endpoint-url", server.endpoint_url)
        assert done.returncode == 1
        assert f"{outcome:<12} " in done.stdout
        assert why in done.stdout
        assert f"nothing in {path} can be verified" in done.stderr
    done, outcomes = verify(server, "--fetch", path, TABLE)
    assert (done.returncode, outcomes) == (1, {outcome: 1, "good": 1})


def test_a_file_without_hash_among_others(server: FakeS3Server) -> None:
    """In a version or folder of which the rest is good, it is named, and is no failure."""
    done, outcomes = verify(server, "--fetch", "0.1.0")
    assert (done.returncode, outcomes) == (0, {"good": 4, "no hash": 1})


def test_folders_of_links(server: FakeS3Server) -> None:
    """What AllenSDK's cache_dir shows is what it links to: verified, each file once, by a name that it has there."""
    done, outcomes = verify(server, "--fetch", "allensdk")
    assert (done.returncode, outcomes) == (0, {"good": 4, "no hash": 1}), done.stderr
    assert all(finding["path"].startswith("allensdk/") for finding in findings_of(done))
    done, outcomes = verify(server, ".")
    assert (done.returncode, outcomes) == (0, {"good": 4, "no hash": 1})
    assert not any(finding["path"].startswith("allensdk/") for finding in findings_of(done))


# Settings of a mount


def test_options_that_a_mount_decides(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """One that differs from the mount's is refused with status 2 and the remedy; none is ignored in silence."""
    mount = mounts(server.endpoint_url)
    other = tmp_path / "other.toml"
    other.write_text(f'cache_dir = "{tmp_path / "other"}"\nmax_connections = 4\n')
    for option, value in {
        "--cache-dir": tmp_path / "other",
        "--cache-size": "5G",
        "--bucket": "other-bucket",
        "--project": "other",
        "--region": "eu-west-1",
        "--endpoint-url": "http://127.0.0.1:1",
        "--ca-bundle": tmp_path / "other.pem",
        "--dataset-version": "0.9.0",
        "--config": other,
    }.items():
        done = run_vbnfs("verify", "--fetch", mount.path / TABLE, option, value, env={"VBNFS_CACHE_DIR": ""})
        assert (option, done.returncode, done.stdout) == (option, 2, ""), done.stderr
        assert ("--cache-dir" if option == "--config" else option) in done.stderr
        assert f"{mount.path} " in done.stderr
        assert "leave it out" in done.stderr
    assert server.count("get_range") == 0
    assert not (tmp_path / "other").exists()
    same = ["--cache-dir", tmp_path / "cache", "--endpoint-url", server.endpoint_url, "--max-connections", "3"]
    done = run_vbnfs("verify", "--fetch", mount.path / TABLE, *same)
    assert done.returncode == 0, done.stderr


def test_offline_is_heeded(mounts: Mounts, server: FakeS3Server) -> None:
    """With --offline, its own or the mount's, `verify` asks nobody."""
    mount = mounts(server.endpoint_url)
    (mount.path / TABLE).read_bytes()
    server.forget_requests()
    done = run_vbnfs(
        "verify", "--fetch", "--offline", mount.path / "project_metadata", mount.path / next(iter(FILES))
    )
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["good", "failed"]
    mount.umount()
    mount.options.append("--offline")
    mount.mount()
    assert run_vbnfs("verify", "--fetch", mount.path / "project_metadata").returncode == 0
    done = run_vbnfs("verify", "--fetch", mount.path / next(iter(FILES)))
    assert (done.returncode, "leave --offline out" in done.stdout) == (1, True)
    assert not server.requests


def test_a_path_that_is_not_there(mounts: Mounts, server: FakeS3Server) -> None:
    """The folder to look into that the message names is one that exists."""
    mount = mounts(server.endpoint_url)
    done = run_vbnfs("verify", mount.path / "ecephys_session" / "none" / "foo")
    assert (done.returncode, f"'ls {mount.path}' lists" in done.stderr) == (1, True)
