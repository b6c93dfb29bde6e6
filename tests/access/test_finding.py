"""Finding rows from Python: sessions with their files, partial files, and where pyarrow is missing."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from vbnfs.access.dataset import open_dataset
from vbnfs.access.finding import Asked, Finder
from vbnfs.access.project_tables import ProjectTables, project_tables
from vbnfs.access.versions import load_versions
from vbnfs.access.whole_files import whole_files
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_settings
from vbnfs.tables.query import parse_query

SESSION, LFP = "sessions/session_7.nwb", "sessions/probe_probeA_lfp.nwb"
LARGE = "".join(f"{number},7,{number % 9}\n" for number in range(150_000))
FILES = {
    "project_metadata/ecephys_sessions.csv": b"ecephys_session_id,sex,file_id\n7,F,0\n8,M,-999\n",
    "project_metadata/probes.csv": b"ecephys_probe_id,ecephys_session_id,file_id\n70,7,1\n",
    "project_metadata/units.csv": f"unit_id,ecephys_session_id,snr\n{LARGE}".encode(),
    SESSION: Pattern(5_000_000),
    LFP: Pattern(100_000),
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a version with two sessions, one of which has files."""
    with serve({"0.5.0": FILES}) as server:
        yield server


def config_for(server: FakeS3Server, cache: Path) -> Config:
    return load_settings(
        command_line={"endpoint_url": server.endpoint_url, "cache_dir": str(cache)},
        mount_options=(),
        config_file=None,
    ).config


@asynccontextmanager
async def opened_tables(server: FakeS3Server, cache: Path, notes: list[str]) -> AsyncIterator[ProjectTables]:
    async with open_dataset(config_for(server, cache)) as dataset:
        versions = await load_versions(dataset)
        async with project_tables(versions, versions.manifest(None), note=notes.append) as tables:
            yield tables


async def test_sessions_and_their_files(server: FakeS3Server, tmp_path: Path) -> None:
    """The sessions that a query asks for come by id, with their own file, and their probes' by the table's name."""
    async with opened_tables(server, tmp_path, []) as tables:
        finder = Finder(tables)
        [(session, files)] = await finder.sessions(Asked(parse_query("sex == 'F'")))
        paths = ["/".join(file.path) for file in files.all]
        assert (session, paths) == (7, [SESSION, LFP])
        assert [file.path[-1] for file in files.others["probes"]] == ["probe_probeA_lfp.nwb"]
        having = Asked(having={"units": parse_query("snr > 3")})
        assert [one for one, _ in await finder.sessions(having)] == [7]
        assert [one for one, _ in await finder.sessions(Asked())] == [7, 8]


async def test_a_file_that_is_partly_cached(server: FakeS3Server, tmp_path: Path) -> None:
    """A file of which some blocks are there counts as cached by these, and not as whole."""
    async with opened_tables(server, tmp_path, []) as tables:
        async with whole_files(tables.versions) as files:
            assert await files.start(tables.data_files["0"], 1000) == Pattern(5_000_000)[:1000]
        row = (await Finder(tables).rows("ecephys_sessions")).iloc[0]
        assert (row["files"], row["size_bytes"], row["whole_bytes"]) == (2, 5_100_000, 0)
        assert 0 < row["cached_bytes"] < 5_000_000


async def test_without_pyarrow(server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow large tables are parsed each time, which is said once; nothing is kept of them."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    notes: list[str] = []
    for _ in range(2):
        async with opened_tables(server, tmp_path, notes) as tables:
            assert len(await tables.load("units")) == 150_000
            assert await tables.load("units") is await tables.load("units")
    assert notes == ["large tables are parsed each time; pip install 'vbnfs[tables]' lets them be kept parsed"] * 2
    assert list(tmp_path.rglob("tables/*")) == []
