"""`vbnfs tree` and `vbnfs map` of files of the dataset: what is fetched for them, what is cached, and offline."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.hdf5_examples import LARGE, MIB, large_example
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request, error
from tests.fixtures_mount import Mounts, run_vbnfs, without_address
from vbnfs.blocks import BLOCK_BYTES

SESSION = "behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb"
LFP = "behavior_ecephys_sessions/1044385384/probe_1108501237_lfp.nwb"
TABLE = "project_metadata/units.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return large_example(tmp_path_factory.mktemp("large") / "large.nwb")


@pytest.fixture
def server(data: bytes) -> Iterator[FakeS3Server]:
    """A server of two versions: in the first one the session is without its last bytes."""
    dataset = FakeDataset()
    files = {LFP: b"no such file", TABLE: b"unit_id\n1\n"}
    dataset.publish("0.1.0", {SESSION: data[: 4 * MIB], **files})
    dataset.publish("0.2.0", {SESSION: data, **files})
    with FakeS3Server(dataset.store) as server:
        yield server


def asked(command: str, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """What a command says as JSON."""
    done = run_vbnfs(command, "--json", *arguments)
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cached(found: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """By path: how much is stored, and how much of that is cached."""
    return {one["path"]: (one["stored_bytes"], one["cached_bytes"]) for one in found["objects"]}


def test_without_a_mount(server: FakeS3Server, data: bytes) -> None:
    """Only blocks of structure are fetched, once; whatever names the file; and then all of it works offline."""
    url = f"--endpoint-url={server.endpoint_url}"
    found = asked("tree", SESSION, url)
    assert found["file"] == SESSION
    assert found["size_bytes"] == len(data)
    fetched_bytes = server.body_bytes
    assert found["cached_bytes"] < MIB < len(data)
    assert {path: stored for path, (stored, _) in cached(found).items() if path[1:] in LARGE} == {
        f"/{name}": size_bytes for name, size_bytes in LARGE.items()
    }
    assert sum(here for path, (_, here) in cached(found).items() if path[1:] in LARGE) <= found["cached_bytes"]
    server.forget_requests()
    for name in ("1044385384", "ecephys_session_1044385384.nwb", f"manifests/v0.2.0/{SESSION}"):
        again = asked("tree", f"{name}/units", url)
        assert again["object"] == "/units"
        assert cached(again) == {path: both for path, both in cached(found).items() if path.startswith("/units")}
    assert server.count("get_range") == 0
    assert fetched_bytes < 3 * MIB
    server.stop()
    for offline in ([], ["--offline"]):
        done = run_vbnfs("tree", "1044385384", url, *offline)
        assert done.returncode == 0, done.stderr
        assert "units/" in done.stdout
        drawn = asked("map", SESSION, url, *offline)
        assert sum((stop - start) * BLOCK_BYTES for start, stop in drawn["cached_blocks"]) >= drawn["cached_bytes"]


def test_what_is_not_cached_offline(server: FakeS3Server) -> None:
    """A file that was never seen is named with the reason; of one that was seen in part that part is shown."""
    url = f"--endpoint-url={server.endpoint_url}"
    assert run_vbnfs("versions", url).returncode == 0
    done = run_vbnfs("tree", SESSION, url, "--offline")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{SESSION}: its structure cannot be read: " in done.stderr

    def refuse(request: Request, honest: Reply) -> Reply | None:
        is_first = request.headers.get("range", "bytes=0-").startswith("bytes=0-")
        return None if is_first else error(403, "AccessDenied")

    server.behaviours.append(refuse)
    for options in ([], ["--offline"]):
        done = run_vbnfs("tree", SESSION, url, *options)
        assert done.returncode == 1
        assert "acquisition/" in done.stdout
        assert "not all of its structure was found: " in done.stderr
        assert ("--offline" if options else "AccessDenied") in done.stderr
        found = asked("tree", SESSION, url, *options, status=1)
        assert not found["is_complete"]
        assert found["left_out"].keys() == {"blocks that did not come"}


def test_in_a_mount(mounts: Mounts, server: FakeS3Server, data: bytes) -> None:
    """A path in a mount is understood with its settings; what the mount's readers have read is cached."""
    mount = mounts(server.endpoint_url)
    file = mount.path / SESSION
    before = asked("map", file)
    assert before["file"] == str(file)
    parts = {part["name"]: part for part in before["parts"]}
    assert parts["units/"]["cached_bytes"] < parts["units/"]["size_bytes"] == 5 * MIB
    with file.open("rb") as opened:
        assert opened.read() == data
    after = asked("map", mount.path / "ecephys_sessions" / Path(SESSION).name)
    assert after["cached_bytes"] == len(data)
    assert after["cached_blocks"] == [[0, -(-len(data) // BLOCK_BYTES)]]
    text = run_vbnfs("tree", mount.path / "manifests" / "latest" / SESSION / "units").stdout
    assert "(100 %)" in text.splitlines()[0]
    assert [line.split()[-4:] for line in text.splitlines() if "times" in line] == [
        ["3.0M", "100", "%", "contiguous"]
    ]
    link = mount.path.parent / "link"
    link.symlink_to(file)
    assert asked("tree", link / "last")["is_of_dataset"]
    done = run_vbnfs("tree", mount.path / SESSION / "unitz")
    assert (done.returncode, "; / has units" in done.stderr) == (1, True)
    for name in ("README.txt", TABLE, LFP):
        done = run_vbnfs("tree", mount.path / name)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{mount.path / name}: not an HDF5 file" in done.stderr
    done = run_vbnfs("tree", mount.path / "none.nwb")
    assert f"no such file or folder; 'ls {mount.path}' lists" in done.stderr


def test_what_a_name_can_be(server: FakeS3Server) -> None:
    """A folder, a name that no file has, one that several have: each is answered with what there is."""
    url = f"--endpoint-url={server.endpoint_url}"
    for name, words in (
        (
            "behavior_ecephys_sessions",
            "a folder of the dataset: name a file in it, such as behavior_ecephys_sessions/",
        ),
        ("0.2.0", "a folder of the dataset"),
        ("1044385385", "1044385385: not in the dataset"),
        ("/no/such/file.nwb", "/no/such/file.nwb: no such file or folder"),
        (f"{SESSION}/units/none", "/units/none: no such object; /units has times, waves"),
    ):
        done = run_vbnfs("tree", name, url)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert words in done.stderr
        assert without_address(done.stderr).count("\n") == 1


def test_a_file_that_is_cut_short_in_the_dataset(server: FakeS3Server) -> None:
    """What an earlier version has of it is shown, with status 1 and both sizes."""
    done = run_vbnfs("tree", f"manifests/v0.1.0/{SESSION}", f"--endpoint-url={server.endpoint_url}")
    assert done.returncode == 1
    assert "units/" in done.stdout
    assert "cut short: by its superblock it has 6.5 MiB, and 4.0 MiB are there" in done.stderr
    assert "docs/troubleshooting.md#" in done.stderr
