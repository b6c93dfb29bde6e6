"""`vbnfs export`: a folder that needs no network, and `vbnfs import` of it where there never was one."""

import hashlib
import json
import os
import pty
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cache.test_structure_sets import sets_in
from tests.fakes.dataset import PROJECT, FakeDataset, serve
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.hdf5.running import structured
from vbnfs.blocks import digest
from vbnfs.cache.digests import DigestSet, DigestStore

MIB = 1 << 20
SESSION = "behavior_ecephys_sessions/{0}/ecephys_session_{0}.nwb".format
LFP = "behavior_ecephys_sessions/{}/probe_probe{}_lfp.nwb".format
BEHAVIOR = "behavior_only_sessions/201/behavior_session_201.nwb"
OLD, NEW = f"{PROJECT}-0.1.0", f"{PROJECT}-0.2.0"


def data_of(name: str, size_bytes: int) -> bytes:
    return random.Random(name).randbytes(size_bytes)


SESSIONS = {SESSION(number): data_of(SESSION(number), 3 * MIB + number) for number in (101, 102)}
LFPS = {LFP(101, probe): data_of(LFP(101, probe), MIB) for probe in "AB"}
TABLES = {
    "project_metadata/ecephys_sessions.csv": b"ecephys_session_id,file_id,sex\n101,0,F\n102,1,M\n",
    "project_metadata/probes.csv": b"ecephys_probe_id,ecephys_session_id,file_id\n11,101,2\n12,101,3\n",
    "project_metadata/units.csv": b"unit_id,ecephys_session_id\n1,101\n",
}
FILES = {**SESSIONS, **LFPS, BEHAVIOR: data_of(BEHAVIOR, MIB), **TABLES}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two versions: in the second one, one session is another."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", FILES)
    dataset.publish("0.2.0", {**FILES, SESSION(102): data_of("another", 3 * MIB + 102)})
    with FakeS3Server(dataset.store) as server:
        yield server


def export(server: FakeS3Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_vbnfs("export", *arguments, "--endpoint-url", server.endpoint_url)


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many files became what."""
    found: list[dict[str, Any]] = json.loads(done.stdout)
    names = [one["outcome"] for one in found]
    return {name: names.count(name) for name in names}


def fetched(server: FakeS3Server) -> set[str]:
    """The names of the files of which bytes were fetched."""
    return {request.key.rpartition("/")[2] for request in server.requests if request.kind == "get_range"}


def files_in(top: Path) -> dict[str, bytes]:
    """The files of the dataset in a folder, by their paths."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.glob(f"{PROJECT}-*/**/*") if path.is_file()}


def below(top: str, *parts: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{top}/{name}": data for part in parts for name, data in part.items()}


# What is in the folder


def test_a_session_is_exported(server: FakeS3Server, tmp_path: Path) -> None:
    """The tables, the session that matches, the manifest as it was released, and nothing else; LFP if asked for.

    Others may read it, and files have the release's time. Once more, nothing is copied and nothing fetched.
    """
    out = tmp_path / "usb"
    done = export(server, out, "--sessions", "sex == 'F'", "--dataset-version", "0.1.0")
    assert (done.returncode, done.stdout) == (0, "4 files: 4 exported (3.0 MiB)\n"), done.stderr
    assert "LFP is left out: 2 files, 2.0 MiB; '--lfp yes' takes it too" in done.stderr
    session = {SESSION(101): FILES[SESSION(101)]}
    assert files_in(out) == below(OLD, TABLES, session)
    manifest = f"{PROJECT}_project_manifest_v0.1.0.json"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["README.txt", "_downloaded_data.json", manifest, "vbnfs-export", OLD]
    )
    assert json.loads((out / manifest).read_bytes())["manifest_version"] == "0.1.0"
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out, *out.rglob("*")) if path.is_dir()} == {0o755}
    server.forget_requests()
    done = export(server, out, "--sessions", "sex == 'F'", "--dataset-version", "0.1.0", "--lfp", "A", "--json")
    assert outcomes(done) == {"there": 4, "exported": 1}
    assert files_in(out) == below(OLD, TABLES, session, {LFP(101, "A"): LFPS[LFP(101, "A")]})
    assert fetched(server) == {"probe_probeA_lfp.nwb"}


@pytest.mark.slow
def test_paths_are_exported(server: FakeS3Server, tmp_path: Path) -> None:
    """Files that are named by path, in a flat folder too, stand where AllenSDK has them; the tables come along."""
    done = export(server, tmp_path / "usb", "ecephys_sessions/ecephys_session_101.nwb", BEHAVIOR)
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path / "usb") == below(NEW, TABLES, {name: FILES[name] for name in (SESSION(101), BEHAVIOR)})


@pytest.mark.slow
def test_a_path_of_another_version(server: FakeS3Server, tmp_path: Path) -> None:
    """A file that the exported version does not have is refused, with the way to export it."""
    done = export(server, tmp_path / "usb", f"manifests/v0.1.0/{SESSION(102)}")
    assert done.returncode == 2
    assert "not in dataset version 0.2.0" in done.stderr
    assert "--dataset-version" in done.stderr


@pytest.mark.slow
def test_two_versions(server: FakeS3Server, tmp_path: Path) -> None:
    """Two versions stand side by side, each complete; what both have is not fetched a second time."""
    out = tmp_path / "usb"
    for version in ("0.1.0", "0.2.0"):
        server.forget_requests()
        done = export(server, out, "--sessions", "all", "--dataset-version", version, "--json")
        assert outcomes(done) == {"exported": 5}
    assert fetched(server) == {"ecephys_session_102.nwb"}
    changed = {**SESSIONS, SESSION(102): data_of("another", 3 * MIB + 102)}
    assert files_in(out) == below(OLD, TABLES, SESSIONS) | below(NEW, TABLES, changed)


# Import, where there never was a network


def test_import_without_network(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that never reached S3 takes the folder in: files proven by hash, digests, and all versions' names.

    A mount there has all versions, and reads what was exported.
    """
    out, elsewhere = tmp_path / "usb", tmp_path / "elsewhere"
    assert export(server, out, "--sessions", "all").returncode == 0
    url = server.endpoint_url
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(elsewhere))
    monkeypatch.setenv("VBNFS_OFFLINE", "true")
    requests = len(server.requests)
    done = run_vbnfs("import", out, "--endpoint-url", url, "--json")
    assert done.returncode == 0, done.stderr
    assert outcomes(done) == {"taken": 5, "unknown": 3}
    hashes = {hashlib.blake2b(data).hexdigest() for data in files_in(out).values()}
    assert set(DigestStore(elsewhere).proven_hashes()) == hashes
    mount = mounts(url)
    assert sorted(path.name for path in (mount.path / "manifests").iterdir()) == ["latest", "v0.1.0", "v0.2.0"]
    assert (mount.path / SESSION(101)).read_bytes() == FILES[SESSION(101)]
    assert (mount.path / "manifests/v0.1.0" / SESSION(101)).read_bytes() == FILES[SESSION(101)]
    assert (mount.path / LFP(101, "A")).stat().st_size == MIB  # known, and not here
    with pytest.raises(OSError, match="unreachable"):
        (mount.path / LFP(101, "A")).read_bytes()
    assert os.getxattr(mount.path / SESSION(101), "user.vbnfs.verified").startswith(b"blake2b:")
    assert len(server.requests) == requests


@pytest.mark.slow
def test_an_older_cache_learns_of_versions(server: FakeS3Server, tmp_path: Path) -> None:
    """A cache that knows some versions, and does not reach S3, learns of the others. Later on S3 is asked again."""
    assert export(server, tmp_path / "usb", BEHAVIOR).returncode == 0
    elsewhere, url = f"--cache-dir={tmp_path / 'elsewhere'}", f"--endpoint-url={server.endpoint_url}"

    def versions(*more: str) -> list[str]:
        return [one["version"] for one in json.loads(run_vbnfs("versions", "--json", elsewhere, url, *more).stdout)]

    catalog = tmp_path / "usb" / "vbnfs-export" / "catalog.json"
    document = json.loads(catalog.read_bytes())
    document["manifests"] = document["manifests"][:1]
    first, whole = json.dumps(document).encode(), catalog.read_bytes()
    for written, known in ((first, ["0.1.0"]), (whole, ["0.1.0", "0.2.0"])):
        catalog.write_bytes(written)
        assert run_vbnfs("import", tmp_path / "usb", elsewhere, url, "--offline").returncode == 0
        assert sorted(versions("--offline")) == known
    server.forget_requests()
    assert sorted(versions()) == ["0.1.0", "0.2.0"]
    assert server.count("list_objects") == 1
    assert server.count("get_object") == 2  # both manifests, which nothing had proven


@pytest.mark.slow
def test_a_manifest_that_is_wrong(server: FakeS3Server, tmp_path: Path) -> None:
    """A manifest in an exported folder that is damaged costs its version; the others are taken in."""
    out = tmp_path / "usb"
    assert export(server, out, BEHAVIOR).returncode == 0
    manifest = out / "vbnfs-export" / "manifests" / f"{PROJECT}_project_manifest_v0.2.0.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"https://", b"https+//"))
    url, elsewhere = f"--endpoint-url={server.endpoint_url}", f"--cache-dir={tmp_path / 'elsewhere'}"
    done = run_vbnfs("import", out, url, elsewhere, "--offline", "--json")
    assert outcomes(done) == {"taken": 4, "unknown": 3}
    done = run_vbnfs("versions", "--json", url, elsewhere, "--offline")
    assert [one["version"] for one in json.loads(done.stdout)] == ["0.1.0"]


# Before anything is copied


def test_a_dry_run(server: FakeS3Server, tmp_path: Path) -> None:
    """It says how much would be copied and fetched, and leaves no trace."""
    out = tmp_path / "usb"
    done = export(server, out, "--sessions", "all", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.2.0: 5 files, 6.0 MiB; 6.0 MiB to copy\n")
    assert "free; 6.0 MiB to fetch" in done.stdout
    assert not out.exists()
    assert export(server, out, SESSION(101)).returncode == 0
    done = export(server, out, "--sessions", "all", "--lfp", "B", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert (plan["files"], plan["there_files"], plan["left_out_files"]) == (6, 4, 1)
    assert (plan["copied_bytes"], plan["missing_bytes"]) == (4 * MIB + 102, 4 * MIB + 102)


def test_offline(server: FakeS3Server, tmp_path: Path) -> None:
    """Without network what the cache lacks is named, and nothing is copied; what it has whole is exported."""
    url = f"--endpoint-url={server.endpoint_url}"
    assert run_vbnfs("prefetch", "project_metadata", SESSION(101), url).returncode == 0
    done = export(server, tmp_path / "usb", "--sessions", "all", "--offline")
    assert done.returncode == 1
    assert done.stdout == f"not here  {NEW}/{SESSION(102)}\n"
    assert "1 of 5 files are not whole in the cache, and S3 is not asked" in done.stderr
    assert not (tmp_path / "usb").exists()
    done = export(server, tmp_path / "usb", "--sessions", "sex == 'F'", "--offline")
    assert (done.returncode, done.stdout) == (0, "4 files: 4 exported (3.0 MiB)\n"), done.stderr


@pytest.mark.slow
def test_nothing_is_named(server: FakeS3Server, tmp_path: Path) -> None:
    """Without sessions or paths it is a wrong command line; sessions that no row matches are none."""
    assert export(server, tmp_path / "usb").returncode == 2
    done = export(server, tmp_path / "usb", "--sessions", "sex == 'X'")
    assert done.returncode == 1
    assert "no session matches" in done.stderr
    assert not (tmp_path / "usb").exists()


def test_folders_that_are_refused(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A mount, the cache's folder, a file, and a folder whose disk is not there are refused by name."""
    mount = mounts(server.endpoint_url)
    (tmp_path / "file").touch()
    refused = {
        mount.path / "usb": "which can only be read",
        tmp_path / "cache" / "usb": "in the cache's own folder",
        tmp_path / "file": "is not a folder",
        tmp_path / "no" / "disk": "mount the disk that is meant",
    }
    for folder, reason in refused.items():
        done = export(server, folder, BEHAVIOR)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
        assert str(folder) in done.stderr
    mount.umount()


@pytest.mark.slow
def test_another_dataset(server: FakeS3Server, tmp_path: Path) -> None:
    """A folder that has one dataset does not take another one."""
    assert export(server, tmp_path / "usb", BEHAVIOR).returncode == 0
    catalog = tmp_path / "usb" / "vbnfs-export" / "catalog.json"
    catalog.write_bytes(catalog.read_bytes().replace(b'"project": "visual', b'"project": "other'))
    done = export(server, tmp_path / "usb", SESSION(101))
    assert done.returncode == 1
    assert "it has files of other-behavior-neuropixels" in done.stderr


# Interrupted, and what is there already


def holding(gate: threading.Event, name: str) -> Any:
    """The server sends half of each range of a file, and the rest when the gate opens."""

    def hold(request: Request, honest: Reply) -> Reply | None:
        is_held = request.kind == "get_range" and request.key.endswith(name)
        return replace(honest, gate=gate, gate_after=len(honest.body) // 2) if is_held else None

    return hold


def start(server: FakeS3Server, *arguments: str | Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "vbnfs", "export", *map(str, arguments), "--endpoint-url", server.endpoint_url]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_interrupted(server: FakeS3Server, tmp_path: Path, how: signal.Signals) -> None:
    """Whatever ends it, no file has its name that is not whole; the same command goes on from there.

    While one process fills the folder, another is refused.
    """
    out, gate = tmp_path / "usb", threading.Event()
    server.behaviours = [holding(gate, "session_102.nwb")]
    process = start(server, out, "--sessions", "all")
    try:
        until(lambda: len(files_in(out)) == 4 and len(list((out / "vbnfs-export").glob("*.part"))) == 1)
        done = export(server, out, BEHAVIOR)
        assert done.returncode == 1
        assert "another vbnfs exports to it now" in done.stderr
    finally:
        process.send_signal(how)
        _, printed = process.communicate(timeout=60)
        gate.set()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert b"run the same command again, and it goes on from here" in printed
    server.behaviours = []
    whole = {**SESSIONS, SESSION(102): data_of("another", 3 * MIB + 102)}
    assert files_in(out).items() < below(NEW, TABLES, whole).items()
    before = {path: path.stat().st_ino for path in out.rglob("*.nwb")}
    server.forget_requests()
    assert outcomes(export(server, out, "--sessions", "all", "--json")) == {"there": 4, "exported": 1}
    assert files_in(out) == below(NEW, TABLES, whole)
    assert fetched(server) <= {"ecephys_session_102.nwb"}
    assert before.items() <= {path: path.stat().st_ino for path in out.rglob("*.nwb")}.items()
    assert list((out / "vbnfs-export").glob("*.part")) == []


@pytest.mark.slow
def test_a_terminal_has_a_bar(server: FakeS3Server, tmp_path: Path) -> None:
    """The bar has files, bytes and the verb; results go to standard output."""
    gate = threading.Event()
    server.behaviours = [holding(gate, "session_102.nwb")]
    main, side = pty.openpty()
    words = [sys.executable, "-m", "vbnfs", "export", tmp_path / "usb", "--sessions", "all"]
    words += ["--endpoint-url", server.endpoint_url]
    with subprocess.Popen(words, stderr=side, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        os.close(side)
        shown = b""
        while not re.search(rb"exporting .*4/5 files 3\.0 MiB/6\.0 MiB", shown):
            shown += os.read(main, 4096)
        gate.set()
        with suppress(OSError):  # of a terminal without a program
            while os.read(main, 4096):
                pass
        assert process.stdout is not None
        assert process.stdout.read() == b"5 files: 5 exported (6.0 MiB)\n"
    os.close(main)


def test_files_that_are_there(server: FakeS3Server, tmp_path: Path) -> None:
    """A file of another tool is hashed: it stays if it is right. One that is cut short or changed is replaced."""
    out = tmp_path / "usb"
    right, short, changed = (out / NEW / name for name in (SESSION(101), BEHAVIOR, LFP(101, "A")))
    for path, data in ((right, FILES[SESSION(101)]), (short, b"cut"), (changed, bytes(MIB))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    link = out / NEW / LFP(101, "B")
    link.symlink_to(changed)
    inode = right.stat().st_ino
    (out / "README.txt").write_text("mine")
    arguments = (SESSION(101), BEHAVIOR, LFP(101, "A"), LFP(101, "B"))
    done = export(server, out, *arguments, "--json")
    assert outcomes(done) == {"there": 1, "replaced": 3, "exported": 3}
    assert files_in(out) == below(NEW, TABLES, {name: FILES[name] for name in arguments})
    assert right.stat().st_ino == inode
    assert (out / "README.txt").read_text() == "mine"
    assert not link.is_symlink()
    done = export(server, out, *arguments)
    assert done.stdout == "7 files: 7 there (6.0 MiB)\n"
    changed.write_bytes(bytes(MIB))  # by another program, after it was exported
    done = export(server, out, *arguments)
    assert done.stdout.splitlines()[0] == f"replaced  {NEW}/{LFP(101, 'A')}"
    assert changed.read_bytes() == FILES[LFP(101, "A")]


def test_no_link_is_followed(server: FakeS3Server, tmp_path: Path) -> None:
    """A link in the folder, such as a shared disk may have, is refused by name; what it leads to stays as it is.

    So is another file in the place of the digests; and of the files in `vbnfs-export` only an export's
    own parts are deleted.
    """
    out, mine = tmp_path / "usb", tmp_path / "mine"
    mine.mkdir()
    files = {"thesis.tex": b"my thesis\n" * 1000, "download.part": b"half a download", f"{'0' * 16}.part": b"mine"}
    for name, data in files.items():
        (mine / name).write_bytes(data)
        (mine / name).chmod(0o600)

    def refused(place: str, target: Path, words: str = "a symbolic link, which an export does not follow") -> None:
        path = out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target) if path != target else path.write_bytes(files["thesis.tex"])
        done = export(server, out, BEHAVIOR)
        assert (done.returncode, done.stdout, f"{path}: {words}" in done.stderr) == (1, "", True), done.stderr
        assert {one.name: one.read_bytes() for one in mine.iterdir()} == files
        assert {stat.S_IMODE(one.stat().st_mode) for one in mine.iterdir()} == {0o600}
        path.unlink()

    digests = out / "vbnfs-export" / "digests"
    refused("vbnfs-export/digests", mine / "thesis.tex")
    refused("vbnfs-export/digests", digests, "not what an export has written")
    digests.parent.rmdir()
    refused("vbnfs-export", mine)
    refused(NEW, mine)
    (out / "vbnfs-export" / "download.part").write_bytes(b"mine")
    (out / "vbnfs-export" / f"{'0' * 16}.part").write_bytes(b"an earlier export's")
    (out / "vbnfs-export" / "structure-index").symlink_to(mine / "thesis.tex")
    done = export(server, out, BEHAVIOR)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (out / "vbnfs-export").glob("*.part")] == ["download.part"]
    assert {one.name: one.read_bytes() for one in mine.iterdir()} == files


def test_what_has_the_name_of_a_file(server: FakeS3Server, tmp_path: Path) -> None:
    """A pipe or a folder that is called README.txt is the user's own: it stays, and holds nothing up.

    A folder in the place of another file, or a file in that of a folder, is refused by name.
    """
    out = tmp_path / "usb"
    out.mkdir()
    os.mkfifo(out / "README.txt")
    assert export(server, out, BEHAVIOR).returncode == 0
    assert (out / "README.txt").is_fifo()
    (out / "README.txt").unlink()
    for name in ("README.txt", f"{PROJECT}_project_manifest_v0.2.0.json", "vbnfs-export/catalog.json", NEW):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(b"mine") if name == NEW else path.mkdir()
        done = export(server, out, BEHAVIOR)
        if name == "README.txt":
            assert done.returncode == 0, done.stderr
            continue
        words = "not a folder" if name == NEW else "a folder"
        assert (done.returncode, f"{path}: {words}, where" in done.stderr) == (1, True), done.stderr
        path.unlink() if name == NEW else path.rmdir()
    assert export(server, out, BEHAVIOR).returncode == 0


@pytest.mark.slow
def test_digests_come_along(server: FakeS3Server, tmp_path: Path) -> None:
    """The digests of all files are in the folder, as docs/digests.md has them, also behind a torn end."""
    out, url = tmp_path / "usb", f"--endpoint-url={server.endpoint_url}"
    assert export(server, out, SESSION(101)).returncode == 0
    with (out / "vbnfs-export" / "digests").open("ab") as file:
        file.write(b"vbnfsdg1 and no more")
    assert export(server, out, SESSION(101), BEHAVIOR).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    done = run_vbnfs("digests", "import", out / "vbnfs-export" / "digests", "--cache-dir", elsewhere)
    assert (done.returncode, "5 files" in done.stdout) == (0, True), done.stderr
    data = FILES[SESSION(101)]
    proven = DigestStore(tmp_path / "cache").proven(hashlib.blake2b(data).hexdigest())
    blocks = b"".join(digest(data[start : start + (256 << 10)]) for start in range(0, len(data), 256 << 10))
    assert proven == DigestSet(hashlib.blake2b(data).hexdigest(), len(data), blocks)
    assert run_vbnfs("verify", SESSION(101), url).returncode == 0


@pytest.mark.slow
def test_structure_comes_along(tmp_path: Path) -> None:
    """Where the structure of HDF5 files is, is found out as they are exported, and known where they are imported."""
    out, elsewhere = tmp_path / "usb", f"--cache-dir={tmp_path / 'elsewhere'}"
    data = structured() + bytes(7)
    with serve({"0.1.0": {SESSION(101): data, SESSION(102): structured(), **TABLES}}) as server:
        url = f"--endpoint-url={server.endpoint_url}"
        for name in (SESSION(101), SESSION(102)):
            assert export(server, out, name).returncode == 0
        [built] = json.loads(run_vbnfs("index", "show", SESSION(101), url, "--json").stdout)
        found = {
            one.file_hash: one.blocks for one in sets_in((out / "vbnfs-export" / "structure-index").read_bytes())
        }
        assert found[hashlib.blake2b(data).hexdigest()] == tuple(built["blocks"])
        assert hashlib.blake2b(structured()).hexdigest() in found
        assert run_vbnfs("import", out, url, elsewhere, "--offline").returncode == 0
        [known] = json.loads(run_vbnfs("index", "show", SESSION(101), url, elsewhere, "--offline", "--json").stdout)
        assert (known["blocks"], known["origin"]) == (built["blocks"], "imported")
        assert known["cached_bytes"] == known["structure_bytes"]


@pytest.mark.slow
def test_without_a_hash(tmp_path: Path) -> None:
    """A file of which the manifest has no hash is exported as it is, and the command says so. Its size decides."""
    dataset = FakeDataset()
    notes = "notes/unhashed.txt"
    entries = {name: dataset.entry(name, data) for name, data in TABLES.items()}
    dataset.publish_entries("0.1.0", {**entries, notes: {**dataset.entry(notes, b"what?"), "file_hash": ""}})
    with FakeS3Server(dataset.store) as server:
        done = export(server, tmp_path / "usb", notes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith(f"no hash   {OLD}/{notes}: the manifest has no hash of it")
        assert files_in(tmp_path / "usb") == below(OLD, TABLES, {notes: b"what?"})
        assert export(server, tmp_path / "usb", notes).stdout == "4 files: 4 there (147 B)\n"


def test_links_to_nothing(server: FakeS3Server, tmp_path: Path) -> None:
    """--link is refused where the disk shares no files and no mount has them, with both remedies."""
    done = export(server, tmp_path / "usb", BEHAVIOR, "--link")
    assert (done.returncode, done.stdout) == (1, "")
    for words in ("--link", "Btrfs or XFS", "vbnfs mount", "leave --link out"):
        assert words in done.stderr
    assert not (tmp_path / "usb").exists()


def test_links_to_a_mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """With a mount of the dataset files are symbolic links into it; nothing is fetched before it is read.

    Without --link they become copies.
    """
    mount = mounts(server.endpoint_url)
    server.forget_requests()
    out = tmp_path / "usb"
    done = export(server, out, "--sessions", "all", "--lfp", "yes", "--link", "--json")
    assert outcomes(done) == {"linked": 7}
    assert fetched(server) == set()
    link = out / NEW / SESSION(101)
    assert link.readlink() == mount.path / "manifests" / "v0.2.0" / SESSION(101)
    assert link.read_bytes() == FILES[SESSION(101)]
    assert outcomes(export(server, out, SESSION(101), "--link", "--json")) == {"there": 4}
    assert outcomes(export(server, out, SESSION(101), "--json")) == {"replaced": 4}
    assert link.read_bytes() == FILES[SESSION(101)]
    assert not link.is_symlink()
    mount.umount()
