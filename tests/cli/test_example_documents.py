"""What docs/versions.md and docs/finding.md show of commands is what the demo's release gives."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from os import environ
from pathlib import Path

import h5py
import pandas as pd
import pytest

from tests.fixtures_mount import Mounts, run_vbnfs
from vbnfs.config.settings import GIB, KIB, MIB
from vbnfs.demo.release import LocalRelease, make_release
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, upload

DOCS = Path(__file__).parents[2] / "docs"
SIZE = re.compile(r"\b([0-9.]+)( [KMG]iB|[KMG])\b")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalRelease:
    """The demo's release."""
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def endpoint_url(release: LocalRelease, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of it."""
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket(BUCKET)
        upload(release, server.client())
        yield server.endpoint_url


def text_of(document: str) -> str:
    return (DOCS / document).read_text(encoding="utf-8")


def sizes(text: str) -> list[float]:
    """The sizes in a text, in bytes."""
    return [float(number) * {"K": KIB, "M": MIB, "G": GIB}[unit.strip()[0]] for number, unit in SIZE.findall(text)]


def words(text: str) -> list[str]:
    """Everything but the sizes, which differ a little from one version of HDF5 to the next."""
    return SIZE.sub("SIZE", text).split()


def test_the_example_of_diff_is_true(endpoint_url: str) -> None:
    """The document has the output's lines up to its list of files, and the first of that; sizes within a tenth."""
    document = text_of("versions.md")
    [(command, shown)] = re.findall(r"`vbnfs (diff [^`]*)`.*?```\n(.*?)\.\.\.\n```", document, re.DOTALL)[:1]
    done = run_vbnfs(*command.split(), "--endpoint-url", endpoint_url)
    assert (done.returncode, done.stderr) == (0, "")
    printed = "".join(done.stdout.splitlines(keepends=True)[: shown.count("\n")])
    assert words(shown) == words(printed)
    assert sizes(shown) == pytest.approx(sizes(printed), rel=0.1)


def test_the_examples_of_finding_are_true(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the document prints what stands below it, results before notes; sizes within a tenth."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", endpoint_url)
    blocks = re.findall(r"^```\n(\$ .*?)^```$", text_of("finding.md"), re.MULTILINE | re.DOTALL)
    runs = [run.partition("\n") for block in blocks for run in re.split(r"^\$ vbnfs ", block, flags=re.MULTILINE)[1:]]
    assert len(runs) > 5
    for command, _, shown in runs:
        done = run_vbnfs(*shlex.split(command))
        printed = done.stdout + done.stderr
        assert words(shown) == words(printed), command
        assert sizes(shown) == pytest.approx(sizes(printed), rel=0.1)


@pytest.mark.slow
def test_from_a_question_to_spikes(
    release: LocalRelease, endpoint_url: str, mounts: Mounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document's way leads to the spikes of the units that were asked for; the second time without network."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", endpoint_url)
    section = text_of("finding.md").split("\n## From a question to spikes\n")[1].partition("\n## ")[0]
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    (tmp_path / "vbnfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m vbnfs "$@"\n')
    (tmp_path / "vbnfs").chmod(0o755)

    def run(*command: str, **more: str) -> str:
        env = {**environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{environ['PATH']}", **more}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        return done.stdout

    mount = mounts(endpoint_url, name="vbn")
    run("sh", "-eu", "-c", blocks["sh"])
    found = run(sys.executable, "-c", blocks["python"])
    assert found == expected(release)
    mount.umount()
    mounts(endpoint_url, "--offline", name="vbn")
    run("sh", "-eu", "-c", blocks["sh"], VBNFS_OFFLINE="true")
    assert run(sys.executable, "-c", blocks["python"]) == found


def expected(release: LocalRelease) -> str:
    """How many spikes these units have, how many units and sessions they are of, by the released files."""
    cohort, sources = release.cohort, release.versions[-1].sources
    novel = cohort.ecephys_sessions.query("experience_level == 'Novel'")["ecephys_session_id"]
    units = cohort.units.query("structure_acronym == 'VISp' and snr > 2")
    units = units[units["ecephys_session_id"].isin(novel)]
    assert len(units) > 1
    spikes = 0
    for session, mine in units.groupby("ecephys_session_id"):
        path = f"behavior_ecephys_sessions/{session}/ecephys_session_{session}.nwb"
        with h5py.File(sources[path]) as file:
            counts = pd.Series([0, *file["units/spike_times_index"][:]]).diff()[1:].astype(int).tolist()
            by_unit = dict(zip(file["units/id"][:].tolist(), counts, strict=True))
            spikes += sum(by_unit[unit] for unit in mine["unit_id"])
    return f"{spikes} {len(units)} {units['ecephys_session_id'].nunique()}\n"
