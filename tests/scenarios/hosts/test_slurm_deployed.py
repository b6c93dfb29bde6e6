"""The files of deploy/slurm on a Slurm with one node: mounts for jobs, and nothing of them when the jobs are over."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code_blocks import blocks_of
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from tests.scenarios.hosts.slurm import Cluster, cluster
from vbnfs.host.mount_programs import detach
from vbnfs.host.mountinfo import find_mount, list_mounts

ROOT = Path(__file__).parents[3]
DEPLOYED = ROOT / "deploy" / "slurm"
SESSION = "ecephys_sessions/ecephys_session_{}.nwb"
FILES = {SESSION.format(number): Pattern(3_000_001 + number) for number in (1044, 1045)}
BIN = Path(sys.executable).parent
USER = "nobody"  # every machine has one, who is not root
READS = f"""#!/bin/sh
echo "VBN=${{VBN-}}"
: "${{VBN:?}}"
cat "$VBN/{SESSION.format(1044)}" | wc -c
exec sleep SECONDS
"""
BOTH = """#!/bin/sh
vbnfs mount "/tmp/vbn-$SLURM_JOB_ID"
[ "$(ls -i "$VBN/ecephys_sessions")" = "$(ls -i "/tmp/vbn-$SLURM_JOB_ID/ecephys_sessions")" ] && echo same
echo both
exec sleep 1000
"""
CHECKS = """
import os, pathlib, sys
file = pathlib.Path(sys.argv[1], f"ecephys_sessions/ecephys_session_{sys.argv[2]}.nwb")
print(sys.argv[1], sys.argv[2], os.getxattr(file, "user.vbnfs.cached").decode(), len(file.read_bytes()), flush=True)
"""
SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(2)
    pathlib.Path("saved").write_text(sys.argv[2])
    sys.exit()
signal.signal(signal.SIGTERM, save)
pathlib.Path("begun").write_text(sys.argv[1])
while True:
    signal.pause()
"""

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two sessions."""
    with serve({"0.1.0": FILES}) as server:
        yield server


class Deployed:
    """A folder that all users can read, with the files of deploy/slurm, in which the places are this folder's."""

    def __init__(self, server: FakeS3Server, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.jobs = folder / "jobs"
        places = {"/opt/vbnfs/bin": BIN, "/etc/vbnfs": folder, "/run/vbnfs-slurm": self.jobs}
        places |= {"/var/cache": folder / "cache", "/var/log": folder}
        places |= {"timeout -k 5 60 ": "timeout 300 "}  # a busy machine is no failure
        for path in DEPLOYED.iterdir():
            text = path.read_text()
            for place, ours in places.items():
                text = text.replace(place, str(ours))
            (folder / path.name).write_text(text)
            (folder / path.name).chmod(path.stat().st_mode)
        with (folder / "slurm.toml").open("a") as settings:
            settings.write(f'endpoint_url = "{server.endpoint_url}"\n')

    @property
    def lines(self) -> str:
        """Those of slurm.conf that docs/slurm.md has, but for the nodes."""
        [text] = [block.code for block in blocks_of("docs/slurm.md") if block.language == "ini"]
        return "".join(
            line.replace("/etc/vbnfs", str(self.folder))
            for line in text.splitlines(keepends=True)
            if not line.startswith("NodeName=")
        )


@pytest.fixture
def deployed(server: FakeS3Server) -> Iterator[Deployed]:
    """The files, in a folder of a test's own, which is not below /tmp: job_container/tmpfs hides that."""
    folder = Path(tempfile.mkdtemp(prefix="vbnfs-slurm-", dir="/var/tmp"))
    try:
        yield Deployed(server, folder)
    finally:
        for entry in list_mounts():
            if entry.mountpoint.is_relative_to(folder):
                detach(entry.mountpoint)
        shutil.rmtree(folder)


class Job:
    """A job of an ordinary user's that was submitted, with the options of sbatch."""

    def __init__(self, slurm: Cluster, deployed: Deployed, name: str, *options: str, seconds: int = 1000) -> None:
        self._slurm = slurm
        folder = deployed.folder / name
        folder.mkdir()
        shutil.chown(folder, USER)
        (folder / "job.sh").write_text(READS.replace("SECONDS", str(seconds)))
        command = ("sbatch", "--parsable", "--output=out", *options, "job.sh")
        self.number = slurm.run(*command, cwd=folder, user=USER, group="nogroup", extra_groups=[]).strip()
        self.mount = deployed.jobs / self.number
        self._out = folder / "out"

    @property
    def printed(self) -> list[str]:
        """The lines that it has printed."""
        return self._out.read_text().splitlines() if self._out.exists() else []

    def reads(self) -> None:
        """Wait until it has read its session through its mount."""
        size = len(FILES[SESSION.format(1044)])
        self._slurm.until(lambda: self.printed == [f"VBN={self.mount}", str(size)])
        assert find_mount(self.mount) is not None

    def is_over(self) -> bool:
        """Whether nothing of it is there any more."""
        state = self._slurm.run("squeue", "--noheader", f"--jobs={self.number}", "--states=all", "--format=%T")
        runs = state.strip() in {"PENDING", "RUNNING", "COMPLETING"}
        return not runs and find_mount(self.mount) is None and not self.mount.exists()


def test_each_job_has_a_mount_until_it_ends(deployed: Deployed, server: FakeS3Server) -> None:
    """A job that asks for it has a mount, whichever way it ends; what one job fetched the others do not fetch.

    It ends by itself, is cancelled, killed, or out of time, loses its mount's daemon, or lives through a slurmd.
    Then neither mount nor folder nor daemon is left, and the node takes jobs.
    """
    asks = "--constraint=vbnfs"
    with cluster(deployed.folder / "cluster", more=deployed.lines) as slurm:
        first = Job(slurm, deployed, "first", asks)
        first.reads()
        asked = server.count("get_range")
        killed, late, dead = others = [Job(slurm, deployed, name, asks) for name in ("killed", "late", "dead")]
        for job in others:
            job.reads()
        assert server.count("get_range") == asked > 0
        slurm.run("scontrol", "update", f"JobId={late.number}", "EndTime=now")
        slurm.run("scancel", "--signal=KILL", "--full", killed.number)
        os.kill(daemon_of(dead.mount), signal.SIGKILL)
        slurm.restart_node()
        assert find_mount(first.mount) is not None
        for job in (first, dead):
            slurm.run("scancel", job.number)
        ends = Job(slurm, deployed, "ends", asks, seconds=0)
        none = Job(slurm, deployed, "none")
        slurm.until(lambda: all(job.is_over() for job in (first, *others, ends, none)))
        assert ends.printed[-1:] == [str(len(FILES[SESSION.format(1044)]))]
        assert none.printed[0] == "VBN="
        assert list(deployed.jobs.iterdir()) == []
        slurm.until(lambda: slurm.node_state == "idle")


def test_a_server_that_does_not_answer(deployed: Deployed, server: FakeS3Server) -> None:
    """A job whose node cannot mount begins, and has the reason in its output; the node is not drained."""
    asks = "--constraint=vbnfs"
    with cluster(deployed.folder / "cluster", more=deployed.lines) as slurm:
        with server.refusing():
            job = Job(slurm, deployed, "job", asks)
            slurm.until(lambda: "VBN=" in job.printed)
        assert job.printed[0].startswith("vbnfs: ")
        assert "cannot be reached" in job.printed[0]
        slurm.until(job.is_over)
        assert slurm.node_state == "idle"
        again = Job(slurm, deployed, "again", asks, seconds=0)
        slurm.until(again.is_over)
        assert again.printed[0] == f"VBN={again.mount}"
        assert list(deployed.jobs.iterdir()) == []


def test_sessions(deployed: Deployed, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of jobs that mount for themselves: each has its session whole before the program reads it.

    Where a server does not answer, the jobs go back into the queue, and begin anew.
    """
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    folder = deployed.folder
    (folder / "list").write_text("1044\n1045\n")
    (folder / "checks.py").write_text(CHECKS)
    with cluster(folder / "cluster", more=deployed.lines) as slurm:
        array = ("sbatch", "--parsable", "--array=1-2%20", "--output=out-%a")
        with server.refusing():
            program = (sys.executable, "checks.py")
            number = slurm.run(*array, "sessions.sh", "list", *program, cwd=folder).strip()
            restarts = ("squeue", "--noheader", "--array", f"--jobs={number}", "--format=%r")
            slurm.until(lambda: slurm.run(*restarts).split() == ["BeginTime"] * 2)
        # Not within the second in which it was requeued: slurmd takes that for the run before ("credential revoked").
        slurm.run("scontrol", "update", f"JobId={number}", "StartTime=now+2")
        slurm.until(lambda: not slurm.run("squeue", "--noheader").strip())
        for task, session in ((1, 1044), (2, 1045)):
            size, printed = str(len(FILES[SESSION.format(session)])), (folder / f"out-{task}").read_text()
            mount, *found = printed.splitlines()[-1].split()
            assert found == [str(session), size, size], printed
            assert (find_mount(Path(mount)), Path(mount).exists()) == (None, False)


def test_a_program_of_sessions_saves_its_state(
    deployed: Deployed, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At SIGTERM to the script, as before a job's time is over, the job lasts until its program has ended."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    folder = deployed.folder
    (folder / "list").write_text("1044\n")
    (folder / "saves.py").write_text(SAVES)
    begun, saved = folder / "begun", folder / "saved"
    with cluster(folder / "cluster", more=deployed.lines) as slurm:
        submit = ("sbatch", "--parsable", "--output=out", "sessions.sh", "list", sys.executable, "saves.py")
        number = slurm.run(*submit, cwd=folder).strip()
        slurm.until(lambda: begun.exists() and begun.read_text() != "")
        slurm.run("scancel", "--batch", "--signal=TERM", number)
        slurm.until(lambda: not slurm.run("squeue", "--noheader").strip())
        assert saved.exists(), (folder / "out").read_text()
        assert saved.read_text() == "1044"
        assert "ExitCode=143:0" in slurm.run("scontrol", "show", "job", number)
    mount = Path(begun.read_text())
    assert (find_mount(mount), mount.exists()) == (None, False)


@pytest.fixture
def bin_without_tmp(deployed: Deployed) -> Iterator[Path]:
    """A folder with `vbnfs` that works where /tmp is hidden: this repository may be below it."""
    seen, own = deployed.folder / "repository", deployed.folder / "bin"
    seen.mkdir()
    own.mkdir()
    libraries = seen / Path(sysconfig.get_path("purelib")).relative_to(ROOT)
    python = Path(sys.executable).resolve()
    (own / "vbnfs").write_text(f'#!/bin/sh\nPYTHONPATH={seen}:{libraries} exec {python} -m vbnfs "$@"\n')
    (own / "vbnfs").chmod(0o755)
    subprocess.run(["mount", "--bind", ROOT, seen], check=True)
    yield own
    subprocess.run(["umount", "--lazy", seen], check=True)


def test_a_tmp_of_each_job_s_own(
    deployed: Deployed, bin_without_tmp: Path, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With job_container/tmpfs a job sees the prolog's mount, and its own on /tmp; the epilog clears both."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("PATH", f"{bin_without_tmp}:{os.environ['PATH']}")
    folder = deployed.folder
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(folder / "cache" / "own"))
    (folder / "base").mkdir()
    (folder / "job.sh").write_text(BOTH)
    files = {"job_container.conf": f"AutoBasePath=true\nBasePath={folder}/base\n"}
    more = f"{deployed.lines}\nJobContainerType=job_container/tmpfs\nPrologFlags=Contain"
    with cluster(folder / "cluster", more=more, files=files) as slurm:
        submit = ("sbatch", "--parsable", "--no-requeue", "--constraint=vbnfs", "--output=out", "job.sh")
        number, out = slurm.run(*submit, cwd=folder).strip(), folder / "out"

        def has_printed() -> bool:
            nonlocal number
            if not slurm.run("squeue", "--noheader").strip():  # Slurm 22.05, busy: _create_ns, "ns base mount failed"
                number = slurm.run(*submit, cwd=folder).strip()
            return out.exists() and "both" in out.read_text()

        slurm.until(has_printed)
        assert out.read_text().splitlines()[-3:] == [f"mounted 0.1.0 at /tmp/vbn-{number}", "same", "both"]
        outside = Path(f"/proc/{slurm.node_process}/mountinfo")
        assert f" {deployed.jobs}/{number} " in outside.read_text()
        assert f" /tmp/vbn-{number} " not in outside.read_text()
        slurm.run("scancel", number)
        slurm.until(lambda: not slurm.run("squeue", "--noheader").strip())
        assert "fuse.vbnfs" not in outside.read_text()
        assert slurm.node_state == "idle"


def daemon_of(mount: Path) -> int:
    """The process that answers a mount."""
    text = run_vbnfs("status", "--json", mount).stdout
    return int(text.partition('"pid":')[2].partition(",")[0])
