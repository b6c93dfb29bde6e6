"""A small release, and the dataset that it is, as workers in this process see it too."""

from collections.abc import Iterator

import pytest

import vbnfs
from tests.api.release import serving
from tests.fakes.s3_server import FakeS3Server
from vbnfs.dask import worker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A small release of two versions."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server


@pytest.fixture
def dataset(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[vbnfs.Dataset]:
    """The dataset of that server; the workers have the same settings."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    with vbnfs.Dataset() as dataset:
        yield dataset
    worker._opened.cache_clear()  # what the workers have open of this test's cache
