"""docs/from-allensdk.md: each job as AllenSDK does it and as vbnfs does, in the page's order, on one mount."""

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import h5py
import pandas as pd
import pytest

from tests.code_blocks import SESSION_ID, blocks_of, reader, run
from tests.fixtures_mount import Mount, Mounts
from tests.scenarios.allensdk.sdk import python
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

pytestmark = pytest.mark.slow

BLOCKS = blocks_of("docs/from-allensdk.md")
# Runs blocks of Python that come as lines of JSON, in one namespace, and says when each has ended.
RUNNER = """
import json, sys, warnings
warnings.simplefilter("ignore")
space = {}
for line in sys.stdin:
    exec(json.loads(line), space)
    print(chr(0), flush=True)
"""


class Notebook:
    """A process of AllenSDK's Python that runs one block after the other."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._errors = (folder / "errors").open("w+")
        command = [str(python()), "-c", RUNNER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(command, text=True, cwd=folder, env=env, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def run(self, code: str) -> str:
        """What a block prints. It must succeed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        printed = []
        while (line := self._process.stdout.readline()) != "\0\n":
            assert line, Path(self._errors.name).read_text()
            printed.append(line)
        return "".join(printed)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder; what is mounted in it is taken away."""
    home = tmp_path / "home"
    home.mkdir()
    factory = Mounts(home)
    factory.made.append(Mount(home / "vbn", []))
    yield home
    factory.end()


@pytest.fixture
def printed(seaweed: SeaweedServer, tiny_release: DemoRelease, home: Path) -> dict[str, list[str]]:
    """What the blocks below each heading print, in order."""
    more = {"VBNFS_ENDPOINT_URL": seaweed.endpoint_url, "AWS_EC2_METADATA_DISABLED": "true"}
    env = reader(home, **more)
    # What is installed for vbnfs is not for AllenSDK's Python.
    for_allensdk = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    printed = defaultdict(list)
    with Notebook(home, for_allensdk) as notebook:
        for block in BLOCKS:
            code = block.code.replace(SESSION_ID, str(session_of(tiny_release)))
            shell = ("sh", "-eu", "-c", code)
            text = notebook.run(code) if block.language == "python" else run(*shell, folder=home, env=env)
            printed[block.heading].append(text)
    run("vbnfs", "umount", home / "vbn", folder=home, env=env)
    return dict(printed)


def session_of(release: DemoRelease) -> int:
    """The first session of the newest version."""
    return int(table(release, "ecephys_sessions")["ecephys_session_id"][0])


def table(release: DemoRelease, stem: str) -> pd.DataFrame:
    """A table of the newest version, as it was released."""
    return pd.read_csv(release.files[release.versions[-1]][f"project_metadata/{stem}.csv"].source)


def test_both_columns_say_the_same(printed: dict[str, list[str]], tiny_release: DemoRelease, home: Path) -> None:
    """Of each job AllenSDK and vbnfs give the same answer, and it is that of the released files."""
    versions = tiny_release.versions
    names = [f"visual-behavior-neuropixels_project_manifest_v{version}.json" for version in versions]
    assert {block.language for block in BLOCKS} == {"python", "sh"}

    listed, by_vbnfs = printed["Which versions there are"]
    assert listed == f"{names}\n"
    assert [line.split()[0] for line in by_vbnfs.splitlines()[1 : len(names) + 1]] == list(versions)
    assert by_vbnfs.split()[-len(names) - 1 :] == ["latest", *(f"v{version}" for version in versions)]
    assert printed["The latest version"] == [f"{names[-1]}\n", f"v{versions[-1]}\n"]
    downloaded, cached = printed["Which versions are downloaded"]
    assert downloaded == f"{names} {names[-1]}\n"
    assert all(version in cached for version in versions)
    current, status = printed["The version in use"]
    assert current == f"{names[-1]}\n"
    assert f"(at the top: {versions[-1]})" in status
    loaded, files, back = printed["Load another version"]
    assert loaded == f"{names[versions.index('0.4.0')]}\n"
    assert "project_metadata" in files.split()
    assert back == ""
    allensdk, vbnfs = printed["Compare two versions"]
    assert allensdk == vbnfs
    assert "units.csv changed" in vbnfs

    stems = ("ecephys_sessions", "behavior_sessions", "probes", "channels", "units")
    lengths, _, normal = printed["The tables"]
    assert lengths.split() == [str(len(table(tiny_release, stem))) for stem in stems]
    good = pd.read_csv(home / "good_units.csv")
    assert sorted(good["unit_id"]) == sorted(table(tiny_release, "units").query("snr > 2")["unit_id"])
    sessions = table(tiny_release, "ecephys_sessions")
    is_normal = sessions["abnormal_histology"].isna() & sessions["abnormal_activity"].isna()
    for number, row in sessions.iterrows():
        assert (str(row["ecephys_session_id"]) in normal) == is_normal[number]

    session = session_of(tiny_release)
    by_allensdk, by_h5py = printed["A session"]
    assert by_allensdk == by_h5py
    path = f"behavior_ecephys_sessions/{session}/ecephys_session_{session}.nwb"
    newest = tiny_release.files[versions[-1]]
    with h5py.File(newest[path].source) as file:
        assert by_h5py.split()[0] == str(len(file["units/id"]))

    _, fetched = printed["Everything"]
    assert "files good" in fetched
    of_manifest, of_vbnfs = printed["URLs"]
    assert int(of_manifest) == len(newest) == int(of_vbnfs.split()[0])
    assert os.path.basename(path) in of_vbnfs  # noqa: PTH119 - a part of a URL
