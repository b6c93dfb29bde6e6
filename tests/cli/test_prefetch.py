"""`vbnfs prefetch`: what it takes, what it says before, that it goes on where it was, and that all of it is good."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import FakeDataset, serve
from tests.fakes.s3_server import FakeS3Server, Reply, Request, error
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.access.dataset import open_dataset
from vbnfs.access.door import opened
from vbnfs.access.filling import Progress
from vbnfs.access.versions import load_versions
from vbnfs.access.wanted import Wanted, find
from vbnfs.cache.inventory import scan
from vbnfs.cli.progress import line_of, time_text
from vbnfs.cli.running import open_tables
from vbnfs.config.settings import MIB
from vbnfs.config.sources import load_config

SIZES = {
    "project_metadata/ecephys_sessions.csv": 1000,
    "project_metadata/units.csv": 2 * MIB,
    **{f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb": 5 * MIB + n for n in (11, 12)},
    **{f"behavior_ecephys_sessions/{n}/probe_probe{p}_lfp.nwb": 3 * MIB + n for n in (11, 12) for p in "AB"},
    "behavior_only_sessions/21/behavior_session_21.nwb": MIB,
}
LFP = [path for path in SIZES if "lfp" in path]
NOT_LFP = [path for path in SIZES if "lfp" not in path]


def pattern(path: str) -> Pattern:
    return Pattern(SIZES[path], seed=list(SIZES).index(path))


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    """Two sessions, the LFP of two probes each, one without recordings, and two tables."""
    dataset = FakeDataset()
    dataset.publish("0.5.0", {path: pattern(path) for path in SIZES})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of it, which the commands ask."""
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def fetch(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """What the command says of each file, with the last part of the path first."""
    done = run_vbnfs("prefetch", "--json", *arguments)
    assert done.returncode == status, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def sizes_in(tmp_path: Path) -> list[int]:
    """The lengths of the files that are whole in the cache."""
    return sorted(path.stat().st_size for path in tmp_path.glob("cache/blocks-v2/*/whole/*/*/data"))


def sizes_of(*paths: str) -> list[int]:
    return sorted(SIZES[path] for path in paths)


ONE, TWO = (f"behavior_ecephys_sessions/{n}" for n in (11, 12))
CHOICES: list[tuple[Wanted, list[str]]] = [
    (Wanted(("project_metadata",)), [path for path in SIZES if ".csv" in path]),
    (Wanted((".",)), NOT_LFP),
    (Wanted(("0.5.0",)), NOT_LFP),
    (Wanted((ONE,)), [path for path in NOT_LFP if ONE in path]),
    (Wanted((ONE,), lfp="A"), [path for path in SIZES if ONE in path and "probeB" not in path]),
    (
        Wanted((ONE, f"{TWO}/probe_probeB_lfp.nwb")),
        [p for p in SIZES if (ONE in p and p in NOT_LFP) or "12/probe_probeB" in p],
    ),
    (Wanted(("ecephys_sessions/ecephys_session_12.nwb",)), [path for path in NOT_LFP if TWO in path]),
    (Wanted(sessions="all"), [path for path in NOT_LFP if "only" not in path]),
    (Wanted(sessions="all", lfp="yes"), [path for path in SIZES if "only" not in path]),
    (Wanted(behavior_only="all"), [path for path in SIZES if "only" in path or ".csv" in path]),
]


@pytest.mark.usefixtures("server")
def test_what_is_chosen() -> None:
    """Just what is named is; LFP only where it is asked for, or named by itself."""
    with opened(open_dataset(load_config(command_line={}))) as dataset:
        versions = dataset.run(load_versions, dataset.value)
        for wanted, paths in CHOICES:
            found = dataset.run(find, versions, wanted, open_tables(versions))
            chosen = [node.source.key.partition("/")[2] for _, node in found.files]
            assert sorted(chosen) == sorted(paths), wanted
            left_out = {node.source.key.partition("/")[2] for node in found.left_out}
            assert left_out <= set(LFP) - set(paths)


@pytest.mark.usefixtures("server")
def test_what_is_fetched(tmp_path: Path) -> None:
    """Just what was chosen is in the cache: all of it whole, and good."""
    found = fetch("behavior_ecephys_sessions", "--lfp", "A")
    assert {finding["outcome"] for finding in found} == {"good"}
    assert sizes_in(tmp_path) == sizes_of(*(p for p in SIZES if "ecephys_sessions/" in p and "probeB" not in p))


def test_a_dry_run(server: FakeS3Server, tmp_path: Path) -> None:
    """It says what would be fetched and left out, what room there is, and how long it takes once that is known."""
    done = run_vbnfs("prefetch", "--sessions", "all", "--dry-run")
    assert (done.returncode, server.count("get_range")) == (0, 0)
    assert done.stderr == "vbnfs: LFP is left out: 4 files, 12.0 MiB; '--lfp yes' takes it too\n"
    assert done.stdout.startswith("0.5.0: 4 files, 12.0 MiB; 12.0 MiB to fetch\nroom: 100.0 GiB in the cache, ")
    assert done.stdout.endswith("time: not known before a first fetch of 8 MiB or more\n")
    assert fetch("--sessions", "all")
    done = run_vbnfs("prefetch", "--sessions", "all", "--lfp", "yes", "--dry-run")
    assert done.stderr == ""
    assert done.stdout.startswith("0.5.0: 8 files, 24.0 MiB; 4 of them are complete; 12.0 MiB to fetch\n")
    assert re.search(r"time: about \d+ s, at the \S+ [KMG]iB/s of the last fetch\n$", done.stdout)
    done = run_vbnfs("prefetch", ".", "--lfp", "yes", "--dry-run", "--json", "--limit-rate", "1M")
    plan = json.loads(done.stdout)
    assert (plan["files"], plan["whole_files"], plan["left_out_files"]) == (9, 4, 0)
    assert (plan["rate_bytes"], plan["is_limited"]) == (MIB, True)
    assert plan["seconds"] == pytest.approx(plan["missing_bytes"] / MIB, abs=0.1)
    assert plan["room_bytes"] == 100 << 30
    assert sizes_in(tmp_path) == sizes_of(*(path for path in NOT_LFP if "only" not in path))


def test_what_is_here_is_not_asked_for(server: FakeS3Server, tmp_path: Path) -> None:
    """Nor read again: a second run asks for no range; nor does one without network, which says what is lacking."""
    fetch("behavior_ecephys_sessions/11")
    fetched = server.body_bytes
    server.forget_requests()
    assert [one["outcome"] for one in fetch("behavior_ecephys_sessions/11")] == ["good"]
    assert server.count("get_range") == 0
    server.stop()
    assert [one["outcome"] for one in fetch("behavior_ecephys_sessions/11", "--offline")] == ["good"]
    lacking = fetch("behavior_ecephys_sessions", "--offline", status=1)
    assert sorted(one["outcome"] for one in lacking) == ["failed", "good"]
    assert fetched < sum(SIZES.values())


def test_without_room_nothing_is_fetched(server: FakeS3Server) -> None:
    """The dry run ends as the real one does: status 1, with the figures and the remedy."""
    for trial in ([], ["--dry-run"]):
        done = run_vbnfs("prefetch", ".", "--cache-size", "8M", *trial)
        assert done.returncode == 1
        assert "13.0 MiB of files are to be kept, but the cache in" in done.stderr
        assert "may take 8.0 MiB: --cache-size 14M lets it take more, or name fewer files; nothing was" in done.stderr
    assert server.count("get_range") == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "nothing is named: name files, folders or a version, or --sessions QUERY"),
        (["--lfp", "x y", "."], 2, "--lfp x y: 'yes', 'no', or probes"),
        (["--name", "x", "."], 2, "add --pin"),
        (["--pin", "--name", "../x", "."], 2, "cannot name a pin"),
        (["--sessions", "sex =="], 2, "--sessions: character 7: the end: invalid syntax"),
        (["--sessions", "all", "--having-units", "snr >"], 2, "--having-units: character 6"),
        (["--behavior-only", "f(sex)"], 2, "--behavior-only: character 1: f(sex): no calls are taken"),
        (["--lfp", "Z,q", "."], 2, "--lfp Z,q: there is LFP of A, B"),
        (["nothing/here"], 1, "nothing/here: not in the dataset; name a path in it"),
        (["12"], 1, f"12: not in the dataset by this name alone: name {TWO}"),
        (["ecephys_session_12.nwb"], 1, f"by this name alone: name {TWO}/ecephys_session_12.nwb"),
        (["--dataset-version", "7", "."], 1, "there is no dataset version 7"),
        (["README.txt"], 1, "nothing to fetch: what is named is none of the released files"),
        (["behavior_ecephys_sessions/*lfp*"], 1, "not in the dataset"),
    ],
)
@pytest.mark.usefixtures("server")
def test_what_is_refused(arguments: list[str], status: int, message: str) -> None:
    """By a message that names the thing."""
    done = run_vbnfs("prefetch", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr


def test_a_file_that_cannot_be_had(server: FakeS3Server) -> None:
    """The others are fetched; it is named with the reason, and the status is 1."""

    def deny(request: Request, honest: Reply) -> Reply | None:
        return error(403, "AccessDenied") if "units.csv" in request.path and request.kind == "get_range" else None

    server.behaviours = [deny]
    done = run_vbnfs("prefetch", "--sessions", "all")
    assert done.returncode == 1
    [line] = done.stdout.splitlines()[:-1]
    assert line.startswith("failed       manifests/v0.5.0/project_metadata/units.csv: ")
    assert done.stdout.splitlines()[-1] == "3 of 4 files good, 10.0 MiB, 1 failed"
    assert "1 of 4 files not verified and kept" in done.stderr


def test_a_file_without_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched whole, and named as one of which no manifest has a hash: that is no failure."""
    dataset = FakeDataset()
    dataset.publish_entries("0.1.0", {"a.nwb": {**dataset.entry("a.nwb", Pattern(MIB + 1)), "file_hash": ""}})
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        assert [one["outcome"] for one in fetch("a.nwb")] == ["no hash"]
        assert sizes_in(tmp_path) == [MIB + 1]


def test_bytes_that_are_wrong(server: FakeS3Server, tmp_path: Path) -> None:
    """A file that comes with another hash than the manifest's is a mismatch, and is not kept."""

    def damage(request: Request, honest: Reply) -> Reply | None:
        if "units.csv" not in request.path or request.kind != "get_range":
            return None
        return replace(honest, body=bytes(len(honest.body)))

    server.behaviours = [damage]
    found = fetch("project_metadata", status=1)
    assert {one["path"].rpartition("/")[2]: one["outcome"] for one in found} == {
        "ecephys_sessions.csv": "good",
        "units.csv": "mismatch",
    }
    assert sizes_in(tmp_path) == [1000]


# How far it is


def test_times_and_lines() -> None:
    """A time is as exact as an estimate is; a line has files, bytes, rate and the time that is left."""
    texts = [time_text(seconds) for seconds in (0.2, 59, 99, 100, 3600, 7260, 100_000)]
    assert texts == ["1 s", "59 s", "99 s", "2 min", "60 min", "2 h 01 min", "27 h 47 min"]
    progress = Progress(files=20, count_bytes=100 * MIB, done_files=3, done_bytes=40 * MIB)
    text = line_of(progress, 4.0)
    assert text == "3 of 20 files, 40.0 MiB of 100.0 MiB fetched, 10.0 MiB/s, 6 s left"


def test_a_terminal_has_a_bar_and_ctrl_c_says_how_to_go_on(server: FakeS3Server, tmp_path: Path) -> None:
    """The bar has files, bytes and rate. After Ctrl-C what came is kept; the same command fetches the rest only."""
    server.behaviours = [always_slow]
    main, side = pty.openpty()
    words = [sys.executable, "-m", "vbnfs", "prefetch", "--sessions", "all"]
    with subprocess.Popen(words, stderr=side, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:
        os.close(side)
        shown = b""
        while not re.search(rb"[01]/4 files \S+ [KM]iB/12.0 MiB \S+ [KM]iB/s \d+ s", shown):
            shown += os.read(main, 4096)
        while sum(one.allocated_bytes for one in scan(tmp_path / "cache")) < MIB:
            shown += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # of a terminal without a program
            while piece := os.read(main, 4096):
                shown += piece
        assert process.wait() == 130
    os.close(main)
    assert b"run the same command again, and it goes on from here" in shown
    server.behaviours = []
    before, wanted = server.body_bytes, sum(SIZES[path] for path in NOT_LFP if "only" not in path)
    fetch("--sessions", "all")
    assert server.body_bytes - before < wanted
    assert sizes_in(tmp_path) == sizes_of(*(path for path in NOT_LFP if "only" not in path))


def always_slow(request: Request, honest: Reply) -> Reply | None:
    """Ranges come slowly: 1 MiB a second each."""
    return replace(honest, bytes_per_second=MIB) if request.kind == "get_range" else None


def test_a_table_that_names_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions cannot be chosen by a table without `file_id`: the commands say so, and what to do."""
    files = {"project_metadata/ecephys_sessions.csv": b"ecephys_session_id,sex\n11,F\n"}
    with serve({"0.5.0": files}) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        for command in ("prefetch", "cite"):
            done = run_vbnfs(command, "--sessions", "sex == 'F'")
            assert done.returncode == 1
            assert "ecephys_sessions: the table names no files of its rows; name the files by" in done.stderr
