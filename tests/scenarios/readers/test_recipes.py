"""docs/recipes.md does what it says: each of its recipes on a real mount, against the release's files."""

import hashlib
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.fixtures_mount import Mount
from tests.scenarios.readers.recipes import NOT_RUN, NOT_RUN_HERE, Section, run_section, sections
from tests.scenarios.readers.truth import Truth

SECTIONS = {section.title: section for section in sections()}
READERS = Path(__file__).parents[3] / ".venv-readers" / "bin"
IN_READERS = {"SpikeInterface", "NWB Inspector"}  # script/setup all makes their environment
SLOW = {"R", "Octave", "Java", *IN_READERS}  # what these need takes hundreds of megabytes


def first_unit(truth: Truth) -> str:
    """How many spikes the session's first unit has, and when the first was."""
    times = truth.spike_times(0)
    return f"{len(times)} {times[0]:.6f}"


def all_units(truth: Truth) -> str:
    """How many spikes the session has, and when its first unit's first was."""
    times = truth.array("units/spike_times")
    return f"{len(times)} {times[0]:.6f}"


def good_units(truth: Truth) -> str:
    """How many units there are, how many are well isolated, and how often those fire."""
    good = truth.units[truth.units["snr"] > 2]
    assert 0 < len(good) < len(truth.units)
    return f"{len(truth.units)} {len(good)} {good['firing_rate'].mean():.6f}"


def shell(truth: Truth, home: Path, folder: Path) -> list[str]:
    """The session's files, its sum, and how many sessions there are; copies of the same bytes."""
    originals = truth.originals
    of_session = f"behavior_ecephys_sessions/{truth.session_id}/"
    names = sorted(path.removeprefix(of_session) for path in originals if path.startswith(of_session))
    for name in names:
        assert (folder / "session" / name).read_bytes() == originals[of_session + name].read_bytes()
    table = originals["project_metadata/units.csv"].read_bytes()
    assert (folder / "units.csv").read_bytes() == table
    with tarfile.open(folder / "tables.tar") as archive:
        member = archive.extractfile("project_metadata/units.csv")
        assert member is not None
        assert member.read() == table
    name = f"ecephys_session_{truth.session_id}.nwb"
    digest = hashlib.md5(originals[truth.session_path].read_bytes()).hexdigest()
    count = sum("/ecephys_session_" in path for path in originals)
    return ["".join(f"{n}\n" for n in names) + f"{digest}  {home}/vbn/ecephys_sessions/{name}\n{count}\n"]


def hdf5_tools(truth: Truth, home: Path, folder: Path) -> list[str]:
    """What the same tools say of the original; among it the first spike times."""
    original = truth.originals[truth.session_path]
    mounted = f"{home}/vbn/ecephys_sessions/ecephys_session_{truth.session_id}.nwb"
    dump = ("h5dump", "-d", "/units/spike_times", "-s", "0", "-c", "3", str(original))
    listing, dumped = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (("h5ls", f"{original}/units"), dump)
    )
    assert ", ".join(f"{time:g}" for time in truth.spike_times(0)[:3]) in dumped
    return [listing + dumped.replace(str(original), mounted)]


def pynwb(truth: Truth) -> list[str]:
    """The identifier and spikes of the session, and the shape and sum of the LFP."""
    lfp = truth.lfp()
    return [f"{truth.session_id} {first_unit(truth)}\n{lfp.shape} {lfp[:1000, 0].sum():.6e}\n"]


def spikeinterface(truth: Truth) -> list[str]:
    """How many units there are; the first one's spikes, by the nearest sample; and a second of LFP."""
    times, lfp = truth.spike_times(0), truth.lfp()
    units = f"{len(truth.array('units/id'))} {len(times)} {round(times[0] * 30_000) / 30_000:.3f}"
    return [f"{units}\n{(1000, lfp.shape[1])} {lfp[:1000, 0].sum():.6e}\n"]


def nwb_inspector(truth: Truth) -> list[str]:
    """As many issues as it finds in the original."""
    command = [str(READERS / "nwbinspector"), str(truth.originals[truth.session_path]), "--progress-bar", "False"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return ["".join(line for line in report.splitlines(keepends=True) if "issues across" in line)]


def find_sessions(truth: Truth) -> list[str]:
    """The one familiar session with units in LP, and how many units it has."""
    sessions = truth.table("ecephys_sessions")
    found = sessions[sessions["structure_acronyms"].str.contains("'LP'") & (sessions["image_set"] == "G")]
    assert 0 < len(found) < len(sessions)
    return ["".join(f"{row['ecephys_session_id']} {row['unit_count']}\n" for _, row in found.iterrows())]


def a_unit(truth: Truth, home: Path, folder: Path) -> list[str]:
    """The session's unit with the largest snr: its area and rate by the table, its spikes by the file; and a plot."""
    units = truth.units[truth.units["ecephys_session_id"] == int(truth.session_id)].reset_index()
    row = units.loc[units["snr"].idxmax()]
    place = list(truth.array("units/id")).index(row["unit_id"])
    times = truth.spike_times(place)
    assert place > 0
    assert (folder / "unit.png").read_bytes().startswith(b"\x89PNG")
    area, rate = row["structure_acronym"], f"{row['firing_rate']:.6f}"
    return [f"{row['unit_id']} {area} {rate} {len(times)} {times[0]:.6f}\n"]


def lfp_areas(truth: Truth) -> list[str]:
    """Of each channel with LFP its area by the table of channels, by way of the electrodes' own areas."""
    with h5py.File(truth.originals[truth.lfp_path]) as file:
        areas = list(file["general/extracellular_ephys/electrodes/location"].asstr()[()])
    assert len(set(areas)) > 1
    return [f"{areas} {(1000, areas.count('CA1'))}\n"]


def lfp_plot(truth: Truth, home: Path, folder: Path) -> list[str]:
    """Half a second of a channel: how many samples at 1,250 a second, when the first was, their mean; and a plot."""
    with h5py.File(truth.originals[truth.lfp_path]) as file:
        [group] = file["acquisition"].values()
        [series] = group.values()
        times = series["timestamps"][()]
    chosen = (times >= times[0] + 1) & (times < times[0] + 1.5)
    assert chosen.sum() == pytest.approx(625, abs=1)
    assert (folder / "lfp.png").read_bytes().startswith(b"\x89PNG")
    return [f"{chosen.sum()} {times[chosen][0]:.4f} {truth.lfp()[chosen, 3].mean():.6e}\n"]


def jupyter(truth: Truth, home: Path, folder: Path) -> list[str]:
    """The mount's folder."""
    return [f"{home}/vbn\n"]


def xarray(truth: Truth) -> list[str]:
    """How fast the mouse ran between the tenth and the twentieth second."""
    times, speeds = truth.array("processing/running/speed/timestamps"), truth.array("processing/running/speed/data")
    slow = speeds[(times >= 10) & (times <= 20)]
    return [f"{slow.size} {slow.mean():.6f}\n"]


def multiprocessing(truth: Truth) -> list[str]:
    """How many spikes the first four units have, twice."""
    counts = [len(truth.spike_times(unit)) for unit in range(4)]
    return [f"fork {counts}\nspawn {counts}\n"]


def r(truth: Truth) -> list[str]:
    """Tables, and the same spikes by two libraries."""
    spikes = f"{first_unit(truth)} \n"
    return [f"{len(truth.table('ecephys_sessions'))} {good_units(truth)} \n", spikes, spikes]


def octave(truth: Truth) -> list[str]:
    """A table; spikes of a unit, speed, open pupils, and the images shown with the first that was another one."""
    pupil = truth.array("acquisition/EyeTracking/pupil_tracking/area")
    is_open = ~truth.array("acquisition/EyeTracking/likely_blink/data")
    assert 0 < is_open.sum() < len(is_open)
    shown = "intervals/Natural_Images_Lum_Matched_set_ophys_G_2019_presentations"
    is_change, images = truth.array(f"{shown}/is_change") == 1, truth.texts(f"{shown}/image_name")
    first = int(is_change.argmax())
    means = f"{truth.array('processing/running/speed/data').mean():.6f} {np.nanmean(pupil[is_open]):.6e}"
    change = f"{truth.array(f'{shown}/start_time')[first]:.6f} {images[first]}"
    session = f"{first_unit(truth)}\n{means}\n{len(images)} {is_change.sum()} {change}\n"
    return [f"{good_units(truth)}\n", session]


def on_values(expect: Callable[[Truth], list[str]]) -> Callable[[Truth, Path, Path], list[str]]:
    """An expectation that depends on the files' values only."""
    return lambda truth, home, folder: expect(truth)


EXPECTED: dict[str, Callable[[Truth, Path, Path], list[str]]] = {
    "Shell": shell,
    "HDF5's own tools": hdf5_tools,
    "pandas": on_values(lambda truth: [f"{good_units(truth)}\n"]),
    "Polars and pyarrow": on_values(lambda truth: [f"{good_units(truth)}\n"]),
    "h5py": on_values(lambda truth: [f"{first_unit(truth)}\n"]),
    "pynwb": on_values(pynwb),
    "SpikeInterface": on_values(spikeinterface),
    "NWB Inspector": on_values(nwb_inspector),
    "Find sessions, and open them": on_values(find_sessions),
    "A unit: its row, its spikes, a plot": a_unit,
    "Which area an LFP channel is in": on_values(lfp_areas),
    "LFP: half a second of a channel, and a plot": lfp_plot,
    "Jupyter": jupyter,
    "xarray with h5netcdf": on_values(xarray),
    "Python's multiprocessing": on_values(multiprocessing),
    "R": on_values(r),
    "Octave": on_values(octave),
    "Java": on_values(lambda truth: [f"{first_unit(truth)}\n", f"{all_units(truth)}\n"]),
    "C": on_values(lambda truth: [f"{all_units(truth)}\n"]),
}


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=[pytest.mark.slow] if title in SLOW else []) for title in EXPECTED]
)
def test_recipe(title: str, mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """A section's blocks, run as they stand in the document, print what the release's files hold."""
    home, programs = mount.path.parent, READERS if title in IN_READERS else None
    if programs and not programs.exists():
        pytest.skip("no .venv-readers: script/setup all makes it")
    printed = run_section(SECTIONS[title], home=home, session_id=truth.session_id, folder=tmp_path, programs=programs)
    assert printed == EXPECTED[title](truth, home, tmp_path)


def is_marked_as_not_run(section: Section) -> bool:
    return section.text.lstrip().startswith(NOT_RUN_HERE)


def test_every_recipe_is_run_or_says_that_it_is_not() -> None:
    """Each section of the document is run here, or is of a language that cannot be had and says so."""
    assert SECTIONS
    for section in SECTIONS.values():
        assert section.blocks, section.title
        assert (section.title in EXPECTED) != (section.languages <= NOT_RUN), section.title
        assert (section.languages <= NOT_RUN) == is_marked_as_not_run(section), section.title
