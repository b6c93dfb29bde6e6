"""docs/quick-start.md leads from nothing to spikes: each of its blocks, in order, as a newcomer types it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code_blocks import SESSION_ID, blocks_of, reader, run
from tests.fixtures_mount import Mount, Mounts
from tests.scenarios.readers.truth import Truth
from vbnfs.demo.server import SeaweedServer

DOCUMENT = "docs/quick-start.md"
BLOCKS = [block for block in blocks_of(DOCUMENT) if block.language]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder; what is mounted in it is taken away."""
    home = tmp_path / "home"
    home.mkdir()
    factory = Mounts(home)
    factory.made.append(Mount(home / "vbn", []))
    yield home
    factory.end()


def test_from_nothing_to_spikes(seaweed: SeaweedServer, truth: Truth, home: Path) -> None:
    """The dataset appears, a unit's spikes are those of the released file, what it took is shown, and it ends."""
    env = reader(home, VBNFS_ENDPOINT_URL=seaweed.endpoint_url)
    printed = []
    for block in BLOCKS:
        command = ("sh", "-eu", "-c") if block.language == "sh" else (sys.executable, "-c")
        printed.append(run(*command, block.code.replace(SESSION_ID, truth.session_id), folder=home, env=env))
    mounted, listed, _, found, table, spikes, sizes, ended = printed
    assert mounted == f"mounted 0.5.0 at {home}/vbn\n"
    assert {"README.txt", "project_metadata", f"ecephys_session_{truth.session_id}.nwb"} <= set(listed.split())
    assert truth.session_id in table
    assert truth.session_id in found
    times = truth.spike_times(0)
    assert spikes == f"{len(times)} spikes, the first {times[0]:.3f} s after the start\n"
    assert re.search(r"read +\S+ \S+ by programs", sizes)
    assert ended == ""
    assert list((home / "vbn").iterdir()) == []


def test_what_is_not_run_is_installing() -> None:
    """The blocks without a language install vbnfs, which tests of the wheel and of script/setup do, and libraries."""
    not_run = [block for block in blocks_of(DOCUMENT) if not block.language]
    assert [block.heading for block in not_run] == ["1. Install", "3. Choose a session"]
    assert [line for block in not_run for line in block.code.splitlines() if "install" not in line] == [
        *("pipx ensurepath", "python3 -m venv ~/neuro"),
    ]
