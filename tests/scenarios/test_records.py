"""What a real mount writes down of its readers, and what is made of that elsewhere: fetched, and cited."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import BUCKET, PROJECT, FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.config.settings import MIB

VALIDATOR = Path(__file__).parents[2] / ".venv-roc-validator" / "bin" / "python"
LARGE = "behavior_ecephys_sessions/1/ecephys_session_1.nwb"
WHOLE = "behavior_ecephys_sessions/2/ecephys_session_2.nwb"
LFP = "behavior_ecephys_sessions/2/probe_probeA_lfp.nwb"
TABLE = "project_metadata/units.csv"
FILES = {
    LARGE: Pattern(16 * MIB + 5, seed=1),
    WHOLE: Pattern(3 * BLOCK_BYTES + 7, seed=2),
    LFP: Pattern(8 * MIB, seed=3),
}
TABLE_BYTES = b"unit_id\n1\n"
# A program that reads parts of a file by its descriptor, without its kernel reading ahead.
READER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
for place in sys.argv[2:]:
    os.pread(fd, 4096, int(place))
"""


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    """Two versions: the newer one has another table."""
    dataset = FakeDataset()
    dataset.publish("0.4.0", {**FILES, TABLE: b"unit_id\n"})
    dataset.publish("0.5.0", {**FILES, TABLE: TABLE_BYTES})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of it, which the commands ask."""
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def read_by(path: Path, *places: int) -> None:
    subprocess.run([sys.executable, "-S", "-c", READER, str(path), *map(str, places)], check=True)


def lines_of(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_bytes().splitlines() if line]


def opens_of(record: Path, path: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(record) if line.get("key") == f"{PROJECT}/{path}"]


def ranges_of(lines: list[dict[str, Any]]) -> list[list[int]]:
    return sorted(pair for line in lines for pair in line["ranges"])


def hash_of(path: str) -> str:
    data = FILES[path]
    return hashlib.blake2b(data[: len(data)]).hexdigest()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Where the record is."""
    return tmp_path / "figure-3.jsonl"


@pytest.fixture
def mount(server: FakeS3Server, mounts: Mounts, record: Path) -> Mount:
    """A mount that keeps a record."""
    return mounts(server.endpoint_url, "--record", record)


def test_what_is_written(engine: str, mount: Mount, record: Path) -> None:
    """File, object version, hash, versions, ranges, program and times by open; of nothing else, and of no one."""
    assert engine
    read_by(mount.path / LARGE, 0, 5 << 20)
    read_by(mount.path / LARGE, 0, 9 << 20)  # the first page is not answered from what the kernel has kept
    assert len((mount.path / "manifests/v0.4.0" / WHOLE).read_bytes()) == len(FILES[WHOLE])
    os.close(os.open(mount.path / LFP, os.O_RDONLY))
    list(mount.path.rglob("*"))
    (mount.path / "README.txt").read_text()
    mount.umount()
    first, *lines = lines_of(record)
    assert {**first, "mount": "", "time": "", "vbnfs_version": ""} == {
        **{"record": 1, "mount": "", "time": "", "vbnfs_version": ""},
        **{"bucket": BUCKET, "project": PROJECT, "dataset_version": "0.5.0"},
    }
    assert {line["key"] for line in lines} == {f"{PROJECT}/{path}" for path in (LARGE, WHOLE, LFP)}
    by_open: dict[int, list[dict[str, Any]]] = {}
    for line in opens_of(record, LARGE):
        by_open.setdefault(line["open"], []).append(line)
    found = [ranges_of(of_one) for _, of_one in sorted(by_open.items())]
    assert found == [[[0, 4096], [5 << 20, (5 << 20) + 4096]], [[0, 4096], [9 << 20, (9 << 20) + 4096]]]
    assert {line["program"] for line in opens_of(record, LARGE)} == {Path(sys.executable).name[:15]}
    for line in lines:
        path = line["key"].removeprefix(f"{PROJECT}/")
        assert (line["hash"], line["size"]) == (hash_of(path), len(FILES[path]))
        assert sorted(line["dataset_versions"]) == ["0.4.0", "0.5.0"]
        assert line["opened"] <= (line["read"] or "z")
    assert ranges_of(opens_of(record, WHOLE)) == [[0, len(FILES[WHOLE])]]
    assert ranges_of(opens_of(record, LFP)) == []
    assert str(mount.path.parent) not in record.read_text()
    assert os.uname().nodename not in record.read_text()


def test_the_status_and_the_kernel(mount: Mount, record: Path) -> None:
    """A whole, checked file is read by the daemon all the same; the status says so, and where the record is."""
    for _ in range(3):
        assert len((mount.path / WHOLE).read_bytes()) == len(FILES[WHOLE])
    status = mount.status()
    assert status["metrics"]["passthrough_opens"] == 0
    assert "--record" in status["passthrough"]["reason"]
    assert status["record"] == {"file": str(record), "problem": None, "lost_lines": 0}
    assert f"    record      {record}\n" in run_vbnfs("status", mount.path).stdout
    mount.umount()
    assert len({line["open"] for line in opens_of(record, WHOLE)}) == 3
    totals = {line["open"]: 0 for line in opens_of(record, WHOLE)}
    for line in opens_of(record, WHOLE):
        totals[line["open"]] += sum(stop - start for start, stop in line["ranges"])
    assert set(totals.values()) == {len(FILES[WHOLE])}


@pytest.mark.slow  # five seconds of waiting
def test_a_killed_daemon(mount: Mount, record: Path) -> None:
    """What was read some seconds before it was killed is in the record, also of files that are open still."""
    file = os.open(mount.path / LARGE, os.O_RDONLY)
    os.read(file, 4096)
    until(lambda: ranges_of(opens_of(record, LARGE)))
    os.kill(mount.status()["pid"], signal.SIGKILL)
    with suppress(OSError):  # ECONNABORTED or ENOTCONN, of a daemon that is gone
        os.close(file)
    assert ranges_of(opens_of(record, LARGE))[0][0] == 0


def test_two_mounts_share_a_record(mount: Mount, server: FakeS3Server, mounts: Mounts, record: Path) -> None:
    """Each has its own name in it, and its own lines, and both are one record."""
    other = mounts(server.endpoint_url, "--record", record, "--dataset-version", "0.4.0", name="other")
    for one in (mount, other):
        (one.path / TABLE).read_bytes()
        one.umount()
    names = [line["mount"] for line in lines_of(record) if "record" in line]
    assert len(set(names)) == 2
    done = run_vbnfs("cite", "--record", record, "--json")
    assert [version["dataset_version"] for version in json.loads(done.stdout)] == ["0.4.0", "0.5.0"]


def test_what_is_refused_is_not_mounted(server: FakeS3Server, mounts: Mounts, tmp_path: Path) -> None:
    """A record that cannot be written: the mount is refused with the reason, the remedy and where to read on."""
    (tmp_path / "mnt").mkdir()
    done = run_vbnfs("mount", "--record", tmp_path / "no" / "r.jsonl", tmp_path / "mnt")
    assert done.returncode == 1
    assert "r.jsonl: the record cannot be written: No such file or directory; choose another --record" in done.stderr
    assert "a-record-is-refused" in done.stderr
    assert not (tmp_path / "mnt").is_mount()


@pytest.fixture
def kept(mount: Mount, record: Path) -> Path:
    """A record of some parts of two files, and of a whole one."""
    read_by(mount.path / LARGE, 0, 5 << 20, 9 << 20)
    read_by(mount.path / LFP, 3 << 20)
    (mount.path / WHOLE).read_bytes()
    mount.umount()
    return record


def test_prefetching_elsewhere(kept: Path, server: FakeS3Server, tmp_path: Path, mounts: Mounts) -> None:
    """What was read can then be read offline, and the rest cannot."""
    cache = ["--cache-dir", str(tmp_path / "elsewhere")]
    done = run_vbnfs("prefetch", "--record", kept, *cache)
    assert (done.returncode, done.stdout) == (0, "1 of 3 files good, 768.0 KiB, 2 in part\n"), done.stderr
    url = server.endpoint_url
    server.stop()
    mount = mounts(url, "--offline", *cache, name="offline")
    read_by(mount.path / LARGE, 0, 5 << 20, 9 << 20)
    with (mount.path / LARGE).open("rb") as file, pytest.raises(OSError, match="unreachable"):
        os.pread(file.fileno(), 4096, 13 << 20)


def test_prefetching_beside_a_mount(kept: Path, server: FakeS3Server, tmp_path: Path, mounts: Mounts) -> None:
    """The mount fetches just those blocks, and checks what is complete then: no byte comes twice."""
    cache = ["--cache-dir", str(tmp_path / "elsewhere")]
    mount = mounts(server.endpoint_url, *cache, name="elsewhere-mnt")
    done = run_vbnfs("prefetch", "--record", kept, *cache)
    assert (done.returncode, done.stdout) == (0, "1 of 3 files good, 768.0 KiB, 2 in part\n"), done.stderr
    counts = mount.status()["metrics"]
    assert (counts["received_bytes"], counts["verified_files"]) == (4 * BLOCK_BYTES + len(FILES[WHOLE]), 1)
    read_by(mount.path / LARGE, 0, 5 << 20, 9 << 20)
    assert mount.status()["metrics"]["received_bytes"] == counts["received_bytes"]
