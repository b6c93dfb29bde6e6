"""What is measured, and with which options."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from benchmarks.speed.__main__ import OWN, chosen_parts, narrowed
from benchmarks.speed.courses import COURSES, can, percentile
from benchmarks.speed.files import Files, repeat_rows, version_id
from benchmarks.speed.machine import members
from benchmarks.speed.measuring import TimeIsUp, limited, turned, undisturbed
from benchmarks.speed.origin import PLAIN, PROFILES, TLS, Listener
from benchmarks.speed.parts import ALONE, PARTS, Part
from benchmarks.speed.reading import READING
from benchmarks.speed.release import NAME as RELEASE
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.systems.base import Site
from benchmarks.speed.systems.downloads import split
from benchmarks.speed.systems.programs import run_all
from benchmarks.speed.systems.registry import INDEXED, NOT_PACKAGED, SYSTEMS, Known, absent, variants

OPEN_ONLY = {INDEXED, "lindi", "allensdk", *ALONE}
NOTHING: dict[str, tuple[str, ...]] = {"profiles": (), "transports": (), "systems": (), "courses": ()}


def test_variants_are_named_by_their_options_or_by_a_name() -> None:
    """vbnfs as it is comes first; options may have a name in front."""
    assert list(variants(["--max-connections 32", "wide: --max-connections 64"])) == [
        "vbnfs",
        "vbnfs --max-connections 32",
        "vbnfs wide",
    ]


def test_order_turns_with_each_run() -> None:
    """Each run begins with another system, and none is left out."""
    assert [turned(["a", "b", "c"], run) for run in (0, 1, 3)] == [["a", "b", "c"], ["b", "c", "a"], ["a", "b", "c"]]
    assert turned([], 1) == []


@pytest.mark.parametrize(("size_bytes", "parts"), [(1000, 16), (3, 16), (1 << 30, 7)])
def test_ranges_cover_a_file_once(size_bytes: int, parts: int) -> None:
    """The ranges that curl is given are disjoint, and all of the file."""
    bounds = [tuple(map(int, part.split("-"))) for part in split(size_bytes, parts)]
    covered = [start for start, _ in bounds] + [bounds[-1][1] + 1]
    assert covered == [0, *(last + 1 for _, last in bounds)]
    assert covered[-1] == size_bytes


def test_percentiles_lie_between_the_nearest_values() -> None:
    """The field's way to compute them: of 0 to 100 the 99th is 99."""
    assert percentile([float(value) for value in range(101)], 99) == 99.0
    assert percentile([1.0, 3.0], 50) == 2.0


def test_rows_repeat_until_a_table_is_large_enough() -> None:
    """The header stands once; whole rows follow, no more than needed."""
    assert "".join(repeat_rows(["a,b\n", "1,2\n", "3,4\n"], 15)) == "a,b\n1,2\n3,4\n1,2\n"


def test_version_ids_look_like_those_of_s3() -> None:
    """32 characters, of the key alone."""
    assert len(version_id("a")) == 32
    assert version_id("a") != version_id("b")


def test_parts_measure_everything() -> None:
    """Each course and each shape; the sequential one in every profile, over TLS and plain; small reads in each."""
    parts = PARTS.values()
    assert {course for part in parts for course in part.courses} == set(COURSES)
    assert {part.shape for part in parts} == {*SHAPES, RELEASE}
    everywhere = {(profile.name, transport) for profile in PROFILES for transport in (TLS, PLAIN)}
    over_tls = {(profile.name, TLS) for profile in PROFILES}
    assert places("sequential") == everywhere
    assert places("interactive") == places("many") == over_tls


def places(course: str) -> set[tuple[str, str]]:
    """Where a course is measured with the usual files."""
    return {place for part in PARTS.values() if course in part.courses for place in part.places}


def test_every_system_has_a_turn_in_the_cold_read() -> None:
    """All peers and limits stand beside vbnfs, in each part of the usual files."""
    for part in PARTS.values():
        if "sequential" in part.courses and part.shape == "session":
            assert set(part.systems) == set(SYSTEMS)


def test_sixteen_programs_are_compared_with_every_peer(tmp_path: Path) -> None:
    """And with one limit: a connection for each program. What only opens files has no turn."""
    site = Site(Files(tmp_path, ()), Listener(PROFILES[0], PLAIN, 1), tmp_path / "no certificate", 16)
    systems = {name: known.make(site, tmp_path) for name, known in SYSTEMS.items()}
    assert {name for name in systems if not can("many", systems[name], "session")} == {
        *("curl-24", "zeros", "local"),
        *OPEN_ONLY,
    }
    assert {name for name in systems if can("everything", systems[name], RELEASE)} == {
        *("rclone", "rclone-tuned", "s3fs", "local"),
    }
    assert not any(can("huge", system, "session") for system in systems.values())
    assert not any(can("sequential", system, RELEASE) for system in systems.values())


def test_programs_that_open_files_are_compared_with_all_that_can_serve_them(tmp_path: Path) -> None:
    """h5py and pynwb with all libraries; NWB Inspector with mounts; AllenSDK with vbnfs and its own download."""
    site = Site(Files(tmp_path, ()), Listener(PROFILES[0], PLAIN, 1), tmp_path / "no certificate", 16)
    made = {**variants(()), **{name: known.make for name, known in SYSTEMS.items()}}
    systems = {name: make(site, tmp_path) for name, make in made.items()}
    turns = {course: {name for name in systems if can(course, systems[name], "session")} for course in READING}
    mounts = {"vbnfs", INDEXED, "rclone", "rclone-tuned", "s3fs", "local"}
    assert turns["walk"] == mounts | {"remfile", "fsspec", "s3fs-python", "lindi"}
    assert turns["open"] == turns["walk"] | set(ALONE) - {"h5coro"}
    assert turns["spikes"] == turns["lfp"] | {"obstore"} == (turns["open"] | {"h5coro"}) - {"local"}
    assert turns["ranges"] == turns["open"] - {"lindi", "local"}
    assert turns["sorting"] == turns["recording"] == mounts | {"remfile", "fsspec"}
    assert turns["inspector"] == mounts
    assert turns["allensdk"] == {"vbnfs", INDEXED, "allensdk", "local"}


def test_options_narrow_a_part() -> None:
    """A part has what was asked for of it, in its own order."""
    part = Part("one", "a part", ("spikes", "open"), (("near", TLS), ("home", TLS)))
    assert narrowed(part, NOTHING) == part
    chosen = NOTHING | {"profiles": ("home",), "systems": ("curl", "s3fs"), "courses": ("open", "lfp")}
    left = narrowed(part, chosen)
    assert (left.places, left.systems, left.courses) == ((("home", TLS),), ("s3fs", "curl"), ("open",))
    with pytest.raises(click.UsageError, match="nothing"):
        narrowed(part, NOTHING | {"courses": ("lfp",)})
    assert narrowed(OWN, NOTHING | {"transports": (PLAIN,)}).places == tuple((p.name, PLAIN) for p in PROFILES)


def test_parts_are_chosen_by_name() -> None:
    """None: all of them. One that is not there is an error, and the others are named."""
    assert chosen_parts(()) == chosen_parts(("all",)) == list(PARTS.values())
    assert chosen_parts(("memory", "readers")) == [PARTS["readers"], PARTS["memory"]]
    assert chosen_parts(("files",)) == []
    with pytest.raises(click.UsageError, match="memory"):
        chosen_parts(("nothing",))


def test_peers_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason; those that no registry has, always."""
    monkeypatch.setattr(
        "benchmarks.speed.systems.registry.SYSTEMS",
        {"fast": Known(SYSTEMS["local"].make, program="no-such-program"), "local": SYSTEMS["local"]},
    )
    reasons = absent(["fast", "local"])
    assert "no program no-such-program" in reasons.pop("fast")
    assert reasons == NOT_PACKAGED


def test_helpers_are_members_of_the_family() -> None:
    """Children of children count, and so do those of the session that have lost their parent; others do not."""
    processes = {10: (1, 10), 11: (10, 10), 12: (11, 12), 13: (1, 10), 14: (13, 14), 20: (1, 20), 21: (20, 20)}
    assert sorted(members(10, processes)) == [10, 11, 12, 13, 14]


def test_a_part_ends_when_its_time_is_up() -> None:
    """Programs that run end with it, and the clock is put away."""
    with pytest.raises(TimeIsUp), limited(0.1 / 60):
        run_all([["tail", "-f", "/dev/null"]] * 2)
    with limited(10):
        assert len(run_all([["true"], ["true"]])) == 2


def test_time_that_is_up_waits_until_mounts_are_taken_away() -> None:
    """Whichever thread takes the signal: what must not be interrupted ends first, then the part ends."""
    ends = threading.Event()
    other = threading.Thread(target=ends.wait)
    other.start()
    done = []

    def take_away() -> None:
        with limited(10), undisturbed():
            os.kill(os.getpid(), signal.SIGALRM)
            run_all([["true"]])
            done.append("taken away")

    try:
        with pytest.raises(TimeIsUp):
            take_away()
    finally:
        ends.set()
        other.join()
    assert done == ["taken away"]


def test_a_program_that_fails_is_not_timed() -> None:
    """The others are ended."""
    with pytest.raises(subprocess.CalledProcessError):
        run_all([["tail", "-f", "/dev/null"], [sys.executable, "-c", "raise SystemExit(3)"]])


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_real_size_are_of_the_real_sessions_form(shape: str) -> None:
    """Scale 1 has the number of units, the images and the time of a real session; a small scale has less of all."""
    real, small = SHAPES[shape].release(1.0), SHAPES[shape].release(0.01)
    assert (real.units_per_session, real.session_seconds, real.template_shape) == (1700, 9000, (1200, 1920))
    assert small.units_per_session < 1700
    assert small.template_shape < real.template_shape
    assert small.spikes_per_unit < real.spikes_per_unit


def test_the_large_shape_is_of_three_gigabytes() -> None:
    """Spike times and amplitudes alone, 16 bytes a spike, are most of it."""
    real = SHAPES["large"].release(1.0)
    assert 2.2e9 < real.units_per_session * real.spikes_per_unit * 16 < 2.6e9
