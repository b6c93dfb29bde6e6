"""`import vbnfs` and the commands that need no mount, as on macOS and as on Windows: the same answers as on Linux."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import memory_disk
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fakes.store import Pattern
from tests.portable.jobs import LFP, NEED_MOUNTS, PLACES, SESSION, SESSIONS, UNITS
from tests.portable.test_imports import OF_MOUNTS
from tests.portable.typeshed import System
from tests.test_floors import floor_of

SIZE = 6_000_001
DATA = Pattern(SIZE, seed=2)
HASH = hashlib.blake2b(DATA[:]).hexdigest()
SAME_TEXT = ("--help", "versions", "tables", "sessions", "units", "diff", "urls", "verify", "tree", "cite", "unpin")
SYSTEMS: tuple[System, ...] = ("darwin", "win32")
NOT_ON_WINDOWS = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A session as HDF5, an LFP, and two tables."""
    path = tmp_path_factory.mktemp("session") / "session.nwb"
    with h5py.File(path, "w") as file:
        file.create_dataset("units/spike_times", data=np.arange(300_000, dtype=float), chunks=(10_000,))
        file.create_dataset("general/session_id", data="7")
    return {
        SESSION: path.read_bytes(),
        "behavior_ecephys_sessions/8/ecephys_session_8.nwb": Pattern(3_000_000, seed=3),
        LFP: DATA,
        UNITS: b"unit_id,ecephys_session_id,snr\n10,7,1.5\n11,7,2.5\n12,8,3.5\n",
        SESSIONS: b"ecephys_session_id,experience_level,unit_count,file_id\n7,Novel,2,0\n8,Familiar,,-999\n",
    }


@pytest.fixture
def server(files: dict[str, Any]) -> Iterator[FakeS3Server]:
    """Two versions of it; the second has one session less."""
    with serve(
        {"0.1.0": files, "0.2.0": {name: data for name, data in files.items() if "/8/" not in name}}
    ) as server:
        yield server


@pytest.fixture
def start(server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a job (jobs.py) in a process of its own."""
    processes, started = tmp_path / "processes", list["subprocess.Popen[str]"]()
    processes.mkdir()
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)  # of commands

    def start(system: str, job: str, cache: Path, *more: Path) -> "subprocess.Popen[str]":
        words = [system, processes, job, server.endpoint_url, cache, *more]
        command = [sys.executable, "-W", "ignore", "-m", "tests.portable.jobs", *words]
        env = {**os.environ, "VBNFS_CACHE_DIR": str(cache)}
        pipes: Any = {**dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), "text": True}
        started.append(subprocess.Popen(command, cwd=Path(__file__).parents[2], env=env, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def result(process: "subprocess.Popen[str]") -> Any:
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return json.loads(out)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[list[Path]]:
    """A disk without room for a file; none for those who cannot have one."""
    if os.geteuid() != 0:
        yield []
        return
    with memory_disk(tmp_path / "disk", "size=3m") as disk:
        yield [disk / "cache"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_guide(
    system: System, start: Start, files: dict[str, Any], full_disk: list[Path], tmp_path: Path
) -> None:
    """Versions, tables, arrays, ranges, a file fetched whole and checked: cold, and then offline, the same.

    All names in the cache are such as Windows takes, also where capitals count for nothing. Where a disk has no room,
    all of a file is read all the same. No module of what mounts are made of is imported.
    """
    found = result(start(system, "guide", tmp_path / "cache", *full_disk))
    names = found["cold"].pop("names") + found["offline"].pop("names")
    expected = {
        "versions": ["0.1.0", "0.2.0"],
        "units": [1.5, 2.5, 3.5],
        "found": 2,
        "spikes": [0.0, 1.0, 2.0, 3.0, 4.0],
        "ranges": [hashlib.blake2b(files[LFP][at : at + size]).hexdigest() for at, size in PLACES],
        "is_whole": [True, True],
    }
    assert found["cold"] == expected
    assert found["offline"] == expected
    assert found["refused"] not in {"none", "AttributeError"}
    assert [name for name in names if NOT_ON_WINDOWS.search(name)] == []
    assert len({name.casefold() for name in set(names)}) == len(set(names))
    assert [found["full"]] == [HASH] if full_disk else "full" not in found
    assert {floor_of(name) for name in found["modules"]} & OF_MOUNTS == set()


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_crash_and_then_two_processes(system: System, start: Start, server: FakeS3Server, tmp_path: Path) -> None:
    """A process is killed while it fetches. Two others then read the file at once: together they fetch it once."""
    gate = threading.Event()

    def stalled(request: Request, honest: Reply) -> Reply | None:
        is_data = request.kind == "get_range" and LFP in request.key
        return replace(honest, gate=gate, gate_after=len(honest.body) // 2) if is_data else None

    server.behaviours = [stalled]
    job = start(system, "crash", tmp_path / "cache")
    assert job.stdout is not None
    assert job.stdin is not None
    victim = int(job.stdout.readline())
    server.wait_until(lambda server: server.body_bytes > SIZE // 3, seconds=60)
    os.kill(victim, signal.SIGKILL)
    server.behaviours = []
    gate.set()
    server.forget_requests()
    job.stdin.write("\n")
    job.stdin.flush()
    assert result(job) == [HASH, HASH]
    asked = [request.headers["range"] for request in server.requests if request.key.endswith(LFP)]
    places = [re.findall(r"\d+", one) for one in asked]
    # Each for itself they would ask for twice as much. A busy machine may have a GET asked for once more.
    assert 0 < sum(int(stop) + 1 - int(start) for start, stop in places) < 1.5 * SIZE


@pytest.mark.slow
def test_the_commands(start: Start, tmp_path: Path) -> None:
    """Commands that need no mount do there what they do on Linux; those that need one say what to use instead."""
    [expected, *others] = [result(start(system, "commands", tmp_path / system)) for system in ("linux", *SYSTEMS)]
    for found in others:
        for needs_a_mount in NEED_MOUNTS:
            kind, text = found.pop(needs_a_mount)
            assert (kind, "import vbnfs" in text) == ("MountError", True)
        assert {name: kind for name, (kind, _) in found.items()} == dict.fromkeys(expected, "done")
        assert {name: found[name] for name in SAME_TEXT} == {name: expected[name] for name in SAME_TEXT}
