"""The examples in the docstrings of `vbnfs.dask`: each public name has one, and it does what it says."""

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

import vbnfs.dask
from tests.api.release import serving
from tests.dask.clusters import in_this_process
from vbnfs.dask import worker

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask and its libraries warn of
PUBLIC = {name: getattr(vbnfs.dask, name) for name in vbnfs.dask.__all__}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two workers."""
    with in_this_process() as client:
        yield client


def test_examples(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example prints what it says; each public name but `OnCluster`, which is a list of options, has one."""
    monkeypatch.chdir(tmp_path)
    globs = {"vbnfs": vbnfs, "client": client, "Path": Path}
    runner, report = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), list[str]()
    with serving(tmp_path) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        for name, public in PUBLIC.items():
            assert ">>>" in (inspect.getdoc(public) or "") or name == "OnCluster", name
            for test in doctest.DocTestFinder().find(public, name, module=False, globs=globs):
                runner.run(test, out=report.append)
        worker._opened.cache_clear()
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
