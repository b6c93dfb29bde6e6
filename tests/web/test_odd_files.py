"""Quick looks into files that are damaged, empty or otherwise than such files are: each says why in words."""

import html
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.fakes.dataset import serve
from tests.web.conftest import Visit, visiting
from tests.web.test_quick_looks import plots

LFP = "acquisition/probe_1_lfp/probe_1_lfp_data"
RUNNING = "processing/running/speed"


def no_units(file: h5py.File) -> None:
    """Tables of units without a row."""
    for name in ("id", "spike_times", "spike_times_index", "waveform_mean", "waveform_mean_index"):
        file[f"units/{name}"] = np.empty(0)


def wrong_index(file: h5py.File) -> None:
    """An index that goes down, and beyond the spikes."""
    file["units/id"], file["units/spike_times"] = [1, 2, 3], np.arange(10.0)
    file["units/spike_times_index"] = [5, 2, 99]


def short_index(file: h5py.File) -> None:
    """An index that lacks a unit."""
    file["units/id"], file["units/spike_times"], file["units/spike_times_index"] = [1, 2, 3], np.arange(10.0), [5, 9]


def huge(file: h5py.File) -> None:
    """An array of more values than 64 bits count, of which none was ever written."""
    file["units/id"], file["units/waveform_mean_index"] = [1], np.array([4])
    file.create_dataset("units/waveform_mean", (4, 1 << 32, 1 << 32), chunks=(1, 1, 1), dtype="f4")


def odd_intervals(file: h5py.File) -> None:
    """Beside the tables of presentations an array, and links that lead nowhere or in a circle."""
    file["units/id"], file["units/spike_times"], file["units/spike_times_index"] = [1], np.arange(10.0), [10]
    file["intervals/one/start_time"], file["intervals/one/is_change"] = [2.0, 4.0], [True, False]
    file["intervals/array"] = [1.0]
    file["intervals/nowhere"], file["intervals/circle"] = h5py.SoftLink("/none"), h5py.SoftLink("/intervals/circle")


def uneven(file: h5py.File) -> None:
    """Fewer times than values."""
    file[f"{RUNNING}/data"], file[f"{RUNNING}/timestamps"] = np.zeros(10), np.zeros(9)


def in_metres(file: h5py.File) -> None:
    """Values that are stored in another unit than they have (NWB's `conversion` and `offset`)."""
    file[f"{RUNNING}/data"], file[f"{RUNNING}/timestamps"] = np.full(10, 0.25), np.arange(10.0)
    file[f"{RUNNING}/data"].attrs.update({"conversion": 100.0, "offset": 5.0})


def in_bits(file: h5py.File) -> None:
    """LFP as a converter gives it, of ten seconds."""
    file[f"{LFP}/data"] = np.tile(np.array([-10, 10], np.int16), 500)[:, None]
    file[f"{LFP}/data"].attrs["conversion"] = 1e-6
    file[f"{LFP}/timestamps"] = 3 + np.arange(1000) / 100


def backwards(file: h5py.File) -> None:
    """Times that go down."""
    file[f"{LFP}/data"], file[f"{LFP}/timestamps"] = np.zeros((10, 2)), np.arange(10.0)[::-1]


def no_lfp(file: h5py.File) -> None:
    """A group of acquisitions in which no LFP is."""
    file["acquisition/other/x"] = [1.0]


ODD = {made.__name__: made for made in (no_units, wrong_index, short_index, huge, odd_intervals, uneven)} | {
    made.__name__: made for made in (in_metres, in_bits, backwards, no_lfp)
}


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The page of a release of all these files."""
    place = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(place / "cache"))
        files = {f"odd/{name}.nwb": written(place / name, make) for name, make in ODD.items()}
        with serve({"0.5.0": files}) as server, visiting(server) as visit:
            yield visit


def written(path: Path, make: Callable[[h5py.File], None]) -> bytes:
    """The bytes of a file that is made so."""
    with h5py.File(path, "w") as file:
        make(file)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("no_units", "look=unit", "it has no units"),
        ("no_units", "look=waveform", "it has no units"),
        ("wrong_index", "look=unit", "Unit 1: 5 spikes in 4 s"),
        ("wrong_index", "look=unit&unit=2", "units/spike_times_index does not say where the values of this unit are"),
        ("wrong_index", "look=unit&unit=3", "units/spike_times_index does not say where the values of this unit are"),
        ("short_index", "look=unit&unit=3", "units/spike_times_index does not say where the values of this unit are"),
        ("huge", "look=waveform", "values are too many for a quick look"),
        ("odd_intervals", "look=unit", "Unit 1 around 1 change of"),
        ("uneven", "look=running", "it has 10 samples, and times of 9"),
        ("in_metres", "look=running", "The highest of the means that are drawn is 30 cm/s"),
        ("in_bits", "look=lfp", "(standard deviation 10 µV)"),
        ("in_bits", "look=lfp&start=9.989&seconds=5", "(standard deviation 10 µV)"),
        ("in_bits", "look=lfp&start=4000", "it is 10.0 s long; nothing is there from second 4,000 on"),
        ("backwards", "look=lfp", "its times do not go up"),
        ("no_lfp", "look=lfp", "it has no LFP"),
    ],
)
def test_what_is_said_of_an_odd_file(visitor: Visit, name: str, query: str, words: str) -> None:
    """The figure, with its numbers in their unit; or why there is none."""
    answer = visitor.browser.get(f"/look/v0.5.0/odd/{name}.nwb?{query}")
    assert answer.status_code == 200
    assert words in html.unescape(answer.text)
    assert all(plot["x"] for plot in plots(answer.text))


@pytest.mark.parametrize("name", ODD)
def test_the_structure_of_an_odd_file(visitor: Visit, name: str) -> None:
    """Its outline and map are shown."""
    answer = visitor.browser.get(f"/structure/v0.5.0/odd/{name}.nwb")
    assert answer.status_code == 200
    assert "Where its arrays lie" in answer.text
