"""`vbnfs du`: how much of the dataset is in the cache, by version, session, kind and pin; S3 is not asked."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs
from vbnfs.config.settings import MIB

SESSION = "behavior_ecephys_sessions/11/ecephys_session_11.nwb"
LFP = "behavior_ecephys_sessions/11/probe_probeA_lfp.nwb"
TABLE = "project_metadata/units.csv"
SIZES = {SESSION: 3 * MIB + 1, LFP: 24 * MIB, TABLE: MIB}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of two versions: the second one has another table."""
    dataset = FakeDataset()
    files = {path: Pattern(size, seed=n) for n, (path, size) in enumerate(SIZES.items())}
    dataset.publish("0.1.0", files)
    dataset.publish("0.2.0", files | {TABLE: Pattern(MIB, seed=9)})
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def du(*arguments: str | Path) -> dict[str, tuple[int, int, int, int, int]]:
    """The rows by name: files, size, here, whole, pinned."""
    done = run_vbnfs("du", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    columns = ("files", "size_bytes", "here_bytes", "whole_bytes", "pinned_bytes")
    return {row["name"]: tuple(row[name] for name in columns) for row in json.loads(done.stdout)}


def test_rows(server: FakeS3Server, mounts: Mounts) -> None:
    """By each way; what is in several rows counts once together; a part of a file is here and not whole."""
    session, lfp, table = SIZES.values()
    assert run_vbnfs("pin", "mine", SESSION, "manifests/v0.1.0/" + TABLE).returncode == 0
    mount = mounts(server.endpoint_url)
    with (mount.path / LFP).open("rb") as file:
        assert len(file.read(1000)) == 1000
    mount.umount()
    asked = len(server.requests)
    rows = du("--by", "kind")
    part = rows["LFP"][2]
    assert 0 < part < lfp
    assert rows == {
        "sessions": (1, session, session, session, session),
        "LFP": (1, lfp, part, 0, 0),
        "tables": (2, 2 * table, table, table, table),
        "together": (4, session + lfp + 2 * table, session + part + table, session + table, session + table),
    }
    of_session = (2, session + lfp, session + part, session, session)
    assert du("--by", "session") == {
        "11": of_session,
        "of no session": rows["tables"],
        "together": rows["together"],
    }
    assert du("--by", "version") == {
        "0.1.0": (3, sum(SIZES.values()), session + part + table, session + table, session + table),
        "0.2.0": (3, sum(SIZES.values()), session + part, session, session),
        "together": rows["together"],
    }
    both = (2, session + table, session + table, session + table, session + table)
    assert du("--by", "pin") == {"mine": both, "together": rows["together"]}
    assert du("project_metadata", "--by", "kind")["tables"] == (1, table, 0, 0, 0)
    assert du("0.1.0", "--by", "kind")["tables"] == (1, table, table, table, table)
    assert du("behavior_ecephys_sessions/11")["together"] == of_session
    assert len(server.requests) == asked
    text = run_vbnfs("du", "--by", "kind").stdout
    assert text.splitlines()[0].split() == ["kind", "files", "size", "here", "whole", "pinned"]
    assert text.splitlines()[1].split() == ["sessions", "1", *["3.0", "MiB"] * 4]


def test_paths_of_a_mount(server: FakeS3Server, mounts: Mounts) -> None:
    """A folder of a mount names the mount's cache; what is not in the dataset is refused."""
    mount = mounts(server.endpoint_url)
    assert (mount.path / TABLE).read_bytes()
    assert du(mount.path / "project_metadata")["together"][:3] == (1, MIB, MIB)
    assert run_vbnfs("du", "nothing/here").returncode == 1


def test_without_a_cache() -> None:
    """There is nothing to measure where no version is stored: that is said, with status 1."""
    done = run_vbnfs("du")
    assert (done.returncode, done.stdout) == (1, "")
