"""What opening a session of real size costs: about 1 GB, 1,700 units on six probes, some 220 datasets."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import pynwb
import pytest

import vbnfs
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts
from tests.hdf5.copies import Form, copy
from tests.hdf5.running import RecordedFile, Waves
from tests.hdf5.truth import objects_of
from tests.scenarios.hdf5_programs import (
    LFP_SAMPLES,
    Programs,
    list_names,
    open_with_pynwb,
    read_one_channel,
    read_one_unit,
)
from tests.scenarios.opening import (
    FileData,
    Measure,
    check_rounds_with_an_index,
    measure,
    measure_in_python,
    serving,
)
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.demo.release import LocalRelease, make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.hdf5.branches import Bounds


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalRelease:
    """A release with a genuine NWB session of about 1 GB, and its LFP."""
    return make_release(tmp_path_factory.mktemp("large"), scale=ReleaseScale.real_session())


@pytest.fixture(scope="module")
def session(release: LocalRelease) -> Path:
    """The session."""
    sources = release.versions[0].sources
    return next(source for path, source in sources.items() if path.startswith("ecephys_sessions/"))


@pytest.fixture(scope="module")
def lfp(release: LocalRelease) -> Path:
    """The LFP of one of its probes, 190 MB long."""
    source = next(source for path, source in release.versions[2].sources.items() if "lfp" in path)
    copy(source, target := release.directory / "longer_lfp.nwb", version="earliest", longer=20)
    return target


@pytest.fixture(scope="module")
def chunked(session: Path, release: LocalRelease) -> Path:
    """That session with its larger arrays in compressed chunks, in groups of the newest form."""
    target = release.directory / "chunked.nwb"
    copy(session, target, version="latest", form="compressed")
    return target


@pytest.fixture(scope="module")
def behavior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of behavior only."""
    release = make_release(tmp_path_factory.mktemp("behavior"), scale=ReleaseScale.tiny())
    sources = release.versions[-1].sources
    return next(source for path, source in sources.items() if path.startswith("behavior_only_sessions/"))


Files = Mapping[str, Path]


@pytest.fixture(scope="module")
def files(session: Path, lfp: Path, chunked: Path, behavior: Path) -> Files:
    """By name. The session has a name for each work, so that each finds nothing cached."""
    names = {f"session-{work}": session for work in ("names", "pynwb", "unit", "both")}
    names |= {f"session-python-{work}": session for work in ("names", "unit")}
    names |= {f"lfp-{work}": lfp for work in ("channel", "names", "python-channel")}
    return names | {"chunked": chunked, "behavior": behavior}


@pytest.fixture(scope="module")
def server(files: Files) -> Iterator[FakeS3Server]:
    """A server of a dataset that consists of these. No hash says that some are the same."""
    with serving(files) as server:
        yield server


@pytest.fixture(scope="module")
def costs(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Measure, Measure]]:
    """Measures on a mount with walks, and on one without."""
    mounts = Mounts(tmp_path_factory.mktemp("mounts"))
    with Programs() as programs:
        made = [
            mounts(server.endpoint_url, "--cache-dir", mounts.directory / option, option, name=f"mnt{option}")
            for option in ("--hdf5", "--no-hdf5")
        ]
        walked, plain = (partial(measure, mount, server, programs) for mount in made)
        yield walked, plain
    mounts.end()


def test_rounds_to_open_a_session(costs: tuple[Measure, Measure]) -> None:
    """Listing all of a session with h5py takes at most 10 rounds and 15 MB, and so does opening it with pynwb."""
    for name, work in (("session-names", list_names), ("session-pynwb", open_with_pynwb)):
        found = costs[0](name, work)
        assert found.rounds <= 10
        assert found.asked_bytes <= 15e6
        assert found.walks == 1


def test_rounds_to_open_other_files(costs: tuple[Measure, Measure]) -> None:
    """So does one in compressed chunks and in new groups, an LFP file, and a session of behavior only."""
    for name, work in (("chunked", list_names), ("lfp-names", list_names), ("behavior", open_with_pynwb)):
        found = costs[0](name, work)
        assert found.rounds <= 10
        assert found.asked_bytes <= 15e6


def test_rounds_to_read_one_unit(costs: tuple[Measure, Measure]) -> None:
    """A walk ahead costs bytes, at most 15 MB in all, and no round: with --no-hdf5 it is 3 MB in as many or more."""
    walked, plain = (cost("session-unit", read_one_unit) for cost in costs)
    assert walked.rounds <= plain.rounds
    assert walked.asked_bytes <= 15e6
    assert plain.asked_bytes <= 3e6


def test_rounds_to_read_one_channel(costs: tuple[Measure, Measure]) -> None:
    """Ten seconds of one LFP channel, 12,500 reads of 4 bytes, take at most 7 rounds and 12 MB."""
    found = costs[0]("lfp-channel", read_one_channel)
    assert found.rounds <= 7
    assert found.asked_bytes <= 12e6


def test_rounds_in_python(server: FakeS3Server, tmp_path: Path) -> None:
    """By `File.h5`, without a mount: as with one, though each of 12,500 reads of a channel comes as it is."""
    bounds = {"session-python-names": (10, 15e6), "session-python-unit": (10, 15e6), "lfp-python-channel": (7, 12e6)}
    works = (
        lambda file: file.visititems(lambda name, item: None),
        lambda file: file["units/spike_times"][slice(*file["units/spike_times_index"][99:101])],
        lambda file: next(iter(next(iter(file["acquisition"].values())).values()))["data"][:LFP_SAMPLES, 5],
    )
    with vbnfs.Dataset(endpoint_url=server.endpoint_url, cache_dir=tmp_path) as dataset:
        for (name, (rounds, count_bytes)), work in zip(bounds.items(), works, strict=True):
            found = measure_in_python(dataset, server, name, work, seconds=0.4)
            assert found.rounds <= rounds
            assert found.asked_bytes <= count_bytes


def test_bytes_fetched_to_open_a_session(costs: tuple[Measure, Measure], session: Path) -> None:
    """h5py's walk over all names and pynwb's open together fetch at most 15 MB of 1 GB, with walks and without."""
    assert 900e6 < session.stat().st_size < 1100e6
    for cost, walks in zip(costs, (1, 0), strict=True):
        found = cost("session-both", list_names, open_with_pynwb, seconds=0.05)
        assert found.asked_bytes <= 15e6
        assert found.walks == walks


def test_rounds_of_a_walk(session: Path) -> None:
    """The structure of a session, with all that pynwb reads to open it, comes in 6 rounds and 11 MB."""
    walked = Waves(FileData(session))
    assert walked.structure.is_complete
    assert len(walked.waves) <= 6
    assert len(walked.asked) * BLOCK_BYTES <= 11e6
    with session.open("rb") as file:
        recorded = RecordedFile(file, BLOCK_BYTES)
        with h5py.File(recorded) as opened, pynwb.NWBHDF5IO(file=opened, mode="r") as io:
            io.read()
    assert recorded.blocks <= walked.structure.blocks


@pytest.mark.parametrize(("version", "form"), [("earliest", "chunks"), ("latest", "contiguous")])
def test_rounds_of_a_walk_in_other_forms(session: Path, lfp: Path, tmp_path: Path, version: str, form: Form) -> None:
    """Sessions in chunks or with new groups, and LFP files of 3 GB, take 8 rounds and 15 MB; no object is missing."""
    for number, (source, longer) in enumerate(((session, 1), (lfp, 600))):
        target = tmp_path / f"{number}.nwb"
        copy(source, target, version=version, form=form, longer=longer)
        walked = Waves(FileData(target), bounds=Bounds(fetched_bytes=15_000_000))
        assert target.stat().st_size > 900e6
        assert walked.structure.objects.keys() == objects_of(target).keys()
        assert len(walked.waves) <= 8
        assert len(walked.asked) * BLOCK_BYTES <= 15e6


def test_rounds_to_open_a_session_with_an_index(mounts: Mounts, session: Path, lfp: Path, tmp_path: Path) -> None:
    """A session and an LFP file, as AllenSDK wrote them."""
    with serving({"session": session, "lfp": lfp}) as server:
        check_rounds_with_an_index(mounts, server, tmp_path, "session", "lfp")


@pytest.mark.slow
def test_rounds_of_other_files_with_an_index(mounts: Mounts, chunked: Path, tmp_path: Path) -> None:
    """A session in chunks and with new groups, and a behavior-only file."""
    scale = replace(ReleaseScale.tiny(), ecephys_sessions=1, behavior_sessions=1, session_seconds=3600)
    small = make_release(tmp_path / "small", scale=scale).versions[2]
    source = next(source for path, source in small.sources.items() if "behavior_session_" in path)
    copy(source, longer := tmp_path / "behavior.nwb", version="earliest", longer=20)
    with serving({"chunked": chunked, "behavior": longer}) as server:
        check_rounds_with_an_index(mounts, server, tmp_path, "chunked", "behavior")
