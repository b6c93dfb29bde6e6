"""`vbnfs tree` and `vbnfs map` of files of the dataset: what is fetched for them, what is cached, and offline."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.hdf5_examples import LARGE, MIB, large_example, places_of
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request, error
from tests.fixtures_mount import Mounts, run_vbnfs, without_address
from vbnfs.access.structures import find_in_file
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cli import hdf5_files
from vbnfs.cli.main import cli
from vbnfs.hdf5.branches import Wanted

SESSION = "behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb"
LFP = "behavior_ecephys_sessions/1044385384/probe_1108501237_lfp.nwb"
TABLE = "project_metadata/units.csv"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's file on this machine."""
    path = tmp_path_factory.mktemp("large") / "large.nwb"
    large_example(path)
    return path


@pytest.fixture(scope="module")
def data(local: Path) -> bytes:
    return local.read_bytes()


@pytest.fixture
def server(data: bytes) -> Iterator[FakeS3Server]:
    """A server of two versions: in the first one the session is without its last bytes."""
    dataset = FakeDataset()
    files: dict[str, bytes] = {LFP: b"none", TABLE: b"unit_id\n1\n", "a/x_55555.nwb": b"x", "b/y_55555.nwb": b"y"}
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


def len_of(text: str) -> int:
    """How many bytes a Range asks for (RFC 9110, 14.1.2)."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1


def test_without_a_mount(server: FakeS3Server, data: bytes, local: Path) -> None:
    """Only blocks of structure are fetched, once; whatever names the file; and then all of it works offline."""
    url = f"--endpoint-url={server.endpoint_url}"
    found = asked("tree", SESSION, url)
    assert found["file"] == SESSION
    assert found["size_bytes"] == len(data)
    fetched = [request.headers["range"] for request in server.requests if request.kind == "get_range"]
    assert found["cached_bytes"] < MIB < len(data)
    assert sum(len_of(one) for one in fetched) == found["cached_bytes"]
    with local.open("rb") as opened:
        blocks = find_in_file(opened.fileno(), len(data), Wanted(places=True)).structure.blocks
    drawn = asked("map", SESSION, url)["cached_blocks"]
    assert {number for first, stop in drawn for number in range(first, stop)} == blocks
    assert {path: stored for path, (stored, _) in cached(found).items() if path[1:] in LARGE} == {
        path: sum(stop - start for start, stop in places) for path, places in places_of(local).items()
    }
    assert sum(here for path, (_, here) in cached(found).items() if path[1:] in LARGE) <= found["cached_bytes"]
    server.forget_requests()
    for name in ("ecephys_session_1044385384.nwb", f"manifests/v0.2.0/{SESSION}"):
        again = asked("tree", f"{name}/units", url)
        assert again["object"] == "/units"
        assert cached(again) == {path: both for path, both in cached(found).items() if path.startswith("/units")}
    assert server.count("get_range") == 0
    server.stop()
    done = run_vbnfs("tree", "1044385384", url)
    assert done.returncode == 0, done.stderr
    assert "units/" in done.stdout
    drawn_offline = asked("map", SESSION, url, "--offline")
    assert drawn_offline["cached_blocks"] == drawn


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


def check_what_is_cached(found: dict[str, Any], local: Path) -> None:
    """How much of each array is cached is how much of where h5py finds it lies in cached blocks."""
    runs = [(first * BLOCK_BYTES, stop * BLOCK_BYTES) for first, stop in found["cached_blocks"]]
    for one in found["arrays"]:
        places = places_of(local)[one["path"]]
        cached = sum(max(0, min(stop, end) - max(start, begin)) for start, stop in places for begin, end in runs)
        assert one["cached_bytes"] == cached
        assert one["size_bytes"] == sum(stop - start for start, stop in places)
    assert {one["path"] for one in found["arrays"] if 0 < one["cached_bytes"] < one["size_bytes"]} >= {"/units/times"}


def test_in_a_mount(mounts: Mounts, server: FakeS3Server, data: bytes, local: Path) -> None:
    """A path in a mount is understood with its settings; what the mount's readers have read is cached."""
    mount = mounts(server.endpoint_url)
    file = mount.path / SESSION
    with file.open("rb") as opened:  # a part of it
        os.pread(opened.fileno(), 1, 2 * MIB), os.pread(opened.fileno(), 1, 5 * MIB + 100_000)
    before = asked("map", file)
    check_what_is_cached(before, local)
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
    os.kill(mount.status()["pid"], signal.SIGKILL)
    done = run_vbnfs("tree", file)
    assert (done.returncode, done.stdout, "its daemon is gone" in done.stderr) == (1, "", True)


def test_in_a_mount_of_another_user(mounts: Mounts, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as any file, and nothing is said of its cache, which is that user's."""
    mount = mounts(server.endpoint_url)
    monkeypatch.setattr(hdf5_files, "is_ours", lambda entry: False)
    done = CliRunner().invoke(cli, ["tree", "--json", str(mount.path / SESSION / "units")])
    found = json.loads(done.stdout)
    assert (found["is_of_dataset"], found["cached_bytes"]) == (False, None)
    assert [one["path"] for one in found["objects"]] == ["/units", "/units/times", "/units/waves"]


def on_a_terminal(*arguments: str | Path, **variables: str) -> str:
    """What a command shows on a terminal of 60 columns, whatever COLUMNS was set to by what runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = shlex.join([sys.executable, "-m", "vbnfs", *map(str, arguments)])
    done = subprocess.run(
        ["script", "-qec", f"stty cols 60; {command}", os.devnull],
        env={**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode()


def test_on_a_terminal(local: Path) -> None:
    """A terminal gets colours, and lines of its width; a user who wants no colours gets letters."""
    shown = on_a_terminal("map", local)
    assert "\x1b[38;5;" in shown
    assert "█" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines()[1:])) <= 60
    shown = on_a_terminal("map", local, NO_COLOR="1")
    assert "38;5" not in shown
    assert "AAAAAAAA" in shown


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
        ("1108501237", f"{LFP}: not an HDF5 file"),
        ("55555/units", "55555: not in the dataset as one file: name one of a/x_55555.nwb, b/y_55555.nwb"),
        ("/no/such/file.nwb", "/no/such/file.nwb: no such file or folder"),
        (f"{SESSION}/units/none", "/units/none: no such object; /units has times, waves"),
    ):
        done = run_vbnfs("tree", name, url)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert words in done.stderr
        assert without_address(done.stderr).count("\n") == 1


def test_a_file_that_is_cut_short_in_the_dataset(server: FakeS3Server) -> None:
    """What an earlier version has of it is shown, with status 1 and both sizes."""
    done = run_vbnfs("tree", "1044385384", "--dataset-version=0.1.0", f"--endpoint-url={server.endpoint_url}")
    assert done.stdout.startswith(f"{SESSION}  4.0 MiB")
    assert done.returncode == 1
    assert "units/" in done.stdout
    assert "cut short: by its superblock it has 6.5 MiB, and 4.0 MiB are there" in done.stderr
    assert "docs/troubleshooting.md#" in done.stderr
