"""The notebooks of docs/notebooks: with a real S3 server, and then, in the same run, without it."""

import base64
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import h5py
import nbformat
import pandas as pd
import pytest
from PIL import Image

from tests.code_blocks import ROOT
from tests.fakes.dataset import FakeDataset
from tests.fakes.relay import Relay
from tests.fakes.s3_server import FakeS3Server
from tests.scenarios.allensdk.ophys_release import BUCKET, PROJECT, ophys_tables
from tests.scenarios.notebooks.running import FOLDER, Notebook
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease, ReleasedFile

SLOW: Final = pytest.mark.slow
OLD, NEW = "0.4.0", "0.5.0"
TABLES: Final = ("ecephys_sessions", "behavior_sessions", "probes", "channels", "units")
WITH_ALLENSDK: Final = ROOT / ".venv-notebooks" / "bin" / "python"


def manifest_name(version: str) -> str:
    return f"visual-behavior-neuropixels_project_manifest_v{version}.json"


def rows(release: DemoRelease, version: str) -> list[int]:
    """How many rows each of the tables has."""
    return [len(pd.read_csv(release.files[version][f"project_metadata/{name}.csv"].source)) for name in TABLES]


@pytest.fixture
def session_id(tiny_release: DemoRelease) -> int:
    """The first session of the newest version; it has two probes."""
    table = pd.read_csv(tiny_release.files[NEW]["project_metadata/ecephys_sessions.csv"].source)
    return int(table["ecephys_session_id"][0])


@pytest.fixture
def session_path(session_id: int) -> str:
    return f"behavior_ecephys_sessions/{session_id}/ecephys_session_{session_id}.nwb"


@pytest.fixture
def relay(seaweed: SeaweedServer, tiny_release: DemoRelease) -> Iterator[Relay]:
    """The way to the server, which can be cut."""
    assert tiny_release.versions[-1] == NEW
    with Relay(seaweed.endpoint_url) as relay:
        yield relay


@pytest.fixture
def env(relay: Relay, tmp_path: Path) -> Mapping[str, str]:
    """The environment of a notebook's reader."""
    own = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    return {**os.environ, **own, "JUPYTER_PLATFORM_DIRS": "1", "VBNFS_ENDPOINT_URL": relay.endpoint_url}


@pytest.fixture
def run(relay: Relay, env: Mapping[str, str], tmp_path: Path) -> Callable[[Notebook, Path], None]:
    """Runs a notebook with a Python, until its offline cell with the server, from then on without."""

    def run(notebook: Notebook, python: Path) -> None:
        notebook.run(tmp_path / "work", python=python, env=env, go_offline=relay.cut)

    return run


@pytest.fixture
def sister_url() -> Iterator[str]:
    """A server of the tables of Visual Behavior Ophys."""
    dataset = FakeDataset(bucket=BUCKET, project=PROJECT)
    tables = {stem: table.to_csv(index=False).encode() for stem, table in ophys_tables("1.1.0").items()}
    manifest = {
        "project_name": PROJECT,
        "manifest_version": "1.1.0",
        "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": {
            stem: dataset.entry(f"project_metadata/{stem}.csv", data) for stem, data in tables.items()
        },
        "data_files": {},
    }
    dataset.publish_bytes("1.1.0", json.dumps(manifest).encode())
    with FakeS3Server(dataset.store) as server:
        yield server.endpoint_url


def are_drawn(pictures: list[str]) -> bool:
    """Whether each of some figures has more than one colour, and a size that one can read."""
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in pictures]
    return all(image.width > 200 and len(set(image.convert("L").tobytes())) > 2 for image in images)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    """A notebook is valid and has no outputs: it shows what it shows to its reader. One cell goes offline."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert sum("offline" in cell.metadata.get("tags", ()) for cell in code) == 1
    assert notebook.cells[0].source.startswith("# ")


# What a user of AllenSDK's class may do besides, each as a line of JSON.
RECEIVED = """
import hashlib
metrics = cache.fetch_api.cache._connection.value.versions.dataset.metrics
print(json.dumps([metrics.received_bytes, str(folder.absolute())]))
"""
CUT_OFF = """
file_id = str(sessions.loc[1044385384, "file_id"])
path = cache.fetch_api.cache.download_data(file_id)
record = folder / "_downloaded_data.json"
before, inode, size = path.read_bytes(), record.stat().st_ino, path.stat().st_size
with path.open("r+b") as file:
    file.truncate(1000)
again = cache.fetch_api.cache.download_data(file_id)
print(json.dumps([again == path, again.read_bytes() == before, record.stat().st_ino != inode]))
"""
EXAMPLE = """
import doctest
from vbnfs.api.allensdk import allensdk_cache
allensdk_cache.__doc__ = allensdk_cache.__doc__.replace("1044" "385384", "1044385384")
runner = doctest.DocTestRunner()
for test in doctest.DocTestFinder().find(allensdk_cache, globs={"vbnfs": vbnfs}):
    runner.run(test)
print(json.dumps(runner.summarize()))
"""
MANY_THREADS = """
from concurrent.futures import ThreadPoolExecutor
own = vbnfs.Dataset()
vbnfs.allensdk_cache("other", own)
(Path("other") / "_downloaded_data.json").write_text('{"damaged": ')
other = vbnfs.allensdk_cache("other", own)
ids = [*map(str, sessions["file_id"])] * 8
with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(other.fetch_api.cache.download_data, ids))
hashes = {hashlib.blake2b(path.read_bytes()).hexdigest() for path in found}
record = json.loads((Path("other") / "_downloaded_data.json").read_text())
left = [path.name for path in Path("other").rglob("*.new")]
print(json.dumps([sorted(hashes), sorted(set(record.values()) - hashes), left, len(set(found))]))
"""
NO_LINKS = """
def refuse(*arguments):  # as on Windows without its developer mode
    raise OSError(22, "A required privilege is not held by the client")

make_link, Path.symlink_to = Path.symlink_to, refuse
other = vbnfs.allensdk_cache("unlinked", own)
other.load_manifest("visual-behavior-neuropixels_project_manifest_v0.4.0.json")
other.load_manifest("visual-behavior-neuropixels_project_manifest_v0.5.0.json")
Path.symlink_to = make_link
print(json.dumps([sorted(path.name for path in Path("unlinked").rglob("channels.csv")), len(other.get_unit_table())]))
"""
REFUSED = """
def refused(*arguments):
    try:
        vbnfs.allensdk_cache(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps([
    refused(vbnfs.Dataset().config.cache_dir / "x"),
    refused("other", vbnfs.Dataset(project="another")),
    refused("empty", vbnfs.Dataset(cache_dir="new", offline=True)),
]))
"""
OPHYS = """
other = vbnfs.allensdk_cache("ophys", vbnfs.Dataset("visual-behavior-ophys", endpoint_url={url!r}))
print(json.dumps([type(other).__name__, other.current_manifest(), len(other.get_ophys_experiment_table())]))
"""
FRAMES = """
import pandas as pd
latest = vbnfs.Dataset().latest
theirs = {
    "sessions": cache.get_ecephys_session_table(filter_abnormalities=False),
    "behavior_sessions": cache.get_behavior_session_table(),
    "probes": cache.get_probe_table(),
    "channels": cache.get_channel_table(),
    "units": cache.get_unit_table(),
}
for name, frame in theirs.items():
    pd.testing.assert_frame_equal(getattr(latest, name), frame, check_exact=True)
print(json.dumps([len(frame) for frame in theirs.values()]))
"""
OWN_FOLDER_ALONE = """
cache = vbnfs.allensdk_cache(folder, vbnfs.Dataset(cache_dir="new", offline=True))
path = cache.fetch_api.cache.download_data(file_id)
print(json.dumps([cache.list_manifest_file_names(), path.stat().st_size == size]))
"""


@SLOW
def test_allensdk(
    tiny_release: DemoRelease, session_id: int, sister_url: str, run: Callable[[Notebook, Path], None]
) -> None:
    """AllenSDK's class does each job of its tutorial without a mount; files travel once, and are the released ones.

    Its frames, of sessions all, are those of `vbnfs.Dataset`: rows, columns, index and types.
    A file that was cut off is replaced. Threads that ask for the same files at a time get them. Where no links can
    be made there are copies. Without network all
    works that was there, by vbnfs's cache or by the folder alone; the rest fails and says why. The sister dataset has
    AllenSDK's class for that.
    """
    if not WITH_ALLENSDK.exists():
        pytest.skip("no .venv-notebooks: script/setup allensdk makes it where there is Python 3.11")
    notebook = Notebook("allensdk", session_id)
    for code in (RECEIVED, EXAMPLE, CUT_OFF, MANY_THREADS, NO_LINKS, OPHYS.format(url=sister_url), FRAMES):
        notebook.insert(code, before="offline")
    for code in (REFUSED, OWN_FOLDER_ALONE):
        notebook.insert(code)
    run(notebook, WITH_ALLENSDK)

    names, newest = list(map(manifest_name, tiny_release.versions)), tiny_release.files[NEW]
    listed, latest, downloaded, current, loaded, links, compared, lengths, shape, urls, *rest = notebook.answers
    assert (eval_list(listed), latest) == (names, repr(names[-1]))
    assert downloaded == f"{names[-1:]} {names[-1]}\n"
    assert current == repr(names[-1])
    assert loaded == f"{manifest_name(OLD)} {rows(tiny_release, OLD)[-1]}\n"
    assert "channels.csv" in links
    assert "units.csv changed" in compared
    assert lengths.split() == list(map(str, rows(tiny_release, NEW)))
    assert urls == f"{len(newest)}\n"
    assert len(notebook.pictures) == 3
    assert are_drawn(notebook.pictures)
    assert "OutdatedManifestWarning" in notebook.errors

    received, example, cut_off, many, unlinked, ophys, frames, offline, not_there, refused, alone = rest
    received_bytes, folder = json.loads(received)
    files = {one.file_hash: one for version in (OLD, NEW) for one in tiny_release.files[version].values()}
    fetched = {
        one.file_hash: one.size_bytes
        for version, there in tiny_release.files.items()
        for path, one in there.items()
        if (Path(folder) / f"visual-behavior-neuropixels-{version}" / path).exists()
    }
    assert received_bytes < 2 * sum(fetched.values())  # a busy machine may have one GET asked for once more
    assert example == "[0, 3]\n"
    assert json.loads(cut_off) == [True, True, True]
    hashes = sorted(one.file_hash for path, one in newest.items() if "/ecephys_session_" in path)
    by_threads, of_tables, left, count = json.loads(many)
    assert (by_threads, left, count) == (hashes, [], len(hashes))
    assert set(of_tables) <= set(files)
    assert json.loads(unlinked) == [["channels.csv"] * 2, rows(tiny_release, NEW)[-1]]
    for path in Path(folder).rglob("*.*"):
        if path.suffix in {".csv", ".nwb"}:
            assert hashlib.blake2b(path.read_bytes()).hexdigest() in files

    assert offline == f"{names[-1]} {rows(tiny_release, NEW)[-1]} {shape}\n"
    assert not_there.startswith("[Errno ")
    own, project, empty = json.loads(refused)
    assert own.startswith("UsageError: ")
    assert "a folder of its own" in own
    assert project.startswith("UsageError: AllenSDK has no class for another; it has some for visual-behavior-neur")
    experiments = len(ophys_tables("1.1.0")["ophys_experiment_table"])
    assert json.loads(ophys) == [
        *("VisualBehaviorOphysProjectCache", "visual-behavior-ophys_project_manifest_v1.1.0.json", experiments),
    ]
    assert json.loads(frames) == rows(tiny_release, NEW)
    assert empty.startswith("OSError: [Errno ")
    assert json.loads(alone) == [[manifest_name(OLD), manifest_name(NEW)], True]


@SLOW
def test_dataset(
    tiny_release: DemoRelease, session_id: int, session_path: str, run: Callable[[Notebook, Path], None]
) -> None:
    """`vbnfs.Dataset` does each of the same jobs in a notebook, in whose loop a cell awaits; then without network."""
    notebook = Notebook("dataset", session_id)
    run(notebook, Path(sys.executable))
    new = tiny_release.files[NEW]
    listed, latest, cached, name, columns, compared, lengths, partly, starts, every, urls, offline, lost = (
        notebook.answers
    )
    assert eval_list(listed) == list(tiny_release.versions)
    assert latest == f"<vbnfs.Version {NEW}: {len(new):,} files>"
    assert [line.split()[::3] for line in cached.splitlines()] == [
        [version, str(sum(one.size_bytes for one in files.values()))] for version, files in tiny_release.files.items()
    ]
    assert (name, columns) == (repr(NEW), "['quality']\n")
    first, *changed = compared.splitlines()
    assert first.startswith(f"<vbnfs.Difference {OLD} to {NEW}: ")
    assert {"changed project_metadata/units.csv", f"changed {session_path}"} <= set(changed)
    assert lengths.split() == list(map(str, rows(tiny_release, NEW)))
    assert re.fullmatch(rf"\d+ of {new[session_path].size_bytes} bytes are here\n", partly)  # it has only four blocks
    assert 0 < int(partly.split()[0]) <= new[session_path].size_bytes
    assert (starts, every) == (r"{b'\x89HDF'}", "True\n")
    assert urls.split()[0] == str(len(new))
    assert new[session_path].version_id in urls
    assert len(notebook.pictures) == 3
    assert are_drawn(notebook.pictures)
    with h5py.File(new[session_path].source) as file:
        assert offline == f"{rows(tiny_release, NEW)[-1]} {len(file['units/id'])}\n"
    assert lost.startswith("[Errno ")
    assert notebook.errors == ""


@SLOW
def test_fsspec(tiny_release: DemoRelease, session_id: int, run: Callable[[Notebook, Path], None]) -> None:
    """`vbnfs://` does each of the same jobs, by pandas, h5py and fsspec; then without network."""
    notebook = Notebook("fsspec", session_id)
    run(notebook, Path(sys.executable))
    old, new = tiny_release.files[OLD], tiny_release.files[NEW]
    listed, latest, cached, columns, compared, lengths, starts, every, urls, offline, lost = notebook.answers
    assert eval_list(listed) == [f"v{version}" for version in tiny_release.versions]
    assert latest == f"v{NEW} True\n"
    assert [line.split() for line in cached.splitlines()] == [
        [f"v{version}", str(sum(one.size_bytes for one in files.values())), cached.split()[-1]]
        for version, files in tiny_release.files.items()
    ]
    assert columns == "['quality']\n"
    assert compared.splitlines() == changes(old, new)
    assert lengths.split() == list(map(str, rows(tiny_release, NEW)))
    assert (starts, every, urls) == (r"{b'\x89HDF'}", "True\n", f"{len(new)}\n")
    assert len(notebook.pictures) == 3
    assert are_drawn(notebook.pictures)
    with h5py.File(new[f"behavior_ecephys_sessions/{session_id}/ecephys_session_{session_id}.nwb"].source) as file:
        assert offline.split() == [str(rows(tiny_release, NEW)[-1]), str(len(file["units/id"]))]
    assert lost.startswith("[Errno ")


def changes(old: Mapping[str, ReleasedFile], new: Mapping[str, ReleasedFile]) -> list[str]:
    """What the notebooks print of the changes between two versions."""
    changed = sorted(path for path in old.keys() & new.keys() if old[path].file_hash != new[path].file_hash)
    return [f"{len(new.keys() - old.keys())} new, {len(old.keys() - new.keys())} gone", *changed]


def eval_list(text: str) -> list[str]:
    """The texts of a list as Python shows it, on one line or on several."""
    found: list[str] = json.loads(text.replace("'", '"'))
    return found
