"""`by/` in a mount: sessions by what their table says, made when a program looks there."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until

pytestmark = pytest.mark.scenario

TABLE = "project_metadata/ecephys_sessions.csv"
SESSIONS = (
    "ecephys_session_id,mouse_id,genotype,sex,structure_acronyms,image_set,experience_level,file_id\n"
    "7,530862,Sst-IRES-Cre/wt,F,\"['VISp', 'CA1']\",G,Familiar,0\n8,530863,wt/wt,M,\"['VISp']\",H,Novel,1\n"
)
NWB = {f"behavior_ecephys_sessions/{n}/ecephys_session_{n}.nwb": Pattern(300_000, seed=n) for n in (7, 8)}
KEYS = ["README.txt", "experience_level", "genotype", "image_set", "mouse_id", "sex", "structure"]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a version with two sessions."""
    dataset = FakeDataset()
    dataset.publish("0.5.0", {TABLE: SESSIONS.encode(), **NWB})
    with FakeS3Server(dataset.store) as server:
        yield server


def fill(mount: Mount) -> Path:
    """The folder, when it is filled: the table is read, and the folder looked at."""
    (mount.path / TABLE).read_bytes()
    by = mount.path / "by"
    until(lambda: len(os.listdir(by)) > 1)
    return by


@pytest.mark.usefixtures("engine")
def test_sessions_are_browsed(mounts: Mounts, server: FakeS3Server) -> None:
    """Sessions are links, below the values of one key or of two, that programs which walk a tree do not follow.

    Files read by way of them are the released ones. A look costs no request, also without network.
    """
    mount = mounts(server.endpoint_url)
    by = fill(mount)
    assert sorted(os.listdir(by)) == KEYS
    assert sorted(os.listdir(by / "structure")) == ["CA1", "VISp"]
    assert sorted(os.listdir(by / "structure/VISp")) == ["7", "8", *(key for key in KEYS[1:] if key != "structure")]
    assert os.listdir(by / "structure/VISp/experience_level/Novel") == ["8"]
    assert os.readlink(by / "mouse_id/530862/7") == "../../../behavior_ecephys_sessions/7"
    [name] = os.listdir(by / "genotype/Sst-IRES-Cre_wt/7")
    assert (by / "genotype/Sst-IRES-Cre_wt/7" / name).read_bytes() == Pattern(300_000, seed=7)[:300_000]
    asked = server.count()
    found = subprocess.run(["find", by, "-type", "f"], capture_output=True, text=True, check=True).stdout
    assert found == f"{by}/README.txt\n"
    used = subprocess.run(["du", "-s", by], capture_output=True, text=True, check=True).stdout
    assert int(used.split()[0]) < 100
    done = subprocess.run(["grep", "-rl", "ecephys", by], capture_output=True, text=True, check=True).stdout
    assert done == f"{by}/README.txt\n"
    done = subprocess.run(["rsync", "-a", "--list-only", f"{by}/"], capture_output=True, text=True, check=True).stdout
    assert ".nwb" not in done
    assert server.count() == asked
    assert "by/ " in (mount.path / "README.txt").read_text()

    def of_the_first() -> tuple[int, int]:
        """What a command beside the mount says of the session that was read through it."""
        done = run_vbnfs("sessions", "--json", "--endpoint-url", server.endpoint_url)
        row = json.loads(done.stdout)[0]
        return row["cached_bytes"], row["whole_bytes"]

    until(lambda: of_the_first() == (300_000, 300_000))
    verified = run_vbnfs("verify", by / "sex/F/7")
    assert (verified.returncode, verified.stdout) == (
        0,
        "good         behavior_ecephys_sessions/7/ecephys_session_7.nwb\n",
    )
    both = run_vbnfs("verify", "--fetch", by / "structure", by / "sex/F")
    assert (both.returncode, both.stdout.count("good  ")) == (0, 2)
    mount.umount()
    again = fill(mounts(server.endpoint_url, "--offline"))
    assert sorted(os.listdir(again / "sex/F")) == ["7", *(key for key in KEYS[1:] if key != "sex")]


def test_a_look_costs_nothing(mounts: Mounts, server: FakeS3Server) -> None:
    """While the table is not cached the folder has its README.txt, listed at once, and nothing is asked for.

    Once any process has the table cached, the folders are there.
    """
    mount = mounts(server.endpoint_url)
    by = mount.path / "by"
    server.forget_requests()
    assert b"Looking here asks S3 for nothing" in (by / "README.txt").read_bytes()
    for _ in range(3):
        assert os.listdir(by) == ["README.txt"]
    with pytest.raises(FileNotFoundError):
        os.listdir(by / "mouse_id")
    subprocess.run(["ls", "-lR", mount.path], stdout=subprocess.DEVNULL, check=True)
    assert server.count() == 0
    done = run_vbnfs("sessions", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 0, done.stderr
    until(lambda: len(os.listdir(by)) > 1)
    assert sorted(os.listdir(by)) == KEYS


def test_a_table_that_is_wrong(mounts: Mounts) -> None:
    """A table that cannot be read as one leaves the README.txt, and the log says why; the mount goes on."""
    dataset = FakeDataset()
    dataset.publish("0.5.0", {TABLE: b"\xff\xfe\n", **NWB})
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url)
        os.listdir(mount.path / "by")
        (mount.path / TABLE).read_bytes()
        until(lambda: "sessions cannot be browsed" in Path(mount.status()["log_file"]).read_text())
        assert os.listdir(mount.path / "by") == ["README.txt"]
        assert len(os.listdir(mount.path / "behavior_ecephys_sessions")) == 2


def test_what_is_browsed_can_be_fetched(mounts: Mounts, server: FakeS3Server) -> None:
    """`vbnfs prefetch` of a folder takes the sessions that it or a folder in it links to; of a link that session."""
    by = fill(mounts(server.endpoint_url))
    done = run_vbnfs("prefetch", by / "structure/CA1")
    assert (done.returncode, done.stdout) == (0, "1 of 1 files good, 293.0 KiB\n"), done.stderr
    done = run_vbnfs("prefetch", by / "structure/VISp/8")
    assert (done.returncode, done.stdout) == (0, "1 of 1 files good, 293.0 KiB\n"), done.stderr
    done = run_vbnfs("prefetch", by / "structure/VISp", "--dry-run")
    assert done.stdout.startswith("0.5.0: 2 files, 585.9 KiB; 2 of them are complete; 0 B to fetch\n")
    assert run_vbnfs("prefetch", by / "structure").stdout == "2 of 2 files good, 585.9 KiB\n"


def test_the_first_look_can_be_a_command_s(mounts: Mounts, server: FakeS3Server) -> None:
    """A command waits for the folders that its own look has made; without the table it says what to do."""
    mount = mounts(server.endpoint_url)
    for path in ("by", "by/structure/VISp"):
        done = run_vbnfs("prefetch", mount.path / path)
        assert (done.returncode, f"{mount.path / 'by'}: no folders are there yet" in done.stderr) == (1, True), path
    mount.umount()
    again = mounts(server.endpoint_url)
    (again.path / TABLE).read_bytes()
    done = run_vbnfs("prefetch", again.path / "by/structure/CA1")
    assert (done.returncode, done.stdout) == (0, "1 of 1 files good, 293.0 KiB\n"), done.stderr
    done = run_vbnfs("prefetch", again.path / "by/structure/CA3")
    assert "no such file or folder; 'ls " in done.stderr


def test_a_version_appears(mounts: Mounts) -> None:
    """What was filled stays when a dataset version appears, and leads to the version at the top as before."""
    dataset = FakeDataset()
    dataset.publish("0.5.0", {TABLE: SESSIONS.encode(), **NWB})
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--refresh", "1")
        by = fill(mount)
        dataset.publish("0.6.0", {TABLE: SESSIONS.replace("Novel", "Familiar").encode(), **NWB})
        until(lambda: "v0.6.0" in os.listdir(mount.path / "manifests"))
        assert sorted(os.listdir(by)) == KEYS
        assert sorted(os.listdir(by / "experience_level")) == ["Familiar", "Novel"]
