"""fsspec's own tests of getting files (`fsspec.tests.abstract`), all of them, on a release that has their files."""

from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest
from fsspec.tests import abstract

from tests.fakes.dataset import serve
from vbnfs.api.filesystem import VbnfsFileSystem

TOP = "v1.0.0"
BULK = ("file1", "file2", "subdir/subfile1", "subdir/subfile2", "subdir/nesteddir/nestedfile")
GLOB = (
    *("file1", "file2"),
    *(f"subdir{n}/{name}" for n in (0, 1) for name in ("subfile1", "subfile2", "nesteddir/nestedfile")),
)
HASHED = {f"{md5(str(n).encode()).hexdigest()}.txt": str(n).encode() for n in range(10)}
FILES = {
    **{f"bulk/source/{name}": b"" for name in BULK},
    **{f"glob/source/{name}": b"" for name in GLOB},
    **{f"prefix/source/{name}": b"" for name in ("subdir.txt", "subdir/subfile.txt")},
    **{f"hashed/source/{name}": data for name, data in HASHED.items()},
    "recursive/src/file": b"",
}


class Released(VbnfsFileSystem):
    """What one of the tests makes for itself has been released already."""

    def mkdir(self, path: str, **options: Any) -> None:
        """Checked to be there."""
        assert self.isdir(path)

    def touch(self, path: str, **options: Any) -> None:
        """Checked to be there, and empty."""
        assert self.size(path) == 0


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """A release with the files of all tests."""
    with serve({TOP[1:]: FILES}) as server:
        fs = Released(endpoint_url=server.endpoint_url, cache_dir=tmp_path_factory.mktemp("cache"))
        yield fs
        fs.close()


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc] # fsspec has no types
    """The folders of that release, in the place of those that fsspec's fixtures write."""

    @pytest.fixture
    def fs(self, released: Released) -> Released:
        return released

    @pytest.fixture
    def fs_path(self) -> str:
        return f"{TOP}/recursive"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        return f"{TOP}/bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return f"{TOP}/glob/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return f"{TOP}/prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return f"{TOP}/hashed/source"


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    """All of fsspec's tests of `get`."""


def test_all_of_them_are_here() -> None:
    """Each test that fsspec has of getting files runs here as it is, and there are many."""
    theirs = [name for name in vars(abstract.AbstractGetTests) if name.startswith("test_")]
    assert len(theirs) >= 14
    assert all(getattr(TestGet, name) is getattr(abstract.AbstractGetTests, name) for name in theirs)
