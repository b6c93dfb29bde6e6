"""The folder `.vbnfs` of a real mount, with either engine."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import ENGINES, Mount, Mounts, until
from vbnfs.filesystem.about import NAME

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
UNITS = "project_metadata/units.csv"
PATTERN = Pattern(300_000)

pytestmark = pytest.mark.scenario


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with a table and a session."""
    with serve({"0.1.0": {UNITS: b"unit_id\n1\n", SESSION: PATTERN}}) as server:
        yield server


@pytest.fixture(params=ENGINES)
def mount(mounts: Mounts, server: FakeS3Server, request: pytest.FixtureRequest) -> Mount:
    """A mount of it."""
    return mounts(server.endpoint_url, "--fuse", request.param)


def provenance(mount: Mount, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((mount.path / NAME / "provenance" / f"{file}.json").read_bytes())
    return found


def errno_of(path: Path, flags: int = os.O_RDONLY) -> int | None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        os.open(path, flags)
    return caught.value.errno


def has_its_size(path: Path) -> bool:
    """Whether an open file is as long as stat says: it is, unless a second has passed in between."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size == len(file.read())


def output(*words: str | Path) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def test_it_is_found_and_not_listed(mount: Mount, tmp_path: Path) -> None:
    """Its names can be listed and read; no listing of the mount has it, nor find, du and rsync; there is no other."""
    about = mount.path / NAME
    assert os.listdir(about) == ["status.json", "figures.json", "log", "provenance"]
    assert {"ecephys_sessions", "manifests"} <= set(os.listdir(about / "provenance"))
    assert os.listdir(about / "provenance" / "ecephys_sessions") == ["ecephys_session_1044.nwb.json"]
    assert NAME not in os.listdir(mount.path)
    assert [line for line in output("find", mount.path) if NAME in line] == []
    assert [line for line in output("du", "-a", mount.path) if NAME in line] == []
    assert [line for line in output("rsync", "-rn", "--list-only", f"{mount.path}/") if NAME in line] == []
    assert (about / "..").samefile(mount.path)
    assert (about / "provenance" / "..").samefile(about)
    for wrong in (about / "other", about / "provenance" / SESSION, about / "provenance" / "README.txt.json"):
        assert errno_of(wrong) == errno.ENOENT
    assert errno_of(mount.path / "manifests" / NAME) == errno.ENOENT
    assert errno_of(about / "status.json" / "x") == errno.ENOTDIR
    assert errno_of(about / "status.json", os.O_WRONLY) == errno.EROFS
    assert os.listxattr(about / "status.json") == []
    with pytest.raises(OSError, match="No data"):
        os.getxattr(about / "status.json", "user.vbnfs.url")


def test_texts_are_whole(mount: Mount, tmp_path: Path) -> None:
    """cat, cp and less get all of a text; stat gives its size; an open file stays as it was opened."""
    about = mount.path / NAME
    for name in ("status.json", "figures.json", "log", f"provenance/{SESSION}.json"):
        copy = tmp_path / "copy"
        shutil.copy(about / name, copy)
        subprocess.run(["cp", about / name, copy], check=True)
        text = copy.read_bytes()
        assert text.endswith(b"\n")
        assert len(output("less", about / name)) == text.count(b"\n")
        until(partial(has_its_size, about / name))
    with (about / f"provenance/{SESSION}.json").open("rb") as file:
        assert json.loads(file.read(64 << 10))["cached_bytes"] == 0
        (mount.path / SESSION).read_bytes()
        status = json.loads((about / "status.json").read_bytes())
        file.seek(0)
        assert json.loads(file.read())["cached_bytes"] == 0
    assert (status["default_version"], status["pid"]) == ("0.1.0", mount.status()["pid"])
    found = json.loads((about / "figures.json").read_bytes())
    assert found["metrics"].keys() == mount.status()["metrics"].keys()
    assert {"waits", "failures", "fills"} <= found.keys()
    assert '"event": "mounted"' in (about / "log").read_text()


def test_without_network(mount: Mount, server: FakeS3Server) -> None:
    """All of it is read while S3 is away: where a file comes from, what is cached, and why it could not be read."""
    (mount.path / UNITS).read_bytes()
    server.stop()
    with pytest.raises(OSError, match="unreachable"):
        (mount.path / SESSION).read_bytes()
    found = provenance(mount, f"manifests/v0.1.0/{SESSION}")
    url = os.getxattr(mount.path / SESSION, "user.vbnfs.url").decode()
    assert (found["path"], found["url"], found["size_bytes"]) == (f"manifests/v0.1.0/{SESSION}", url, 300_000)
    assert url.endswith(f"?versionId={found['version_id']}")
    assert found["file_hash"] == os.getxattr(mount.path / SESSION, "user.vbnfs.file_hash").decode()
    assert (found["dataset_versions"], found["cached_bytes"]) == (["0.1.0"], 0)
    assert "connect to the network" in found["last_error"]
    found = provenance(mount, UNITS)
    assert (found["cached_bytes"], found["last_error"]) == (10, None)
    assert found["verified"].startswith(("blake2b:", "no: "))
    manifest = next(name for name in os.listdir(mount.path / "manifests/v0.1.0") if name.endswith(".json"))
    assert provenance(mount, f"manifests/v0.1.0/{manifest}")["cached_bytes"] > 0
    assert json.loads((mount.path / NAME / "status.json").read_bytes())["is_offline"]


@pytest.mark.root
def test_what_others_may_read(mounts: Mounts, server: FakeS3Server) -> None:
    """The status and provenance are for all readers of a mount; the figures and the log are not."""
    mount = mounts(server.endpoint_url, "--allow-other", "--umask", "022")
    about = mount.path / NAME
    modes = {name: oct((about / name).stat().st_mode) for name in ("status.json", "figures.json", "log")}
    assert modes == {"status.json": "0o100444", "figures.json": "0o100400", "log": "0o100400"}
    (mount.path / SESSION).read_bytes()
    text = (about / "status.json").read_text()
    assert {"cache_dir", "log_file", "last_error", "metrics"}.isdisjoint(json.loads(text))
    done = subprocess.run(["cat", about / "figures.json"], user=65534, group=65534, extra_groups=[], check=False)
    assert done.returncode == 1
    assert "ecephys" not in text


def test_listed_or_not_there(mounts: Mounts, server: FakeS3Server) -> None:
    """By the setting the top folder lists it, the same each time, or it is not there at all."""
    mount = mounts(server.endpoint_url, "--status-folder", "listed")
    assert os.listdir(mount.path)[-1] == NAME == os.listdir(mount.path)[-1]
    mount.umount()
    gone = mounts(server.endpoint_url, "--status-folder", "off", name="gone")
    assert errno_of(gone.path / NAME) == errno.ENOENT
