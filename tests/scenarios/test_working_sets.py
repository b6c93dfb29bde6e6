"""Fetching beside a mount, and after a kill -9; what docs/working-sets.md shows, on a real S3 server."""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.code_blocks import blocks_of
from tests.fakes.cache_files import allocated_bytes
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.cli.examples import EXAMPLES
from vbnfs.config.settings import MIB
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

DOCUMENT = (Path(__file__).parents[2] / "docs" / "working-sets.md").read_text(encoding="utf-8")
LARGE = {f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb": 24 * MIB + n for n in (1, 2, 3)}
READ = "elsewhere/read.nwb"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of three sessions of 24 MiB, and of a file that is read meanwhile."""
    files = {path: Pattern(size, seed=size) for path, size in LARGE.items()}
    with serve({"0.5.0": {**files, READ: Pattern(4 * MIB, seed=99)}}) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def start(*arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "vbnfs", *arguments]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def whole(tmp_path: Path) -> list[int]:
    return sorted(path.stat().st_size for path in tmp_path.glob("cache/blocks-v2/*/whole/*/*/data"))


def test_kill_9(server: FakeS3Server, tmp_path: Path) -> None:
    """Killed midway, the same command goes on: both together fetch no more than 1.01 of the files' bytes."""
    gate, asked = threading.Event(), itertools.count()

    def hold(request: Request, honest: Reply) -> Reply | None:
        return replace(honest, gate=gate) if request.kind == "get_range" and next(asked) >= 12 else None

    server.behaviours = [hold]
    killed = start("prefetch", "behavior_ecephys_sessions")
    server.wait_until(lambda one: one.count("get_range") > 30)
    sent_bytes = server.body_bytes
    assert 4 * MIB < sent_bytes < sum(LARGE.values()) // 2
    until(lambda: allocated_bytes(tmp_path / "cache") > sent_bytes - MIB)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    server.behaviours = []
    before = server.body_bytes
    done = run_vbnfs("prefetch", "behavior_ecephys_sessions")
    assert done.returncode == 0, done.stderr
    assert whole(tmp_path) == sorted(LARGE.values())
    assert sent_bytes + server.body_bytes - before <= 1.01 * sum(LARGE.values())


def test_beside_a_mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The mount fetches and hashes, and no byte comes twice; its status counts it. A pin holds in it at once."""
    mount = mounts(server.endpoint_url)
    done = run_vbnfs("pin", "mine", "behavior_ecephys_sessions")
    assert (done.returncode, done.stdout) == (0, "3 of 3 files good, 72.0 MiB\n"), done.stderr
    counts = mount.status()["metrics"]
    assert (counts["received_bytes"], counts["verified_files"]) == (sum(LARGE.values()), 3)
    assert whole(tmp_path) == sorted(LARGE.values())
    mount.umount()


def start_held(server: FakeS3Server, gate: threading.Event) -> subprocess.Popen[str]:
    """A fetch that has asked for many ranges; until the gate opens they are not answered, those of READ are."""

    def hold(request: Request, honest: Reply) -> Reply | None:
        return replace(honest, gate=gate) if request.kind == "get_range" and READ not in request.path else None

    server.behaviours = [hold]
    fetching = start("prefetch", "behavior_ecephys_sessions")
    server.wait_until(lambda one: one.count("get_range") >= 20)
    return fetching


def test_readers_of_the_mount_go_first(mounts: Mounts, server: FakeS3Server) -> None:
    """While the server answers none of the ranges that a fetch asks for, a reader's range is asked for, and comes."""
    gate, mount = threading.Event(), mounts(server.endpoint_url)
    fetching = start_held(server, gate)
    with (mount.path / READ).open("rb") as file:
        for offset in (3 * MIB, MIB, 0):
            file.seek(offset)
            assert len(file.read(1000)) == 1000
    server.behaviours = []
    gate.set()
    out, err = fetching.communicate()
    assert (fetching.returncode, out) == (0, "3 of 3 files good, 72.0 MiB\n"), err
    mount.umount()


@pytest.mark.slow
def test_a_mount_that_goes_away(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """When it is killed midway the command goes on by itself, and does not fetch again what the mount has stored."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    gate = threading.Event()

    def hold(request: Request, honest: Reply) -> Reply | None:
        is_late = request.kind == "get_range" and "session_3" in request.path
        return replace(honest, gate=gate) if is_late else None

    server.behaviours = [hold]
    fetching = start("prefetch", "behavior_ecephys_sessions")
    until(lambda: len(whole(tmp_path)) == 2)
    os.kill(pid, signal.SIGKILL)
    server.behaviours = []
    server.forget_requests()
    gate.set()
    out, err = fetching.communicate()
    assert (fetching.returncode, out) == (0, "3 of 3 files good, 72.0 MiB\n"), err
    assert {request.key.rpartition("/")[2] for request in server.requests if request.kind == "get_range"} == {
        "ecephys_session_3.nwb"
    }


@pytest.mark.slow
def test_a_command_that_goes_away(mounts: Mounts, server: FakeS3Server) -> None:
    """When the command is killed its mount fetches no more than what it has begun, and serves on."""
    gate, mount = threading.Event(), mounts(server.endpoint_url)
    fetching = start_held(server, gate)
    fetching.kill()
    fetching.communicate()
    assert (mount.path / READ).read_bytes()  # so the mount has seen by now that the command is gone
    server.behaviours = []
    before = server.body_bytes
    gate.set()
    assert mount.status()["metrics"]["mismatched_files"] == 0
    mount.umount()
    assert server.body_bytes - before < sum(LARGE.values())


def test_a_cache_full_of_pins(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Where pins alone exceed the cache's size, mount and status say so, nothing else is kept, and reads go on."""
    assert run_vbnfs("pin", "mine", "behavior_ecephys_sessions").returncode == 0
    assert run_vbnfs("clean", "--cache-size", "20M").returncode == 1
    mount = mounts(server.endpoint_url)
    words = "what is pinned takes 72."
    assert words in mount.warnings
    assert "so nothing else is kept; reads go on from S3: 'vbnfs pins' lists the pins" in mount.warnings
    assert (mount.path / READ).read_bytes() == Pattern(4 * MIB, seed=99)[: 4 * MIB]
    assert words in mount.status()["cache_problem"]
    until(lambda: allocated_bytes(tmp_path / "cache") < sum(LARGE.values()) + MIB)
    assert whole(tmp_path) == sorted(LARGE.values())
    mount.umount()


# What the document shows


def commands() -> list[str]:
    """The lines of the document that need no shell, but for mounting: test_document_commands.py types all of them."""
    blocks = "\n".join(block.code for block in blocks_of("docs/working-sets.md") if not block.language)
    return re.findall(r"^(?:\$ )?vbnfs (?!u?mount )(.*)$", blocks, re.MULTILINE)


SHOWN_IN_HELP = [
    line.removeprefix("vbnfs ")
    for name in ("prefetch", "pin", "pins", "unpin", "du")
    for line, _ in EXAMPLES[name]
    if "--record" not in line  # test_records.py makes one
    and "--dask" not in line  # tests/cli/test_dask.py has a scheduler
]


def test_the_document_s_commands(
    seaweed: SeaweedServer, tiny_release: DemoRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs on a small release, as the examples in helps do; tables have the columns that are shown.

    Then all that was fetched is found again without network.
    """
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", seaweed.endpoint_url)
    assert len(commands()) >= 8
    for line in [*commands(), *SHOWN_IN_HELP]:
        typed = line.replace("Novel", "Familiar").replace("structure_acronym == 'VISp' and snr > 2", "snr > 0")
        done = run_vbnfs(*shlex.split(typed))  # what this release has: all of its sessions are familiar
        assert done.returncode == 0, (line, done.stderr)
        if shown := re.search(rf"^\$ vbnfs {re.escape(line)}\n(\w+(?: +\w+)+)$", DOCUMENT, re.MULTILINE):
            assert not done.stdout or done.stdout.splitlines()[0].split() == shown[1].split()
    assert json.loads(run_vbnfs("pins", "--json").stdout) == []
    query = "experience_level == 'Familiar'"
    there = json.loads(run_vbnfs("sessions", "--query", query, "--json", "--offline").stdout)
    found = json.loads(run_vbnfs("prefetch", "--sessions", query, "--json", "--offline").stdout)
    assert {one["outcome"] for one in found} == {"good"}
    assert len([one for one in found if "ecephys_session_" in one["path"]]) == len(there) > 0
    plan = json.loads(run_vbnfs("prefetch", "--sessions", query, "--lfp", "yes", "--dry-run", "--json").stdout)
    assert plan["files"] - len(found) == plan["files"] - plan["whole_files"] > 0


def test_sessions_that_do_not_match(
    seaweed: SeaweedServer, tiny_release: DemoRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is a failure, with status 1; a query that cannot be understood is wrong usage."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", seaweed.endpoint_url)
    done = run_vbnfs("prefetch", "--sessions", "mouse_id == 0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no session matches" in done.stderr
    done = run_vbnfs("prefetch", "--sessions", "experience_levle == 'Novel'")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no column experience_levle; near it: experience_level" in done.stderr
    done = run_vbnfs("prefetch", "--having-units", "snr > 2", "project_metadata")
    assert (done.returncode, "add --sessions QUERY" in done.stderr) == (2, True)
    having = ["--having-units", "snr > 100000"]
    assert "no session matches" in run_vbnfs("prefetch", "--sessions", "all", *having).stderr
    found = json.loads(run_vbnfs("prefetch", "--behavior-only", "session_number >= 0", "--json", "--dry-run").stdout)
    assert found["files"] > 5
