"""docs/fsspec.md does what it says: each library opens the release by its address, first from S3, then without it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from tests.fixtures_mount import run_vbnfs
from tests.scenarios.readers.recipes import SESSION_ID, Section, sections
from tests.scenarios.readers.truth import Truth
from vbnfs.api.filesystem import VbnfsFileSystem
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

# Libraries warn of things that are no matter of a reader's; one that is not vbnfs's must not fail the test.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

DOCUMENT = Path(__file__).parents[3] / "docs" / "fsspec.md"
SECTIONS = {section.title: section for section in sections(DOCUMENT)}


def good(truth: Truth) -> str:
    """How many units there are, and how many are well isolated."""
    return f"{len(truth.units)} {int((truth.units['snr'] > 2).sum())}"


def around(truth: Truth) -> list[str]:
    """The version's folders; its sessions, and the size of the first."""
    tops = {path.split("/")[0] for path in truth.originals} | {"ecephys_sessions"}
    sessions = sorted((Path(path).name, path) for path in truth.originals if "/ecephys_session_" in path)
    size = truth.originals[sessions[0][1]].stat().st_size
    return [str([f"{VERSION}/{top}" for top in sorted(tops)]), f"{len(sessions)} {size} True"]


def nwb(truth: Truth) -> list[str]:
    """How many spikes the session's first unit has; how many units there are."""
    return [str(len(truth.spike_times(0))), str(len(truth.array("units/id")))]


def speed(truth: Truth) -> list[str]:
    """How many speeds there are, and their mean."""
    data = truth.array("processing/running/speed/data")
    return [f"{data.size} {float(data.mean()):.6f}"]


def paths(truth: Truth) -> list[str]:
    """A table's name and size, and how many sessions there are."""
    size = truth.originals["project_metadata/units.csv"].stat().st_size
    return [f"units.csv {size} {sum('/ecephys_session_' in path for path in truth.originals)}"]


VERSION = "v0.5.0"
EXPECTED: Mapping[str, Callable[[Truth], list[str]]] = {
    "Looking around": around,
    "h5py and pynwb": nwb,
    "xarray": speed,
    "Polars": lambda truth: [good(truth)],
    "pyarrow": lambda truth: [good(truth)],
    "Dask": lambda truth: [good(truth), "{b'\\x89HDF'}"],
    "Paths": paths,
    "Many places at once": lambda truth: ["b'HDF' True"],
    "Settings": lambda truth: [str(len(truth.units))],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all sections share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def by_url(seaweed: SeaweedServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The settings of the reader: a server, and that cache; fsspec keeps no file system from test to test."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", seaweed.endpoint_url)
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(cache))
    yield monkeypatch
    end_all()


def end_all() -> None:
    """Close what is open, and have the next use read the settings anew."""
    for fs in list(VbnfsFileSystem._cache.values()):
        fs.close()
    VbnfsFileSystem.clear_instance_cache()


def run(section: Section, release: DemoRelease, truth: Truth) -> None:
    """A section's Python, as one program, of a session and the newest version of this release."""
    for language, code in section.blocks:
        if language == "python":
            text = code.replace(SESSION_ID, truth.session_id).replace(VERSION, f"v{release.versions[-1]}")
            exec(compile(text, section.title, "exec"), {"__name__": "__main__"})


def newest(release: DemoRelease, lines: list[str]) -> list[str]:
    return [line.replace(VERSION, f"v{release.versions[-1]}") for line in lines]


@pytest.mark.parametrize("title", EXPECTED)
def test_a_section(
    title: str,
    by_url: pytest.MonkeyPatch,
    tiny_release: DemoRelease,
    truth: Truth,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The library reads by the address what is in the release's files, and once more from the cache alone.

    Dask's workers take seconds to start: they do so once.
    """
    for mode in ("false", "true") if title != "Dask" else ("false",):
        by_url.setenv("VBNFS_OFFLINE", mode)
        run(SECTIONS[title], tiny_release, truth)
        end_all()
        assert capfd.readouterr().out.splitlines() == newest(tiny_release, EXPECTED[title](truth))


def test_each_section_with_code_is_run() -> None:
    """Every section that has Python is run; pandas stands before the first."""
    assert {title for title, section in SECTIONS.items() if "python" in section.languages} == set(EXPECTED)


def test_pandas(by_url: pytest.MonkeyPatch, tiny_release: DemoRelease, truth: Truth) -> None:
    """pandas reads a table by its address, as the page's first block does."""
    assert 'pd.read_csv("vbnfs://v0.5.0/project_metadata/units.csv")' in DOCUMENT.read_text(encoding="utf-8")
    units = pd.read_csv(f"vbnfs://v{tiny_release.versions[-1]}/project_metadata/units.csv")
    pd.testing.assert_frame_equal(units, truth.units)


def test_an_exported_copy(
    by_url: pytest.MonkeyPatch, tiny_release: DemoRelease, truth: Truth, tmp_path: Path
) -> None:
    """What `vbnfs export` writes has the names of `vbnfs://`, and each file the bytes that its key is the hash of."""
    done = run_vbnfs("export", tmp_path / "disk", "--sessions", "all", "--behavior-only", "all", "--lfp", "yes")
    assert done.returncode == 0, done.stderr
    version = tiny_release.versions[-1]
    copy = tmp_path / "disk" / f"{tiny_release.project}-{version}"
    fs = fsspec.filesystem("vbnfs")
    flat = f"v{version}/ecephys_sessions/"
    names = [name for name in fs.find(f"v{version}") if not name.startswith(flat)]
    local = fsspec.filesystem("file")
    assert [name.removeprefix(f"v{version}/") for name in names] == [
        name.removeprefix(f"{copy}/") for name in local.find(copy)
    ]
    assert {fs.ukey(name) for name in fs.find(flat)} <= set(map(fs.ukey, names))
    for name in names:
        assert fs.ukey(name) == hashlib.blake2b((copy / name.removeprefix(f"v{version}/")).read_bytes()).hexdigest()
