"""What is read for figures, in this process: which arrays, and in what words the others are refused.

That another process reads files which may do harm, and what the page makes of it: test_hostile_files.py.
"""

import io
import re

import h5py
import numpy as np
import pytest

from tests.web import test_hostile_files as hostile
from tests.web import test_odd_files as odd
from tests.web.test_hostile_files import SMALL, Make, in_memory
from tests.web.test_odd_files import LFP as LFP_DATA
from vbnfs.web.figures import Figure
from vbnfs.web.look_arrays import array_at, groups_in, object_at
from vbnfs.web.look_figures import figures_of
from vbnfs.web.quick_looks import LFP, RUNNING, UNIT, WAVEFORM, AskedLook

REFUSED = (LookupError, TypeError, ValueError)


def figures_in(data: bytes, asked: AskedLook) -> tuple[list[Figure], list[int]]:
    """The figures of a look into these bytes."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return figures_of(file, asked)


@pytest.mark.parametrize(
    ("kind", "count", "units", "points"), [(UNIT, 2, [1], None), (WAVEFORM, 1, [1], 10), (RUNNING, 1, [], None)]
)
def test_the_figures_of_a_session(kind: str, count: int, units: list[int], points: int | None) -> None:
    """A unit has its raster and its rate, and says which units there are; the others have one figure each."""
    figures, found = figures_in(SMALL, AskedLook(kind))
    assert (len(figures), found) == (count, units)
    assert all(len(one.x) for one in figures)
    assert points is None or len(figures[0].x) == points


def test_a_stretch_of_lfp() -> None:
    """It is of the seconds that are asked for, up to the end; of many channels some are drawn."""

    def make(file: h5py.File) -> None:
        file[f"{LFP_DATA}/data"] = np.tile(np.arange(30.0), (1000, 1))
        file[f"{LFP_DATA}/timestamps"] = 5 + np.arange(1000) / 100

    data = in_memory(make)
    [figure], _ = figures_in(data, AskedLook(LFP, start=2.0, seconds=1.0))
    assert len(figure.series) == 10
    assert figure.x[0] == pytest.approx(2.0, abs=0.02)
    assert figure.x[-1] == pytest.approx(3.0, abs=0.02)
    [figure], _ = figures_in(data, AskedLook(LFP, start=9.985, seconds=5.0))
    assert len(figure.x) == 2
    with pytest.raises(ValueError, match=r"it is 10\.0 s long; nothing is there from second 10 on"):
        figures_in(data, AskedLook(LFP, start=10.0))


@pytest.mark.parametrize(
    ("make", "asked", "words"),
    [
        (odd.no_units, AskedLook(UNIT), "it has no units"),
        (odd.no_units, AskedLook(WAVEFORM), "it has no units"),
        (hostile.units, AskedLook(UNIT, unit=7), "it has no unit 7; the first of its 1 units is 1"),
        (odd.wrong_index, AskedLook(UNIT, unit=2), "does not say where the values of this unit are"),
        (odd.short_index, AskedLook(UNIT, unit=3), "does not say where the values of this unit are"),
        (odd.huge, AskedLook(WAVEFORM), "values are too many for a quick look"),
        (odd.uneven, AskedLook(RUNNING), "it has 10 samples, and times of 9"),
        (odd.backwards, AskedLook(LFP), "its times do not go up"),
        (odd.no_lfp, AskedLook(LFP), "it has no LFP"),
        (odd.no_lfp, AskedLook(UNIT), "it has no units/id"),
        (hostile.circle, AskedLook(RUNNING), "links lead to links without an end"),
        (hostile.large_chunk, AskedLook(RUNNING), "has chunks of 2.0 GiB"),
        (hostile.plugin, AskedLook(RUNNING), "is stored by a filter (32001) that is not read here"),
        (hostile.texts, AskedLook(RUNNING), "has no numbers"),
        (hostile.references, AskedLook(RUNNING), "has no numbers"),
        (hostile.wide, AskedLook(RUNNING), "has no numbers"),
        (hostile.many_units, AskedLook(UNIT), "3,000,000 units are too many"),
        (hostile.fast, AskedLook(LFP), "points are too many to be drawn"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_refused(make: Make, asked: AskedLook, words: str) -> None:
    """What a file lacks, or has otherwise than such files have it, is said in words."""
    with pytest.raises(REFUSED, match=re.escape(words)):
        figures_in(in_memory(make), asked)


@pytest.mark.parametrize("make", [hostile.link_out, hostile.soft_link_out, hostile.raw_out, hostile.virtual_out])
def test_what_is_elsewhere_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is opened: a file that is not there is not missed."""
    monkeypatch.setenv("TEST_SECRET", "/a/folder/that/is/not/there")
    with pytest.raises(ValueError, match=r"which (is|are) not read"):
        figures_in(in_memory(make), AskedLook(RUNNING))


def test_a_factor_that_is_no_number() -> None:
    """What it has been read as would change all values."""

    def make(file: h5py.File) -> None:
        hostile.small(file)
        file[f"{odd.RUNNING}/data"].attrs["conversion"] = [1.0, 2.0]

    with pytest.raises(ValueError, match="its conversion is no number"):
        figures_in(in_memory(make), AskedLook(RUNNING))


def test_objects_by_links() -> None:
    """Links within a file are followed, from its top or from where they are; what is no array is none."""
    with h5py.File.in_memory() as file:
        file["a/b/values"] = np.arange(3.0)
        file["a/down"], file["up"] = h5py.SoftLink("b/./values"), h5py.SoftLink("/a/down")
        assert array_at(file, "up") == object_at(file, "/a/b/values") == object_at(file["a"], "down")
        assert [one.name for one in groups_in(file, "a")] == ["/a/b"]
        assert list(groups_in(file, "a/b/values")) == []
        with pytest.raises(TypeError, match="a/b is no array"):
            array_at(file, "a/b")
        with pytest.raises(LookupError, match="it has no up/more"):
            object_at(file, "up/more")
