"""The examples in the docstrings of the Python API: each public name has one, and it does what it says."""

import doctest
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import pytest

import vbnfs
from tests.api.release import serving

# What needs AllenSDK is run where that is: tests/scenarios/notebooks.
PUBLIC = [getattr(vbnfs, name) for name in vbnfs.__all__ if name != "allensdk_cache"]
# Of files, as Python describes them: io.RawIOBase.
OF_PYTHON = {"readable", "seekable", "tell", "seek", "read", "readall", "readline", "readinto", "write", "close"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of a small release."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server.endpoint_url


def names_of(public: type) -> dict[str, object]:
    """The class, and what it has that is public and its own."""
    own = {name: item for name, item in vars(public).items() if not name.startswith("_")}
    documented = {name: item for name, item in own.items() if callable(item) or isinstance(item, property)}
    documented |= {name: item for name, item in own.items() if hasattr(item, "func")}  # cached properties
    return {public.__name__: public, **{f"{public.__name__}.{name}": item for name, item in documented.items()}}


@pytest.mark.parametrize("public", [vbnfs, *PUBLIC], ids=lambda public: public.__name__)
def test_examples(public: type | ModuleType, release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example of a class prints what it says, on a cache of its own."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", release)
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "cache"))
    dataset = vbnfs.Dataset()
    globs = {"vbnfs": Shared(dataset), "h5py": h5py, "hashlib": hashlib}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report = list[str]()
    for test in doctest.DocTestFinder().find(public, public.__name__, module=False, globs=globs):
        runner.run(test, out=report.append)
    dataset.close()
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


class Shared:
    """The package, of which every `Dataset()` is the same: opening one anew for each example would take a minute."""

    def __init__(self, dataset: vbnfs.Dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> object:
        return getattr(vbnfs, name)

    def Dataset(self, **settings: Any) -> vbnfs.Dataset:
        """The one that is open, unless settings are given."""
        return vbnfs.Dataset(**settings) if settings else self._dataset


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_each_name_is_documented(public: type) -> None:
    """Each public name has a docstring and types; each of vbnfs's own has an example besides."""
    for name, item in names_of(public).items():
        text = inspect.getdoc(item) or ""
        assert text, name
        function = item.fget if isinstance(item, property) else getattr(item, "func", item)
        if inspect.isfunction(function):
            assert "return" in inspect.get_annotations(function), name
        is_of_python = public is vbnfs.RemoteFile and name.rpartition(".")[2] in OF_PYTHON
        assert is_of_python or ">>>" in text, name
