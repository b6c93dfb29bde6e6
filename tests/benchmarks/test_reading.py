"""The programs that open a file, each with a tiny one: real files, nginx, real mounts and the real programs."""

from pathlib import Path

import pytest

from benchmarks.speed import works
from benchmarks.speed.measuring import Options, measure
from benchmarks.speed.origin import TLS
from benchmarks.speed.parts import Part
from benchmarks.speed.systems.registry import BY_FSSPEC, IN_PYTHON, INDEXED, SYSTEMS, absent

LIBRARIES = ("lindi", "s3fs-python")
SDKS = (INDEXED, "allensdk", "local")
PROGRAMS = {works.INSPECTOR, works.SORTING, works.SORTING_MADE, works.RECORDING, works.RECORDING_MADE}
ALLENSDK = {works.ALLENSDK, works.ALLENSDK_PROJECT, works.ALLENSDK_SESSION, works.ALLENSDK_LFP}

Fetched = dict[tuple[str, str], float]  # MB, by work and system


def fetched_by(directory: Path, courses: tuple[str, ...], systems: tuple[str, ...]) -> Fetched:
    """What each system fetched for each work, once; nothing may fail."""
    part = Part("programs", "programs", courses, (("lan", TLS),), systems=systems, runs=1)
    options = Options(directory, connections=4, scale=0.01, seed=0, much_bytes=1, minutes=5)
    made = measure(part, {name: SYSTEMS[name].make for name in systems}, options)
    assert made.failures == []
    return {(sample.work, sample.system): sample.extra.get("MB fetched", 0) for sample in made.samples}


@pytest.mark.slow
def test_every_program_opens_the_files_of_the_benchmark(tmp_path: Path) -> None:
    """h5py walks with the libraries; NWB Inspector, SpikeInterface and AllenSDK open what is in a mount.

    AllenSDK's own download asks the same origin, and copies on the local disk ask none. Without a mount, vbnfs reads
    many ranges. Only the files are left.
    """
    if missing := set(absent({*LIBRARIES, *SDKS})) & {*LIBRARIES, *SDKS}:
        pytest.skip(f"script/setup all installs them: {', '.join(sorted(missing))}")
    fetched = fetched_by(tmp_path, ("walk", "inspector", "sorting", "recording"), (INDEXED, *LIBRARIES))
    walks = {(works.WALK.name, system) for system in (INDEXED, *LIBRARIES)}
    assert set(fetched) == walks | {(work.name, INDEXED) for work in PROGRAMS}
    by_sdk = fetched_by(tmp_path, ("allensdk",), SDKS)
    assert set(by_sdk) == {(work.name, system) for work in ALLENSDK for system in SDKS}
    assert by_sdk[works.ALLENSDK.name, "local"] == 0
    assert by_sdk[works.ALLENSDK.name, "allensdk"] > 1
    alone = fetched_by(tmp_path, ("ranges",), (IN_PYTHON, BY_FSSPEC))
    assert set(alone) == {(works.RANGES.name, system) for system in (IN_PYTHON, BY_FSSPEC)}
    assert all(megabytes > 10 for megabytes in alone.values())
    assert [path.name for path in tmp_path.iterdir()] == ["files-session-0.01-0"]
