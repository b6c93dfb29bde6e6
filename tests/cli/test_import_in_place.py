"""`vbnfs import --in-place`: files are read where they lie, and only as long as they are what was released."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, drop_pages, run_vbnfs, until, without_address
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.content_folder import DATA, FORMAT

SESSION = "ecephys_sessions/ecephys_session_1.nwb"
TABLE = "project_metadata/units.csv"
FILES = {SESSION: random.Random(1).randbytes(9 * BLOCK_BYTES + 5), TABLE: b"unit_id\n1\n"}
NAMES = ("units.csv", "ecephys_session_1.nwb")


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with a session and a table."""
    with serve({"0.1.0": FILES}) as server:
        yield server


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bucket."""
    for name, data in FILES.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return tmp_path / "copy"


def outcomes(server: FakeS3Server, folder: Path, *arguments: str) -> dict[str, str]:
    """What became of each file, by its name."""
    done = run_vbnfs("import", "--in-place", folder, *arguments, "--json", "--endpoint-url", server.endpoint_url)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return {Path(one["path"]).name: one["outcome"] for one in found}


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.vbnfs.{name}").decode()


def test_files_are_read_where_they_lie(mounts: Mounts, server: FakeS3Server, copy: Path, tmp_path: Path) -> None:
    """They are not fetched and not copied; they count as cached and verified, and not in the cache's size."""
    assert outcomes(server, copy, "--dry-run") == {"units.csv": "would take", "ecephys_session_1.nwb": "would take"}
    assert outcomes(server, copy) == {"units.csv": "taken", "ecephys_session_1.nwb": "taken"}
    assert outcomes(server, copy) == {"units.csv": "there", "ecephys_session_1.nwb": "there"}
    mount = mounts(server.endpoint_url, "--cache-size", "1M")
    for name, data in FILES.items():
        assert (mount.path / name).read_bytes() == data
        assert attribute(mount.path / name, "cached") == str(len(data))
        assert attribute(mount.path / name, "verified").startswith("blake2b:")
        assert "this cache does not have it whole" in attribute(mount.path / name, "read_by") or os.geteuid() != 0
    assert mount.range_requests() == 0
    assert list((tmp_path / "cache" / FORMAT).rglob(DATA)) == []
    done = run_vbnfs("clean")
    assert "0 files, 0 B freed" in done.stdout
    assert "read in place, not counted: 2 files (2.3 MiB)\n" in done.stdout
    assert {path.stat().st_nlink for path in copy.rglob("*") if path.is_file()} == {1}


def overwritten(file: Path) -> None:
    with file.open("r+b") as original:
        original.write(b"changed")


def cut_short(file: Path) -> None:
    os.truncate(file, BLOCK_BYTES + 1)


def replaced(file: Path) -> None:
    file.with_name("new").write_bytes(b"new".ljust(file.stat().st_size))
    file.with_name("new").replace(file)


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [overwritten, cut_short, replaced, gone])
def test_a_file_that_changes_while_it_is_open(
    mounts: Mounts, server: FakeS3Server, copy: Path, change: Callable[[Path], None]
) -> None:
    """Every read returns the released bytes: what does not match its checksum any more comes from S3."""
    outcomes(server, copy)
    mount = mounts(server.endpoint_url)
    with (mount.path / SESSION).open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), len(FILES[SESSION]), 0) == FILES[SESSION]
        assert mount.range_requests() == 0
        change(copy / SESSION)
        drop_pages(mount.path / SESSION)
        for at in (0, 5 * BLOCK_BYTES):
            assert os.pread(file.fileno(), 4 * BLOCK_BYTES, at) == FILES[SESSION][at : at + 4 * BLOCK_BYTES]
    drop_pages(mount.path / SESSION)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    if change is not gone and change is not replaced:  # what is open stays as it was
        assert mount.range_requests() > 0


@pytest.mark.parametrize("change", [overwritten, cut_short, replaced, gone, os.utime])
def test_a_file_that_has_changed(
    mounts: Mounts, server: FakeS3Server, copy: Path, change: Callable[[Path], None]
) -> None:
    """One that has lost its seal is not read in place, though its bytes may be right; `clean` names it."""
    outcomes(server, copy)
    change(copy / SESSION)
    mount = mounts(server.endpoint_url)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert mount.range_requests() > 0
    assert (mount.path / TABLE).read_bytes() == FILES[TABLE]
    done = run_vbnfs("clean")
    reason = "No such file or directory" if change is gone else "it has changed since it was hashed"
    assert f"1 of them not now, such as {copy / SESSION} ({reason}): 'vbnfs import --in-place'" in done.stdout


def test_a_file_that_is_hashed_anew(mounts: Mounts, server: FakeS3Server, copy: Path) -> None:
    """A file with another seal is taken up again by the same command, if its bytes are right."""
    outcomes(server, copy)
    os.utime(copy / SESSION)
    overwritten(copy / TABLE)
    assert outcomes(server, copy) == {"units.csv": "wrong", "ecephys_session_1.nwb": "taken"}
    mount = mounts(server.endpoint_url)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert mount.range_requests() == 0
    assert (mount.path / TABLE).read_bytes() == FILES[TABLE]


@pytest.mark.root
def test_files_that_others_can_change(server: FakeS3Server, copy: Path) -> None:
    """A file of another user, or that everybody can write, is refused with the remedy; a named user's is taken."""
    os.chown(copy / SESSION, 1, 1)
    (copy / TABLE).chmod(0o666)
    assert outcomes(server, copy) == {"units.csv": "refused", "ecephys_session_1.nwb": "refused"}
    done = run_vbnfs("import", "--in-place", copy, "--endpoint-url", server.endpoint_url)
    assert done.returncode == 1
    assert "it belongs to daemon: name that user by --trusted-users, or import it as a copy" in done.stdout
    assert "everybody can write it: 'chmod o-w' keeps others from that" in done.stdout
    (copy / TABLE).chmod(0o644)
    named = outcomes(server, copy, "--trusted-users", "daemon")
    assert named == {"units.csv": "taken", "ecephys_session_1.nwb": "taken"}


@pytest.mark.root
def test_a_dry_run_names_what_would_be_refused(server: FakeS3Server, copy: Path) -> None:
    """Its status is that of the import. Files that are read in place need no room."""
    (copy / TABLE).chmod(0o666)
    tried = run_vbnfs("import", "--in-place", "--dry-run", copy, "--endpoint-url", server.endpoint_url)
    assert (tried.returncode, tried.stdout.count("would take"), tried.stdout.count("refused")) == (1, 1, 1)
    (copy / TABLE).chmod(0o644)
    assert outcomes(server, copy, "--dry-run", "--cache-size", "1M") == dict.fromkeys(NAMES, "would take")


# Reading them in place no more


def forget(*arguments: str | Path) -> tuple[int, list[str]]:
    """The exit status, and the lines on standard output and standard error."""
    done = run_vbnfs("import", "--forget", *arguments)
    return done.returncode, (done.stdout + without_address(done.stderr)).splitlines()


def test_files_that_are_forgotten(mounts: Mounts, server: FakeS3Server, copy: Path) -> None:
    """A mount asks S3 for them from then on; the files themselves stay, and can be imported again."""
    outcomes(server, copy)
    mount = mounts(server.endpoint_url)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert mount.range_requests() == 0
    lines = [f"would forget {copy / name}" for name in FILES]
    assert forget(copy, "--dry-run") == (0, [*lines, "2 files: 2 would forget (2.3 MiB)"])
    assert "read in place, not counted: 2 files" in run_vbnfs("clean").stdout
    assert forget(copy) == (0, ["2 files: 2 forgotten (2.3 MiB)"])
    assert "read in place" not in run_vbnfs("clean").stdout
    until(lambda: attribute(mount.path / SESSION, "cached") == "0")
    drop_pages(mount.path / SESSION)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert mount.range_requests() > 0
    assert {name: (copy / name).read_bytes() for name in FILES} == FILES
    assert run_vbnfs("clean", "--all").returncode == 0
    assert outcomes(server, copy) == dict.fromkeys(NAMES, "taken")


def test_a_file_or_a_folder_that_is_forgotten(server: FakeS3Server, copy: Path) -> None:
    """It may be gone already; a folder whose name merely begins so is another one. A second time there is nothing."""
    outcomes(server, copy)
    assert forget(copy / TABLE, "-v") == (0, [f"forgotten  {copy / TABLE}", "1 file: 1 forgotten (10 B)"])
    shutil.rmtree(copy)
    assert "1 of them not now" in run_vbnfs("clean").stdout
    status, [message] = forget(copy.with_name("cop"))
    assert (status, "'vbnfs import --forget --dry-run /' lists those that are" in message) == (1, True)
    lines = [f"would forget {copy / SESSION}: No such file or directory", "1 file: 1 would forget (2.3 MiB)"]
    assert forget("/", "--dry-run") == (0, lines)
    assert forget(copy) == (0, ["1 file: 1 forgotten (2.3 MiB)"])
    status, [message] = forget(copy)
    assert (status, message.endswith("; nor is any other")) == (1, True)
    assert "read in place" not in run_vbnfs("clean").stdout


def test_what_forgetting_refuses(tmp_path: Path) -> None:
    """Options that would have no effect; without a cache there is nothing, and none is made."""
    for option, words in (("--in-place", "leave --in-place out"), ("--offline", "leave --offline out")):
        status, [message] = forget(tmp_path, option)
        assert (status, words in message) == (2, True)
    assert forget(tmp_path)[0] == 1
    assert not (tmp_path / "cache").exists()


def test_freeing_a_file_that_is_read_in_place(server: FakeS3Server, copy: Path) -> None:
    """Nothing of it is in the cache: the command says how to end that, and the file is read in place as before."""
    outcomes(server, copy)
    done = run_vbnfs("clean", TABLE, "--endpoint-url", server.endpoint_url)
    assert (done.returncode, "0 files, 0 B freed" in done.stdout) == (0, True)
    assert f"{copy / TABLE} is read in place, outside of the cache: 'vbnfs import --forget'" in done.stderr
    assert "2 files are read in place, outside" in run_vbnfs("clean", "--all").stderr
    assert "read in place, not counted: 2 files" in run_vbnfs("clean").stdout
