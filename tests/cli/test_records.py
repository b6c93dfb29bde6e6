"""`vbnfs cite`, and `vbnfs prefetch --record` without a mount: what is made of a record, and of a damaged one."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rocrate

from tests.fakes.dataset import BUCKET, PROJECT, FakeDataset
from tests.fakes.records import write_record
from tests.fakes.s3_server import FakeS3Server, error, for_kind
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cli.examples import EXAMPLES
from vbnfs.config.settings import MIB

VALIDATOR = Path(__file__).parents[2] / ".venv-roc-validator" / "bin" / "python"
LARGE = "behavior_ecephys_sessions/1/ecephys_session_1.nwb"
WHOLE = "behavior_ecephys_sessions/2/ecephys_session_2.nwb"
LFP = "behavior_ecephys_sessions/2/probe_probeA_lfp.nwb"
UNREAD = "behavior_ecephys_sessions/1/probe_probeA_lfp.nwb"
TABLE = "project_metadata/units.csv"
FILES = {
    LARGE: Pattern(16 * MIB + 5, seed=1),
    WHOLE: Pattern(3 * BLOCK_BYTES + 7, seed=2),
    LFP: Pattern(8 * MIB, seed=3),
    UNREAD: Pattern(MIB, seed=4),
}
READ = {
    LARGE: [(0, 4096), (5 << 20, (5 << 20) + 4096), (9 << 20, (9 << 20) + 4096)],
    WHOLE: [(0, len(FILES[WHOLE]))],
    LFP: [(3 << 20, (3 << 20) + 4096)],
    UNREAD: [],
}
READ_BLOCK_BYTES = 4 * BLOCK_BYTES + len(FILES[WHOLE])


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    """Two versions: the newer one has another table."""
    dataset = FakeDataset()
    dataset.publish("0.4.0", {**FILES, TABLE: b"unit_id\n"})
    dataset.publish("0.5.0", {**FILES, TABLE: b"unit_id\n1\n"})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of it, which the commands ask."""
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


@pytest.fixture
def record(dataset: FakeDataset, tmp_path: Path) -> Path:
    """A record of parts of two files, of a whole one, and of one that was opened and not read."""
    return write_record(tmp_path / "figure-3.jsonl", dataset, FILES, READ, ("0.4.0", "0.5.0"))


def hash_of(path: str) -> str:
    data = FILES[path]
    return hashlib.blake2b(data[: len(data)]).hexdigest()


def asked_bytes(server: FakeS3Server) -> int:
    """How many bytes of files were asked for."""
    asked = (one.headers["range"] for one in server.requests if one.kind == "get_range")
    ranges = (text.removeprefix("bytes=").split("-") for text in asked)
    return sum(int(last) + 1 - int(first) for first, last in ranges)


def test_just_what_was_read_is_fetched(record: Path, server: FakeS3Server) -> None:
    """Those blocks, once: a whole file is checked by its hash, and the rest of the others is not asked for."""
    done = run_vbnfs("prefetch", "--record", record, "--dry-run")
    assert done.stdout.splitlines()[0] == "0.5.0: 3 files, 1.8 MiB; 1.8 MiB to fetch"
    plan = json.loads(run_vbnfs("prefetch", "--record", record, "--dry-run", "--json").stdout)
    assert (plan["files"], plan["absent"], plan["missing_bytes"]) == (3, [], READ_BLOCK_BYTES)
    assert asked_bytes(server) == 0
    done = run_vbnfs("prefetch", "--record", record)
    assert (done.returncode, done.stdout) == (0, "1 of 3 files good, 768.0 KiB, 2 in part\n"), done.stderr
    done = run_vbnfs("prefetch", "--record", record, "--json")
    assert sorted(one["outcome"] for one in json.loads(done.stdout)) == ["good", "in part", "in part"]
    assert asked_bytes(server) == READ_BLOCK_BYTES


def test_a_fetch_that_fails_goes_on(record: Path, server: FakeS3Server) -> None:
    """What cannot be had is named with the reason, and the status is 1; the same command goes on where it was."""
    refused = error(403, "AccessDenied")
    server.behaviours = [for_kind("get_range", lambda asked, honest: refused if LARGE in asked.path else None)]
    done = run_vbnfs("prefetch", "--record", record)
    assert done.returncode == 1
    assert f"failed       {LARGE}: " in done.stdout
    assert "1 of 3 files not verified and kept" in done.stderr
    server.behaviours = []
    server.forget_requests()
    assert run_vbnfs("prefetch", "--record", record).returncode == 0
    assert asked_bytes(server) == 3 * BLOCK_BYTES


def test_a_file_that_two_records_make_whole(dataset: FakeDataset, server: FakeS3Server, tmp_path: Path) -> None:
    """When the last blocks of a file come, it is checked by its hash."""
    middle = 2 * BLOCK_BYTES
    for name, pairs, outcome in (("a", [(0, middle)], "in part"), ("b", [(middle, len(FILES[WHOLE]))], "good")):
        record = write_record(tmp_path / name, dataset, FILES, {WHOLE: pairs}, ("0.5.0",))
        [found] = json.loads(run_vbnfs("prefetch", "--record", record, "--json").stdout)
        assert found["outcome"] == outcome
    assert asked_bytes(server) == len(FILES[WHOLE])


def test_what_a_record_cannot_be_used_for(record: Path, server: FakeS3Server, tmp_path: Path) -> None:
    """Beside other choices, of another dataset, of what is no record, of files that are not there any more."""
    for more in (["--sessions", "all"], ["--lfp", "yes"], ["--dataset-version", "0.5.0"]):
        for command in ("prefetch", "cite"):
            done = run_vbnfs(command, "--record", record, *more)
            assert (done.returncode, "--record says which files were read: leave" in done.stderr) == (2, True)
    assert run_vbnfs("prefetch", "--record", record, "--pin").returncode == 2
    (tmp_path / "notes.txt").write_text("hello\n")
    for command in ("prefetch", "cite"):
        done = run_vbnfs(command, "--record", tmp_path / "notes.txt")
        assert done.returncode == 1
        assert "notes.txt: not a record: 'vbnfs mount --record FILE' writes one" in done.stderr
        done = run_vbnfs(command, "--record", tmp_path / "none.jsonl")
        assert "none.jsonl: the record cannot be read: No such file or directory" in done.stderr
    changed = tmp_path / "changed.jsonl"
    text = record.read_text().replace(hash_of(LARGE), "0" * 128).replace(hash_of(LFP), "1" * 128)
    changed.write_text(text + "torn")
    done = run_vbnfs("prefetch", "--record", changed, "--cache-dir", tmp_path / "elsewhere")
    assert done.returncode == 1
    assert f"absent       {LARGE}: no version of this dataset has it" in done.stdout
    assert "2 of 3 files not verified and kept" in done.stderr
    assert "1 of its lines cannot be read, and 0 were not written" in done.stderr
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text(record.read_text().replace(BUCKET, "another-bucket"))
    done = run_vbnfs("prefetch", "--record", foreign, "--dry-run")
    assert done.returncode == 1
    assert "4 files of other datasets are left out" in done.stderr
    assert f"nothing to fetch: no file of s3://{BUCKET}/{PROJECT} was read in the record" in done.stderr


def test_citing_a_record(record: Path, server: FakeS3Server, tmp_path: Path) -> None:
    """Without network: version, files, hashes, bytes; `b2sum --check` finds copies to be those files."""
    server.stop()
    done = run_vbnfs("cite", "--record", record, "--offline")
    assert done.returncode == 0, done.stderr
    paragraph, blank, *files = done.stdout.splitlines()
    assert paragraph.startswith(
        f"Data: {PROJECT}, version 0.5.0 (s3://{BUCKET}/{PROJECT}), 3 files, 24.8 MiB, of which "
    )
    assert blank == ""
    assert files == [f"{hash_of(path)}  {path}" for path in sorted((LARGE, WHOLE, LFP))]
    listed = hashlib.blake2b("".join(f"{line}\n" for line in sorted(files)).encode(), digest_size=32).hexdigest()
    assert paragraph.endswith(f" {listed}.")
    for path, data in FILES.items():
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(data[: len(data)])
    checked = subprocess.run(
        ["b2sum", "--check"],
        input="\n".join(files),
        cwd=tmp_path / "copy",
        text=True,
        capture_output=True,
        check=True,
    )
    assert checked.stdout.count(": OK") == 3
    [version] = json.loads(run_vbnfs("cite", "--record", record, "--json").stdout)
    [large, _, lfp] = version["files"]
    assert (large["read_bytes"], lfp["read_bytes"], large["opens"]) == (3 * 4096, 4096, 1)
    assert large["url"].endswith(f"/{BUCKET}/{PROJECT}/{LARGE}?versionId={large['version_id']}")
    assert version["list_hash"] == listed


def test_the_examples_of_the_help(record: Path, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as they stand, on a record of that name; the crate is written into a folder of that name."""
    monkeypatch.chdir(record.parent)
    lines = [line for line, _ in (*EXAMPLES["cite"], *EXAMPLES["prefetch"]) if record.name in line]
    assert len(lines) == 3
    for line in lines:
        done = run_vbnfs(*line.split()[1:])
        assert done.returncode == 0, done.stderr
    assert (record.parent / "figure-3" / "ro-crate-metadata.json").is_file()


def test_citing_sessions(server: FakeS3Server) -> None:
    """What a query matches, with the tables, LFP only if it is asked for; the files are those of the version."""
    done = run_vbnfs("cite", "--sessions", "all", "--json", "--dataset-version", "0.4.0")
    [version] = json.loads(done.stdout)
    assert version["dataset_version"] == "0.4.0"
    assert [file["path"] for file in version["files"]] == [LARGE, WHOLE, TABLE]
    assert version["files"][2]["hash"] == hashlib.blake2b(b"unit_id\n").hexdigest()
    assert "programs" not in version["files"][0]
    assert server.count("get_range") == 0
    done = run_vbnfs("cite", "--sessions", "all", "--lfp", "yes")
    assert "version 0.5.0" in done.stdout
    assert [path for path in FILES if path in done.stdout] == list(FILES)
    done = run_vbnfs("cite")
    assert done.returncode == 2


LICENSES = {"without": [], "with": ["--license", "https://creativecommons.org/licenses/by/4.0/"]}


def graph_of(crate: Path) -> list[dict[str, Any]]:
    graph: list[dict[str, Any]] = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    return graph


def test_an_ro_crate(record: Path, server: FakeS3Server, tmp_path: Path) -> None:
    """It has each file as a link, with hash, size and version; the license, if that is known. It replaces nothing."""
    for name, more in LICENSES.items():
        done = run_vbnfs("cite", "--record", record, "--ro-crate", tmp_path / name, *more)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        files = {entity["name"]: entity for entity in graph_of(tmp_path / name) if entity["@type"] == "File"}
        assert sorted(files) == sorted((LARGE, WHOLE, LFP))
        assert files[LARGE]["contentSize"] == str(len(FILES[LARGE]))
        assert files[LARGE]["identifier"] == f"blake2b-512:{hash_of(LARGE)}"
        assert f"/{BUCKET}/{PROJECT}/{LARGE}?versionId=" in files[LARGE]["@id"]
    [root] = [entity for entity in graph_of(tmp_path / "with") if entity["@id"] == "./"]
    assert root["license"] == {"@id": LICENSES["with"][1]}
    again = run_vbnfs("cite", "--record", record, "--ro-crate", tmp_path / "with")
    assert (again.returncode, "there are files in it: name a new folder" in again.stderr) == (1, True)
    wrong = run_vbnfs("cite", "--record", record, "--license", "x")
    assert wrong.returncode == 2
    hiding = "import sys; sys.modules['rocrate'] = None; from vbnfs.__main__ import main; main()"
    command = [sys.executable, "-c", hiding, "cite", "--record", record, "--ro-crate", tmp_path / "none"]
    lacking = subprocess.run(command, capture_output=True, text=True, check=False)
    assert lacking.returncode == 1
    assert "rocrate is not installed: pip install 'vbnfs[cite]'" in lacking.stderr


@pytest.mark.slow
def test_what_the_validator_says_of_a_crate(record: Path, tmp_path: Path) -> None:
    """All that RO-Crate 1.1 requires of a crate it has; and a crate that lacks something is found out."""
    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"

    def problems() -> list[str]:
        command = [VALIDATOR, Path(__file__).parent / "validate_crate.py", crate, context]
        *found, checks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert int(checks.removesuffix(" checks")) > 30
        return found

    for name, more in LICENSES.items():
        crate = tmp_path / name
        assert run_vbnfs("cite", "--record", record, "--ro-crate", crate, *more).returncode == 0
        assert problems() == []
    metadata = crate / "ro-crate-metadata.json"
    metadata.write_text(metadata.read_text().replace('"datePublished"', '"datum"'))
    assert any("`datePublished`" in problem for problem in problems())
