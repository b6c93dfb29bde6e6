"""docs/python.md does what it says: its program without a mount, on a real S3 server, and on the cache afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from tests.scenarios.readers.recipes import SESSION_ID, sections
from tests.scenarios.readers.truth import Truth
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

DOCUMENT = Path(__file__).parents[3] / "docs" / "python.md"


def program(release: DemoRelease, truth: Truth) -> str:
    """The document's Python, of a session and the newest version of this release."""
    code = "".join(
        code for section in sections(DOCUMENT) for language, code in section.blocks if language == "python"
    )
    return code.replace(SESSION_ID, truth.session_id).replace("0.5.0", release.versions[-1])


def novel_units(truth: Truth) -> int:
    sessions = truth.table("ecephys_sessions")
    novel = sessions[sessions["experience_level"] == "Novel"]["ecephys_session_id"]
    units = truth.units
    wanted = (units["structure_acronym"] == "VISp") & (units["snr"] > 2) & units["ecephys_session_id"].isin(novel)
    return int(wanted.sum())


@pytest.mark.slow
def test_the_guide_of_python(
    seaweed: SeaweedServer, tiny_release: DemoRelease, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block prints what the release's files say; the cache then has what it read, also for `--offline`."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", seaweed.endpoint_url)
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "cache"))
    path, units = truth.originals[truth.session_path], truth.units
    with h5py.File(path) as file:
        (nwb_id,) = {file["identifier"].asstr()[()], file["general/session_id"].asstr()[()]} & {truth.session_id}
        count = len(file["units/id"])
    expected = [
        f"{list(tiny_release.versions)} {tiny_release.versions[-1]}",
        f"{len(truth.table('ecephys_sessions'))} {len(units)} {len(units[units['snr'] > 2])}",
        f"{novel_units(truth)} {list(units.columns[:2])}",
        f"{truth.session_path} {path.stat().st_size} sessions",
        str(len(truth.spike_times(0))),
        f"{nwb_id} {count}",
        str(len(truth.table("probes"))),
        "b'HDF'",
        "True True",
        "['good']",
        "for the figure ['good']",
        "True True",
        "True 1",
    ]
    for mode in ("false", "true"):
        monkeypatch.setenv("VBNFS_OFFLINE", mode)
        command = [sys.executable, "-W", "ignore", "-c", program(tiny_release, truth)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ)
        assert done.stderr == ""
        assert done.stdout.splitlines() == expected
