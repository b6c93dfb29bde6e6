"""The programs that open a file, each with a tiny one: real files, nginx, real mounts and the real programs."""

from pathlib import Path

import pytest

from benchmarks.speed import works
from benchmarks.speed.measuring import Options, measure
from benchmarks.speed.origin import TLS
from benchmarks.speed.parts import Part
from benchmarks.speed.systems.registry import INDEXED, SYSTEMS, absent

WANTED = (INDEXED, "lindi", "s3fs-python", "allensdk", "local")
COURSES = ("walk", "sorting", "recording", "inspector", "allensdk")
SPIKEINTERFACE = {works.SORTING, works.SORTING_MADE, works.RECORDING, works.RECORDING_MADE}
ALLENSDK = {works.ALLENSDK, works.ALLENSDK_PROJECT, works.ALLENSDK_SESSION, works.ALLENSDK_LFP}


@pytest.mark.slow
def test_every_program_opens_the_files_of_the_benchmark(tmp_path: Path) -> None:
    """h5py walks with the libraries; NWB Inspector, SpikeInterface and AllenSDK open what is in a mount.

    AllenSDK's own download asks the same origin, and copies on the local disk ask none. Nothing but the files is left.
    """
    missing = set(absent(WANTED)) & set(WANTED)
    if missing:
        pytest.skip(f"script/setup bench installs them: {', '.join(sorted(missing))}")
    part = Part("programs", "programs", COURSES, (("lan", TLS),), systems=WANTED, runs=1)
    options = Options(tmp_path, connections=4, scale=0.01, seed=0, much_bytes=1, minutes=5)
    made = measure(part, {name: SYSTEMS[name].make for name in WANTED}, options)
    assert made.failures == []
    done = {system: {sample.work for sample in made.samples if sample.system == system} for system in WANTED}
    mounted = {works.WALK, works.INSPECTOR} | SPIKEINTERFACE | ALLENSDK
    assert done[INDEXED] == done["local"] == {work.name for work in mounted}
    assert done["allensdk"] == {work.name for work in ALLENSDK}
    assert done["lindi"] == done["s3fs-python"] == {works.WALK.name}
    fetched = {(sample.work, sample.system): sample.extra.get("MB fetched") for sample in made.samples}
    assert fetched[works.ALLENSDK.name, "local"] == 0
    assert (fetched[works.ALLENSDK.name, "allensdk"] or 0) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["files-session-0.01-0"]
