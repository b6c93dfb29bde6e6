"""Fetching, pinning, verifying, comparing and citing in Python: the same plans as the commands have."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import vbnfs
from tests.api.release import LFP, SESSION, SESSION_ID, UNITS, serving
from tests.fakes.s3_server import FakeS3Server, error, for_kind
from tests.fixtures_mount import run_vbnfs
from vbnfs.errors import CacheError, NotVerifiedError, PinError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A small release of two versions."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server


@pytest.fixture
def dataset(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[vbnfs.Dataset]:
    """The dataset of that server; the commands have the same settings."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    with vbnfs.Dataset() as dataset:
        yield dataset


def said(*command: str) -> list[dict[str, object]]:
    """What a command says as JSON."""
    done = run_vbnfs(*command, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_prefetch_by_query(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Sessions are found, fetched and checked; a function hears how far it is; a second time nothing is asked."""
    heard = list[tuple[int, int]]()
    found = dataset.latest.prefetch(
        sessions="experience_level == 'Novel'",
        lfp="A",
        progress=lambda progress: heard.append((progress.done_bytes, progress.count_bytes)),
    )
    assert set(found["outcome"]) == {"good"}
    assert {path.rpartition("/")[2] for path in found.index} >= {"units.csv", Path(SESSION).name, Path(LFP).name}
    assert heard
    assert 0 < heard[-1][1] <= heard[-1][0]
    file = dataset.latest.file(SESSION)
    assert file.local_path is not None
    server.forget_requests()
    assert set(dataset.latest.prefetch([file, UNITS])["outcome"]) == {"good"}
    assert server.count("get_range") == 0


def test_how_files_are_named(dataset: vbnfs.Dataset) -> None:
    """One file or several, by path with and without the version's folder; what came of them is by paths that open."""
    version, session = dataset.latest, dataset.session(SESSION_ID)
    for named in (UNITS, [UNITS], f"v0.5.0/{UNITS}", version.file(UNITS), [version.file(UNITS)]):
        assert version.prefetch(named).index.tolist() == [f"v0.5.0/{UNITS}"]
    assert dataset.prefetch("v0.4.0/project_metadata").index.str.startswith("v0.4.0/project_metadata/").all()
    assert {dataset.file(path).dataset_version for path in version.verify().index} == {"0.5.0"}
    every = [session.prefetch(lfp=lfp).index.tolist() for lfp in (True, "yes", "A", ["probeA"])]
    assert every == [[f"v0.5.0/{SESSION}", f"v0.5.0/{LFP}"]] * 4
    assert session.prefetch(lfp=False).index.tolist() == session.prefetch(lfp=[]).index.tolist() == every[0][:1]


def test_a_pin_is_that_of_the_commands(dataset: vbnfs.Dataset) -> None:
    """What Python pins, `vbnfs pins` lists; what holds something else already is refused; both take pins away."""
    dataset.version("0.4.0").pin("old", [UNITS], note="for the figure")
    dataset.session(SESSION_ID).pin("session")
    rows = {str(row["name"]): row for row in said("pins")}
    assert {name: row["dataset_version"] for name, row in rows.items()} == {"old": "0.4.0", "session": "0.5.0"}
    assert (rows["old"]["note"], rows["old"]["newer_files"]) == ("for the figure", 1)
    pins = dataset.pins
    assert pins.loc["old", ["files", "whole_files", "newer_files"]].tolist() == [1, 1, 1]
    assert pins.loc["session", "here_bytes"] == dataset.latest.file(SESSION).size
    with pytest.raises(PinError, match="it holds something else already"):
        dataset.version("0.4.0").pin("old", ["project_metadata"])
    dataset.unpin("old", "session")
    assert said("pins") == []
    with pytest.raises(PinError, match="no such pin"):
        dataset.unpin("old")


def test_no_room(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, dataset: vbnfs.Dataset) -> None:
    """What has no room is refused before anything is fetched, with a remedy in Python's words."""
    monkeypatch.setenv("VBNFS_CACHE_SIZE", "64M")
    small = vbnfs.Dataset(cache_size="64M")
    monkeypatch.setattr("vbnfs.access.room.limit_of", lambda config: 1000)
    server.forget_requests()
    with pytest.raises(CacheError, match=r"cache_size='\d+M' lets it take more"):
        small.session(SESSION_ID).prefetch()
    assert server.count("get_range") == 0
    small.close()


def test_how_far_verifying_is(dataset: vbnfs.Dataset) -> None:
    """A function hears how many bytes of what is complete were hashed; a file that is not is none of them."""
    found = dataset.latest.prefetch([UNITS], progress=False)
    [size_bytes], heard = found["size_bytes"], list[tuple[int, int, int, int]]()
    dataset.latest.verify(
        [UNITS, SESSION],
        progress=lambda one: heard.append((one.done_files, one.files, one.done_bytes, one.count_bytes)),
    )
    assert heard[-1] == (2, 2, size_bytes, size_bytes)


def test_verify(dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path) -> None:
    """A file is hashed anew; what is damaged is found, and with `fetch` fetched again and good; a command agrees."""
    version = dataset.latest
    assert version.verify([UNITS])["outcome"].tolist() == ["not complete"]
    assert version.verify([UNITS, SESSION], fetch=True)["outcome"].tolist() == ["good", "good"]
    damage(dataset.latest.file(SESSION))
    dataset.close()
    found = dataset.latest.verify([SESSION])
    assert found["outcome"].tolist() != ["good"]
    assert dataset.latest.session(SESSION_ID).verify(fetch=True)["outcome"].tolist() == ["good"]
    assert {row["outcome"] for row in said("verify", f"manifests/v0.5.0/{SESSION}")} == {"good"}
    assert set(dataset.verify()["outcome"]) == {"good"}
    with pytest.raises(ValueError, match="no files are named: leave them out for all of the version"):
        version.verify([], fetch=True)


def damage(file: vbnfs.File) -> None:
    """Change a byte of a file in the cache."""
    path = file.local_path
    assert path is not None
    with path.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"\xff\xfe")


def test_a_file_that_cannot_be_had(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Where S3 does not give a file, the error names it and the reason."""
    dataset.latest.sessions.size  # noqa: B018 - the versions and tables are there
    server.behaviours.append(for_kind("get_range", lambda request, honest: error(403, "AccessDenied")))
    try:
        with pytest.raises(NotVerifiedError, match=r"1 of 1 files not verified and kept; .*lfp\.nwb: "):
            dataset.latest.prefetch([LFP])
    finally:
        server.behaviours.clear()


def test_diff(dataset: vbnfs.Dataset) -> None:
    """It says of files, tables and bytes what `vbnfs diff` says."""
    dataset.diff()
    dataset.close()  # the tables that it has fetched are in the cache now
    found = dataset.diff()
    assert found.as_json() == dataset.diff("v0.4.0", "v0.5.0").as_json() == dataset.latest.diff("v0.4.0").as_json()
    with pytest.raises(TypeError, match=r"a dataset version is text, such as '0.5.0', and not 5"):
        dataset.diff(5)  # type: ignore[arg-type]
    assert json.loads(json.dumps(found.as_json())) == json.loads(run_vbnfs("diff", "--json").stdout)
    assert found.files.loc[UNITS, "change"] == "changed"
    assert found.tables[UNITS].changed_columns == {"snr": 1}
    assert (found.old, found.new, found.problems) == ("0.4.0", "0.5.0", {})


def test_cite(dataset: vbnfs.Dataset) -> None:
    """The text is that of `vbnfs cite`; the frame has each file's hash and place."""
    citation = dataset.latest.cite(sessions="all", lfp="yes")
    assert str(citation) + "\n" == run_vbnfs("cite", "--sessions", "all", "--lfp", "yes").stdout
    assert citation.files.loc[SESSION, "hash"] == dataset.latest.file(SESSION).hash
    assert list(citation.list_hashes) == ["0.5.0"]


def test_nothing_is_named(dataset: vbnfs.Dataset) -> None:
    """Where nothing is chosen, the error says how to choose."""
    with pytest.raises(ValueError, match="name files, or sessions="):
        dataset.latest.prefetch()
