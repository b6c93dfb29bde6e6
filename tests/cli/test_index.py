"""`vbnfs index`: structure found, shown, and handed from one cache to another."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cache.test_structure_sets import sets_in
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, error, for_kind
from tests.fixtures_mount import run_vbnfs
from tests.hdf5.running import Waves, structured
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.structure_index import StructureIndex
from vbnfs.cache.structure_sets import StructureSet
from vbnfs.cli.main import cli

SESSIONS = {f"ecephys_sessions/ecephys_session_{n}.nwb": structured() + bytes(n) for n in range(1, 4)}
NAMES = list(SESSIONS)
TABLE, WITHOUT_HASH, BROKEN = "project_metadata/units.csv", "notes/unhashed.nwb", "notes/broken.nwb"
STRUCTURE = Waves(structured()).structure.blocks
VERSION = ("--dataset-version", "0.2.0")


def hash_of(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


HASHES = {name: hash_of(data) for name, data in SESSIONS.items()}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two versions: one of three sessions and other files; one of the first session alone."""
    dataset = FakeDataset()
    entries = {name: dataset.entry(name, data) for name, data in SESSIONS.items()}
    entries[TABLE] = dataset.entry(TABLE, b"unit_id,snr\n1,2\n")
    entries[WITHOUT_HASH] = {**dataset.entry(WITHOUT_HASH, structured()), "file_hash": ""}
    damaged = structured()[:2000] + b"\xff" * 200 + structured()[2200:]
    entries[BROKEN] = dataset.entry(BROKEN, damaged)
    dataset.publish_entries("0.2.0", entries)
    dataset.publish("0.1.0", {NAMES[0]: SESSIONS[NAMES[0]]})
    with FakeS3Server(dataset.store) as server:
        yield server


def test_from_one_cache_into_another(server: FakeS3Server, tmp_path: Path) -> None:
    """Files are walked once, by their structure alone; what was found is exported, imported and shown."""
    url, file, other = f"--endpoint-url={server.endpoint_url}", tmp_path / "x.index", f"--cache-dir={tmp_path / 'o'}"
    done = run_vbnfs("index", "build", *NAMES[:2], url)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"indexed  {name}: 15 blocks, 3.5 MiB" for name in NAMES[:2]]
    assert done.stderr.startswith("2 of 2 files indexed, whose structure is ")
    assert server.count("get_range") <= 2 * len(STRUCTURE)
    assert server.body_bytes < 2 * len(STRUCTURE) * BLOCK_BYTES + 100_000
    server.forget_requests()
    done = run_vbnfs("index", "build", "ecephys_sessions", url)
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["indexed", "known", "known"]
    assert {request.key.split("/", 1)[1] for request in server.requests if request.kind == "get_range"} == {NAMES[2]}

    done = run_vbnfs("index", "export", file, "0.1.0", url)
    assert (done.returncode, done.stdout.split()[1:3]) == (0, ["1", "file,"]), done.stderr
    assert [one.file_hash for one in sets_in(file.read_bytes())] == [HASHES[NAMES[0]]]
    done = run_vbnfs("index", "export", file)
    assert (done.returncode, done.stderr) == (0, "")
    exported = sets_in(file.read_bytes())
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode  # others may read it as the user's umask says
    assert [one.file_hash for one in exported] == sorted(HASHES.values())
    assert all(one.is_whole and set(one.blocks) >= STRUCTURE for one in exported)
    assert len(file.read_bytes()) < 400 * len(exported)

    for new in (3, 0):
        done = run_vbnfs("index", "import", file, other)
        assert done.stdout.endswith(f"; {new} of them new here\n"), done.stderr
    done = run_vbnfs("index", "show", "ecephys_sessions", *VERSION, "--json", url, other)
    rows = json.loads(done.stdout)
    assert [(row["path"], row["origin"], row["cached_bytes"]) for row in rows] == [
        (name, "imported", 0) for name in NAMES
    ]
    assert all(set(row["blocks"]) >= STRUCTURE for row in rows)
    done = run_vbnfs("index", "export", tmp_path / "none", other)
    assert done.stdout == f"{tmp_path / 'none'}  0 files, 0 B\n"  # claims are not handed on
    done = run_vbnfs("index", "show", url)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        f"manifests/v0.1.0/{NAMES[0]}",
        *(f"manifests/v0.2.0/{name}" for name in NAMES[1:]),
    ]
    assert "recorded" in done.stdout
    assert done.stderr == "3 of 6 files in the index: 3 recorded\n"


def test_all_files(server: FakeS3Server, tmp_path: Path) -> None:
    """`--all` says what became of each file: a table, one without a hash, one that cannot be parsed among them."""
    url = f"--endpoint-url={server.endpoint_url}"
    done = run_vbnfs("index", "build", "--all", "--json", url)
    assert done.returncode == 0, done.stderr
    found = {Path(one["path"]).name: one for one in json.loads(done.stdout)}
    outcomes = {name: one["outcome"] for name, one in found.items()}
    assert outcomes.pop(Path(TABLE).name) == "no HDF5"
    assert outcomes.pop(Path(WITHOUT_HASH).name) == "no hash"
    assert outcomes.pop(Path(BROKEN).name) == "in part"
    assert set(outcomes.values()) == {"indexed"}
    assert len(outcomes) == 3
    assert found[Path(BROKEN).name]["detail"]
    done = run_vbnfs("index", "export", tmp_path / "file", TABLE, WITHOUT_HASH, url, *VERSION)
    assert done.returncode == 0, done.stderr  # that a table has none is known
    [table] = sets_in((tmp_path / "file").read_bytes())
    assert (table.blocks, table.is_whole) == ((), True)


def test_files_that_cannot_be_read(server: FakeS3Server) -> None:
    """They are named with the reason, the others are indexed, and the status is 1."""
    url = f"--endpoint-url={server.endpoint_url}"
    assert run_vbnfs("index", "build", NAMES[0], url, *VERSION).returncode == 0
    server.behaviours.append(for_kind("get_range", lambda _request, _honest: error(403, "AccessDenied")))
    done = run_vbnfs("index", "build", *NAMES[:2], url, *VERSION)
    assert (done.returncode, done.stdout.split()[0], done.stdout.count("failed")) == (1, "known", 1), done.stdout
    assert f"vbnfs: 1 of 2 files not indexed, such as {NAMES[1]}: " in done.stderr
    assert "AccessDenied" in done.stderr
    done = run_vbnfs("index", "build", NAMES[0], "--offline", url)
    assert (done.returncode, done.stdout.split()[0]) == (0, "known"), done.stderr
    done = run_vbnfs("index", "export", "/dev/null", NAMES[1], url, *VERSION)
    assert "have no structure sets here" in done.stderr
    assert "'vbnfs index build PATH' makes them" in done.stderr


def test_an_index_that_cannot_be_kept(server: FakeS3Server, tmp_path: Path) -> None:
    """A disk that takes no more, or an index that is full: the files are named as failed, and the status is 1."""
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "structure-v1").write_bytes(b"")  # in the place of the folder
    done = run_vbnfs("index", "build", *NAMES[:2], f"--endpoint-url={server.endpoint_url}")
    assert (done.returncode, done.stdout.count("failed")) == (1, 2), done.stdout
    assert "vbnfs: 2 of 2 files not indexed, such as " in done.stderr
    assert "the index in the cache cannot be written: Not a directory" in done.stderr


def test_what_cannot_be_used_is_shown_as_a_warning(server: FakeS3Server, tmp_path: Path) -> None:
    """`index show` says so of a file and a URL that are no index, and of S3 that is not reached, in words alone."""
    url = f"--endpoint-url={server.endpoint_url}"
    for index, reason in (
        (str(tmp_path / "none"), "No such file or directory"),
        (__file__, "no structure index, which 'vbnfs index export' writes"),
        (f"{server.endpoint_url}/none", ""),
    ):
        done = run_vbnfs("index", "show", "ecephys_sessions", "--index", index, url)
        assert done.returncode == 0, done.stderr
        warning, summary = done.stderr.splitlines()
        assert warning.startswith(f"vbnfs: warning: index {index}: ")
        assert warning.endswith("; files are read without it")
        assert reason in warning
        assert summary == "0 of 3 files in the index"
    server.stop()
    done = run_vbnfs("index", "show", "ecephys_sessions", url)
    assert done.stderr.startswith("vbnfs: warning: "), done.stderr
    assert "level=" not in done.stderr


def test_what_is_asked_wrongly(server: FakeS3Server) -> None:
    """Without any file, or with too many words for it: status 2; a path without files of the dataset: status 1."""
    url = f"--endpoint-url={server.endpoint_url}"
    for arguments in ([], ["--all", NAMES[0]], ["--all", *VERSION]):
        done = run_vbnfs("index", "build", *arguments, url)
        assert (done.returncode, "--all" in done.stderr) == (2, True), done.stderr
    done = run_vbnfs("index", "build", "README.txt", url)
    assert (done.returncode, "no file of a dataset is there" in done.stderr) == (1, True), done.stderr


def test_files_that_are_no_index(tmp_path: Path) -> None:
    """The message names the place and the remedy; what stands before it was imported; refused is what contradicts."""
    good = StructureSet("ab" * 64, 10 * BLOCK_BYTES, (0, 4), is_whole=True)
    file, other = tmp_path / "file", f"--cache-dir={tmp_path / 'other'}"
    file.write_bytes(good.encode() + good.encode()[:-1])
    done = run_vbnfs("index", "import", file, other)
    assert (done.returncode, done.stdout) == (1, "")
    assert "at byte 136: cut short, or damaged; the structure sets of 1 file before it were imported" in done.stderr
    for data, reason in (
        (b"{}" * 100, "at byte 0: no structure sets begin there: 'vbnfs index export' writes such a file anew"),
        (b"vbnfsdg1" + good.encode()[8:], "no structure sets begin there"),
        (
            good.encode()[:84] + (10**6).to_bytes(4, "little") + good.encode()[88:],
            "1,000,000 blocks of a file; at most",
        ),
        (StructureSet("ab" * 64, 10 * BLOCK_BYTES, (0, 10)).encode(), "block 10 of a file of 10 blocks"),
    ):
        file.write_bytes(data)
        done = run_vbnfs("index", "import", file, other)
        assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
        assert "see " in done.stderr
    StructureIndex(tmp_path / "other").record(good)
    file.write_bytes(StructureSet("ab" * 64, 11 * BLOCK_BYTES, (0, 4)).encode())
    done = run_vbnfs("index", "import", file, other)
    assert "other structure sets of 1 of 1 files are proven here, and stay: they are about" in done.stderr
    done = run_vbnfs("index", "import", tmp_path / "none", other)
    assert (done.returncode, "none: cannot be read: No such file or directory" in done.stderr) == (1, True)


@pytest.mark.parametrize("name", ["build", "show", "export", "import"])
def test_the_help_fits_a_screen(name: str) -> None:
    """Each has at most 24 lines of 80 columns, and ends with the way to the settings."""
    shown = CliRunner().invoke(cli, ["index", name, "--help"], prog_name="vbnfs", terminal_width=80).output
    lines = shown.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1].strip() == "'vbnfs settings' shows all settings, 'vbnfs settings --help' their options."
