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
    """The document's Python, of a session, an area, a genotype and the newest version of this release."""
    code = "".join(
        code for section in sections(DOCUMENT) for language, code in section.blocks if language == "python"
    )
    code = code.replace("VISp", area(truth)).replace("wt/wt", genotype(truth))
    return code.replace(SESSION_ID, truth.session_id).replace("0.5.0", release.versions[-1])


def area(truth: Truth) -> str:
    """The area with most units."""
    return str(truth.units["structure_acronym"].mode()[0])


def genotype(truth: Truth) -> str:
    """The session's."""
    sessions = truth.table("ecephys_sessions")
    return str(sessions[sessions["ecephys_session_id"] == int(truth.session_id)]["genotype"].iloc[0])


def novel_units(truth: Truth) -> int:
    sessions = truth.table("ecephys_sessions")
    novel = sessions[sessions["experience_level"] == "Novel"]["ecephys_session_id"]
    units = truth.units
    wanted = (
        (units["structure_acronym"] == area(truth)) & (units["snr"] > 2) & units["ecephys_session_id"].isin(novel)
    )
    return int(wanted.sum())


def sessions_of_a_genotype(truth: Truth) -> str:
    sessions, units = truth.table("ecephys_sessions"), truth.units
    in_area = set(units[units["structure_acronym"] == area(truth)]["ecephys_session_id"])
    wanted = sessions[(sessions["genotype"] == genotype(truth)) & sessions["ecephys_session_id"].isin(in_area)]
    assert len(wanted)
    return f"{len(wanted)} {list(wanted['ecephys_session_id'])}"


def probes(truth: Truth) -> list[str]:
    """The session's probes with LFP, by the names of their files."""
    names = [Path(path).name for path in truth.originals if f"/{truth.session_id}/probe_" in path]
    return [name.removeprefix("probe_").removesuffix("_lfp.nwb") for name in sorted(names)]


def half_a_second(truth: Truth) -> int:
    """How many samples half a second of LFP has, from a second after its begin."""
    with h5py.File(truth.originals[truth.lfp_path]) as file:
        [group] = file["acquisition"].values()
        [series] = group.values()
        times = series["timestamps"][()]
    return int(((times >= times[0] + 1) & (times < times[0] + 1.5)).sum())


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
    best = units[units["ecephys_session_id"] == int(truth.session_id)].set_index("unit_id")["snr"].idxmax()
    [place] = [place for place, one in enumerate(truth.array("units/id")) if one == best]
    samples = half_a_second(truth)
    expected = [
        f"{list(tiny_release.versions)} {tiny_release.versions[-1]}",
        f"{len(truth.table('ecephys_sessions'))} {len(units)} {len(units[units['snr'] > 2])}",
        sessions_of_a_genotype(truth),
        f"{novel_units(truth)} {list(units.columns[:2])}",
        f"{truth.session_path} {path.stat().st_size} sessions",
        str(len(truth.spike_times(0))),
        f"{nwb_id} {count}",
        f"{best} {len(truth.spike_times(place))}",
        str(probes(truth)),
        f"{samples} ({samples},)",
        str(len(truth.table("probes"))),
        "b'HDF'",
        "True True",
        "['good']",
        "True cache",
        "for the figure ['good']",
        "True True",
        "True 1",
        "True []",
        "there is no dataset version 0.0.1",
    ]
    for mode in ("false", "true"):
        monkeypatch.setenv("VBNFS_OFFLINE", mode)
        command = [sys.executable, "-W", "ignore", "-c", program(tiny_release, truth)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ)
        assert done.stderr == ""
        assert done.stdout.splitlines() == expected
