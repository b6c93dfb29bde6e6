"""What results are known by: two functions that return different values are two, in whatever way they were made."""

import functools
import json
import operator
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vbnfs.dask.manifest import manifest_of
from vbnfs.dask.results import ResultFolder
from vbnfs.errors import ResultsError


def rate(session: object, least: float = 0.0) -> float:
    return least


def peak(session: object, least: float = 0.0) -> float:
    return least


def known(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function is known by, as the folder has it."""
    found = manifest_of(function, {})
    assert json.loads(json.dumps(found)) == found
    return found


def typed(text: str) -> Any:
    """A function as typed at Python's prompt: it has no source."""
    names: dict[str, Any] = {}
    exec(compile(text, "<stdin>", "exec"), names)
    return names["f"]


def closure(value: Any) -> Callable[..., Any]:
    def inner(session: object) -> Any:
        return value

    return inner


def with_default(value: Any) -> Callable[..., Any]:
    def inner(session: object, least: Any = value, *, most: Any = value) -> Any:
        return least, most

    return inner


def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(session: object) -> Any:
        return function(session) * 2

    return wrapper


def halved(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(session: object) -> Any:
        return function(session) / 2

    return wrapper


class Analysis:
    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, session: object) -> float:
        return self.least

    def run(self, session: object) -> float:
        return self.least


def test_a_function_is_known_by_its_source() -> None:
    """The manifest has the function's name, a hash of its source, and the arguments as JSON has them."""
    found = manifest_of(rate, {"least": np.float64(2.0), "areas": ("VISp",)})
    assert (found["function"], len(found["source"])) == ("tests.dask.test_manifest.rate", 64)
    assert json.loads(json.dumps(found)) == found
    assert found["arguments"] == {"least": 2.0, "areas": ["VISp"]}
    assert known(len) == {
        "function": "builtins.len",
        "source": "",
        "values": [{"name": "builtins.len"}],
        "arguments": {},
    }
    with pytest.raises(ResultsError, match="the arguments cannot be stored with the results: object is not plain"):
        manifest_of(rate, {"x": object()})


def test_values_given_before() -> None:
    """What `partial` gives is in the manifest, with the function's own name and source."""
    found = known(partial(rate, least=2.0))
    assert (found["function"], found["source"]) == (known(rate)["function"], known(rate)["source"])
    assert found["values"][0] == {"args": [], "keywords": {"least": 2.0}}


FRAME = pd.DataFrame({"unit": [1, 2]})
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "partial": (partial(rate, least=1), partial(rate, least=2)),
    "of-another": (partial(rate, least=1), partial(peak, least=1)),
    "prompt": (typed("def f(session): return 1"), typed("def f(session): return 2")),
    "prompt-names": (typed("def f(session): return session.a"), typed("def f(session): return session.b")),
    "prompt-inner": (
        typed("def f(session): return [i + 1 for i in session]"),
        typed("def f(session): return [i + 2 for i in session]"),
    ),
    "closure": (closure(1), closure(2)),
    "closure-of-function": (closure(rate), closure(peak)),
    "closure-of-frame": (closure(FRAME), closure(FRAME + 1)),
    "closure-of-path": (closure(Path("a")), closure(Path("b"))),
    "closure-of-object": (closure(Analysis(1)), closure(Analysis(2))),
    "closure-of-module": (closure(np), closure(pd)),
    "default": (with_default(1), with_default(2)),
    "lambdas-of-a-line": (lambda session: 1, lambda session: 2),
    "method": (Analysis(1).run, Analysis(2).run),
    "callable": (Analysis(1), Analysis(2)),
    "decorated": (doubled(rate), halved(rate)),
    "cached": (functools.cache(rate), functools.cache(peak)),
    "of-C": (operator.itemgetter(1), operator.itemgetter(2)),
    "ufunc": (np.sqrt, np.exp),
    "bound-of-C": ("a".join, "b".join),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_functions_that_differ(pair: tuple[Callable[..., Any], Callable[..., Any]]) -> None:
    """Results of one are none of the other, and each is itself when it is asked for anew."""
    one, other = pair
    assert known(one) != known(other)
    assert known(one) == known(one)


def test_the_same_in_another_process() -> None:
    """A function of the prompt is the same tomorrow: sets in it have another order in each process."""
    program = (
        "from tests.dask.test_manifest import *\n"
        "names = {'a', 'b', 'c', 'd'}\n"
        "print(json.dumps([known(typed(\"def f(session): return session in {'x', 'y', 'z', 'w'}\")),"
        " known(closure(names))]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            timeout=240,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_bytecode_is_of_one_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of what was typed are refused by another Python, which says by which one to go on."""
    assert "python" not in known(rate)
    function, here = typed("def f(session): return 1"), ResultFolder(tmp_path / "r")
    here.open(manifest_of(function, {}))
    monkeypatch.setattr("sys.version_info", (3, 99))
    with pytest.raises(ResultsError, match=r"of another python: the bytecode .* is Python 3\.1\d's: run it by that"):
        here.open(manifest_of(function, {}))


def test_a_function_that_calls_itself() -> None:
    """It is known, though it is a value of its own."""

    def factorial(count: Any) -> Any:
        return count * factorial(count - 1) if count else 1

    assert known(factorial)["values"] == [{"factorial": {"function": known(factorial)["function"]}}]


def test_values_that_nothing_is_known_of() -> None:
    """They are refused before anything runs, by the function's name and with what helps."""
    with pytest.raises(
        ResultsError, match=r"values that .*inner was made with .*lock' object: give them by arguments="
    ):
        manifest_of(closure(threading.Lock()), {})


def test_a_number_that_is_none(tmp_path: Path) -> None:
    """The same call goes on where an argument is not a number, which equals nothing, itself included."""
    manifest = manifest_of(rate, {"least": float("nan")})
    assert ResultFolder(tmp_path / "r").open(manifest) == ResultFolder(tmp_path / "r").open(manifest) == set()
