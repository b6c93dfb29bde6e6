"""Results in a folder: stored whole, found again, and refused where they are of something else."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vbnfs.dask
from vbnfs.dask.results import ResultFolder, Results, read_results
from vbnfs.errors import ResultsError


def folder(path: Path, **manifest: object) -> ResultFolder:
    """A folder that is open for a function's results."""
    made = ResultFolder(path)
    made.open(manifest or {"function": "f"})
    return made


FRAME = pd.DataFrame({"unit": [1, 2], "rate": [0.5, 1.5]})
ARRAYS = {"psth": np.arange(6.0).reshape(2, 3), "bins": np.array([0, 1])}


@pytest.mark.parametrize(
    ("value", "suffix"),
    [
        (3.5, ".json"),
        (None, ".json"),
        ({"rate": np.float64(2.5), "n": np.int64(3), "names": {"b", "a"}}, ".json"),
        (pd.Series({"rate": 1.5}), ".json"),
        (np.arange(3), ".npz"),
        (ARRAYS, ".npz"),
        (FRAME, ".parquet"),
    ],
)
def test_a_result_is_stored_by_its_kind(tmp_path: Path, value: Any, suffix: str) -> None:
    """Numbers, dicts, Series, arrays and frames are stored in formats that others read, and come back."""
    folder(tmp_path / "r").add(7, value)
    assert (tmp_path / "r" / f"7{suffix}").is_file()
    [found] = read_results(tmp_path / "r").values()
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value)
    elif suffix == ".npz":
        np.testing.assert_equal(found, value)
    else:
        expected = {"rate": 2.5, "n": 3, "names": ["a", "b"]} if isinstance(value, dict) else value
        assert found == (value.to_dict() if isinstance(value, pd.Series) else expected)


def test_a_result_that_has_no_form(tmp_path: Path) -> None:
    """What cannot be stored is refused by name, with what helps, and nothing of it is left."""
    made = folder(tmp_path / "r")
    with pytest.raises(ResultsError, match=r"session 7: .*object is not plain: return numbers.* or give stored_as="):
        made.add(7, {"x": object()})
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["manifest.json"]


def never_ends() -> list[Any]:
    inner: list[Any] = []
    for _ in range(10_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": np.arange(3), "b": [1, "x", None]}, "the array b has objects"),
        (np.array([None, {}], dtype=object), "the array returned has objects"),
        (np.ma.masked_equal([1, 2], 2), "the array returned is masked: fill it"),
        (pd.DataFrame({"a": [{}]}), "struct type 'a' with no child field"),
        (never_ends(), "recursion"),
    ],
    ids=["objects", "array-of-objects", "masked", "empty-struct", "deep"],
)
def test_a_result_that_a_library_does_not_take(tmp_path: Path, value: Any, why: str) -> None:
    """Nothing becomes a pickle, which could not be read again, and nothing is lost: it is refused."""
    made = folder(tmp_path / "r")
    with pytest.raises(ResultsError, match=rf"session 7: .*{why}.*: return numbers.* or give stored_as="):
        made.add(7, value)
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["manifest.json"]


def test_users_own_functions_that_fail(tmp_path: Path) -> None:
    """Whatever they raise, it is one session's result that cannot be stored, or read; the message names it."""

    def fail(*_: object) -> Any:
        raise KeyError("no")

    made = ResultFolder(tmp_path / "r", vbnfs.dask.Format(".txt", fail, fail))
    made.open({"function": "f"})
    with pytest.raises(ResultsError, match="session 7: the result cannot be stored: 'no'"):
        made.add(7, "text")
    (tmp_path / "r" / "7.txt").touch()
    with pytest.raises(ResultsError, match=r"7\.txt: this result cannot be read: 'no': delete it, and run"):
        made.read()


def test_own_format(tmp_path: Path) -> None:
    """A user's own functions store and read results; without them the folder says what is missing."""
    as_text = vbnfs.dask.Format(".txt", lambda path, value: path.write_text(value), Path.read_text)
    made = ResultFolder(tmp_path / "r", as_text)
    made.open({"function": "f"})
    made.add(7, "text")
    assert read_results(tmp_path / "r", stored_as=as_text)[7] == "text"
    with pytest.raises(ResultsError, match=r"results that end in \.txt were stored by stored_as=: give the same"):
        read_results(tmp_path / "r")


def test_only_what_is_missing_is_left(tmp_path: Path) -> None:
    """Opened again, a folder says which sessions are done; what failed is none of them."""
    made = folder(tmp_path / "r", function="f", arguments={"x": 1})
    made.add(7, 1.0)
    made.note_failures({8: {"error": "ValueError: no", "traceback": "..."}, 7: {"error": "before"}}, of={7, 8})
    assert ResultFolder(tmp_path / "r").open({"function": "f", "arguments": {"x": 1}}) == {7}
    found = read_results(tmp_path / "r")
    assert (dict(found), found.failed.loc[8, "error"], list(found.failed.index)) == ({7: 1.0}, "ValueError: no", [8])
    assert repr(found) == "<vbnfs.dask.Results of 1 sessions, 1 failed>"


def test_results_of_some_sessions(tmp_path: Path) -> None:
    """A run has those alone that it asks for: what failed of others stays in the folder, and all are read from it."""
    made = folder(tmp_path / "r")
    for number in (7, 8):
        made.add(number, float(number))
    made.note_failures({9: {"error": "no"}, 10: {"error": "no"}}, of={7, 9, 10})
    made.note_failures({11: {"error": "new"}}, of={8, 10, 11})
    some = made.read(of={8, 10, 11})
    assert (dict(some), some.failed["error"].to_dict()) == ({8: 8.0}, {11: "new"})
    every = read_results(tmp_path / "r")
    assert (list(every), every.failed["error"].to_dict()) == ([7, 8], {9: "no", 11: "new"})


def test_results_of_something_else(tmp_path: Path) -> None:
    """A folder of another function, of other arguments, or of other files is refused, and stays as it is."""
    folder(tmp_path / "r", function="f", arguments={"x": 1}, dataset_version="0.5.0")
    with pytest.raises(ResultsError, match=r"of another arguments, dataset_version: name another folder, or delete"):
        ResultFolder(tmp_path / "r").open({"function": "f", "arguments": {"x": 2}, "dataset_version": "0.6.0"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(ResultsError, match="it has other files than results: name another folder"):
        folder(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    (tmp_path / "r" / "manifest.json").write_text("{")
    with pytest.raises(ResultsError, match=r"manifest\.json: no manifest of results"):
        folder(tmp_path / "r")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="results cannot be stored: File exists"):
        folder(tmp_path / "file")


def test_results_as_a_table() -> None:
    """Dicts and Series are rows, frames are several, numbers are the column `result`; none is an empty table."""
    rows = Results({2: {"rate": 2.0}, 1: pd.Series({"rate": 1.0, "n": 3})}).table
    assert (rows.index.name, rows["rate"].tolist(), rows.loc[1, "n"]) == ("ecephys_session_id", [1.0, 2.0], 3)
    frames = Results({1: FRAME, 2: FRAME}).table
    assert (frames.index.names[0], frames.loc[2, "rate"].tolist()) == ("ecephys_session_id", [0.5, 1.5])
    assert Results({1: 0.5}).table.loc[1, "result"] == 0.5
    assert len(Results({}).table) == len(Results({}).failed) == 0
