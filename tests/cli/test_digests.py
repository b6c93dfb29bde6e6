"""`vbnfs digests`: from one cache into a file, and from the file into another cache."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.dataset import FakeDataset
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.cache.digests import DigestSet, DigestStore, read_set
from vbnfs.cli import sets
from vbnfs.cli.digests import DIGESTS
from vbnfs.cli.main import cli

SESSIONS = {f"ecephys_sessions/ecephys_session_{n}.nwb": Pattern(600_000 + n, seed=n) for n in range(1, 4)}
NAMES = list(SESSIONS)
WITHOUT_HASH = "notes/unhashed.nwb"


def hash_of(name: str) -> str:
    data = SESSIONS[name]
    return hashlib.blake2b(data[: len(data)]).hexdigest()


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two versions: one of three sessions, and a file without a hash; one of the first session alone."""
    dataset = FakeDataset()
    entries = {name: dataset.entry(name, data) for name, data in SESSIONS.items()}
    entries[WITHOUT_HASH] = {**dataset.entry(WITHOUT_HASH, b"what?"), "file_hash": ""}
    dataset.publish_entries("0.2.0", entries)
    dataset.publish("0.1.0", {NAMES[0]: SESSIONS[NAMES[0]]})
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture
def url(server: FakeS3Server) -> str:
    """The server's option. The cache has hashed the first two sessions."""
    url = f"--endpoint-url={server.endpoint_url}"
    done = run_vbnfs("verify", "--fetch", *NAMES[:2], url)
    assert done.returncode == 0, done.stderr
    return url


def sets_in(file: Path) -> list[DigestSet]:
    opened, found = io.BytesIO(file.read_bytes()), list[DigestSet]()
    while (one := read_set(opened)) is not None:
        found.append(one)
    return found


def test_from_one_cache_into_another(server: FakeS3Server, url: str, tmp_path: Path) -> None:
    """What one cache has hashed lets another find a wrong block as it comes; then it has proofs of its own."""
    file, other = tmp_path / "file", f"--cache-dir={tmp_path / 'other'}"
    done = run_vbnfs("digests", "export", file)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{file}  2 files, 352 B\n")
    for new in (2, 0):
        done = run_vbnfs("digests", "import", file, other)
        assert (done.returncode, done.stdout) == (0, f"{file}  2 files, 352 B; {new} of them new here\n")
    server.behaviours.append(Damaged(NAMES[0], at=1_000, times=1))
    assert "mismatch" not in run_vbnfs("verify", "--fetch", NAMES[0], url, other).stdout
    assert {path.name for path in (tmp_path / "other" / "digests-v1" / "proven").glob("*/*")} == {hash_of(NAMES[0])}
    server.behaviours.append(Damaged(NAMES[1], at=1_000, times=1_000))
    done = run_vbnfs("verify", "--fetch", NAMES[1], url, other)
    assert (done.returncode, done.stdout.split()[0]) == (1, "mismatch")  # a claim alone refuses nothing for good


def test_an_export_is_the_same_each_time(url: str, tmp_path: Path) -> None:
    """The sets stand in the order of the hashes, and an import followed by hashing gives the same bytes."""
    one, other = tmp_path / "one", tmp_path / "other"
    assert run_vbnfs("digests", "export", one).returncode == 0
    assert [found.file_hash for found in sets_in(one)] == sorted(map(hash_of, NAMES[:2]))
    elsewhere = f"--cache-dir={tmp_path / 'elsewhere'}"
    assert run_vbnfs("digests", "import", one, elsewhere).returncode == 0
    assert run_vbnfs("digests", "export", other, elsewhere).stdout == f"{other}  0 files, 0 B\n"  # claims are not
    assert run_vbnfs("verify", "--fetch", NAMES[1], NAMES[0], url, elsewhere).returncode == 0
    assert run_vbnfs("digests", "export", other, elsewhere).returncode == 0
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "one" in path.name) == ["one"]


def test_what_is_exported_is_what_is_named(url: str, tmp_path: Path) -> None:
    """A file, a folder or a version; files without digests are counted, and the others are in the file."""
    file = tmp_path / "file"
    for arguments in ([NAMES[0]], ["0.1.0"], ["--dataset-version", "0.1.0"]):
        done = run_vbnfs("digests", "export", file, *arguments, url)
        assert (done.returncode, done.stdout) == (0, f"{file}  1 file, 176 B\n"), done.stderr
        assert [found.file_hash for found in sets_in(file)] == [hash_of(NAMES[0])]
    done = run_vbnfs("digests", "export", file, "ecephys_sessions", "--dataset-version", "0.2.0", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 of 3 files have no digests here, such as" in done.stderr
    assert "'vbnfs verify --fetch PATH' makes them" in done.stderr
    assert f"; those of the others are in {file}" in done.stderr
    assert len(sets_in(file)) == 2
    [lacking] = set(NAMES) - {name for name in NAMES if hash_of(name) in {one.file_hash for one in sets_in(file)}}
    done = run_vbnfs("digests", "export", file, lacking, "--dataset-version", "0.2.0", url)
    assert (done.returncode, f"; {file} has none\n" in done.stderr) == (1, True), done.stderr
    done = run_vbnfs("digests", "export", file, WITHOUT_HASH, url)
    assert (done.returncode, "no file with a hash is there" in done.stderr) == (1, True)


def test_a_file_that_is_torn(url: str, tmp_path: Path) -> None:
    """The message names the place and the remedy; what stands before it was imported."""
    file, other = tmp_path / "file", f"--cache-dir={tmp_path / 'other'}"
    assert run_vbnfs("digests", "export", file).returncode == 0
    file.write_bytes(file.read_bytes()[:-1])
    done = run_vbnfs("digests", "import", file, other)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f"vbnfs: {file}: at byte 176: cut short, or damaged; the digests of 1 file before it were imported"
        in done.stderr
    )
    assert len(list((tmp_path / "other" / "digests-v1" / "imported").glob("*/*"))) == 1
    file.write_bytes(b"{}" * 100)
    done = run_vbnfs("digests", "import", file, other)
    assert "at byte 0: no digests begin there: 'vbnfs digests export' writes such a file" in done.stderr


def test_digests_that_contradict_a_proof(url: str, tmp_path: Path) -> None:
    """They are refused, with status 1; what is proven stays."""
    store = DigestStore(tmp_path / "cache")
    right = store.proven(hash_of(NAMES[0]))
    assert right is not None
    file = tmp_path / "file"
    file.write_bytes(DigestSet(right.file_hash, right.size_bytes, right.digests[::-1]).encode())
    done = run_vbnfs("digests", "import", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert "other digests of 1 of 1 files are proven here, and stay" in done.stderr
    assert DigestStore(tmp_path / "cache").proven(right.file_hash) == right


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    """A file that is not there, a folder, and a place that cannot be written: status 1, and the reason."""
    for arguments, reason in (
        (["import", tmp_path / "none"], "none: cannot be read: No such file or directory"),
        (["import", tmp_path], "cannot be read: Is a directory"),
        (["export", tmp_path / "none" / "file"], "none/file: cannot be written: No such file or directory"),
        (["export", tmp_path], "cannot be written: Is a directory"),
    ):
        done = run_vbnfs("digests", *arguments)
        assert (done.returncode, done.stdout, reason in done.stderr) == (1, "", True), done.stderr
    (tmp_path / "cache" / "digests-v1" / "imported").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache" / "digests-v1" / "imported" / "aa").write_bytes(b"in the way")
    file = tmp_path / "file"
    file.write_bytes(DigestSet("aa" * 64, 1, bytes(16)).encode())
    done = run_vbnfs("digests", "import", file)
    assert (done.returncode, "digests cannot be kept there: Not a directory" in done.stderr) == (1, True), done.stderr


def test_work_that_takes_long_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds a note counts the files."""
    file, notes = tmp_path / "file", list[str]()
    file.write_bytes(b"".join(DigestSet(f"{n:0128x}", 1, bytes(16)).encode() for n in range(3)))
    monkeypatch.setattr(sets, "_NOTE_SECONDS", 0.0)
    monkeypatch.setattr(sets, "keep_others_out", lambda: None)  # of this process, which has other tests to run
    moved = sets.take_in(DIGESTS, tmp_path / "cache", file, note=notes.append)
    assert (moved.files, moved.new, notes) == (3, 3, ["1 file", "2 files", "3 files"])


@pytest.mark.parametrize("name", ["export", "import"])
def test_the_help_of_both_fits_a_screen(name: str) -> None:
    """Each has at most 24 lines of 80 columns, and ends with the way to the settings."""
    shown = CliRunner().invoke(cli, ["digests", name, "--help"], prog_name="vbnfs", terminal_width=80).output
    lines = shown.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1].strip() == "'vbnfs settings' shows all settings, 'vbnfs settings --help' their options."
