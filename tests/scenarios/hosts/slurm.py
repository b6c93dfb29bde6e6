"""A Slurm of this machine alone: munged, slurmctld and a slurmd, in a folder and at ports of a test's own."""

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.mount_namespaces import ALONE
from tests.ports import free_port
from tests.waiting import until

_CONFIGURATION = """
ClusterName=vbnfs
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
FirstJobId={first_job}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmctldParameters=enable_configless
KillWait=5
InactiveLimit=0
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
{more}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Features=vbnfs State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


class Cluster:
    """One that runs: its commands."""

    def __init__(self, folder: Path, node: "_Node") -> None:
        self._folder = folder
        self._node = node

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None, **more: Any) -> str:
        """What a command of Slurm prints, which must not fail."""
        environment = {**os.environ, "SLURM_CONF": str(self._folder / "slurm.conf"), **(env or {})}
        words = list(map(str, command))
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=120, env=environment, **more
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    @property
    def node_state(self) -> str:
        """The state of the node: idle, mixed, allocated, draining, drained, down ..."""
        return self.run("sinfo", "--noheader", "--format=%T").strip()

    @property
    def node_process(self) -> int:
        """The slurmd."""
        return self._node.pid

    def restart_node(self) -> None:
        """End slurmd, and start it again, as an upgrade does: the steps of jobs go on meanwhile."""
        self._node.stop()
        self._node.start()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; if it never does, show the jobs, what they have printed, and the logs."""
        try:
            until(condition, seconds=120)
        except AssertionError as error:
            printed = [f"{path}: {path.read_text()}" for path in self._folder.parent.rglob("out*") if path.is_file()]
            jobs = self.run("squeue", "--states=all")
            raise AssertionError("\n".join([str(error), jobs, *printed, self.logs()])) from None

    def logs(self) -> str:
        """The last lines of its logs."""
        return "".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*.log")))


@contextmanager
def cluster(folder: Path, *, more: str = "", files: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster, while entered. `more` are lines of slurm.conf, `files` what stands beside it.

    With files, its node has a mount namespace of its own, without the mounts of others.
    """
    # Short: it has a socket for each job, unix(7). Not below /tmp: jobs with one of their own run a script in it.
    with TemporaryDirectory(prefix="slurmd-", dir="/var/tmp") as spool:
        Path(spool).chmod(0o755)
        with _cluster(folder, spool, more, files or {}) as made:
            yield made


@contextmanager
def _cluster(folder: Path, spool: str, more: str, files: Mapping[str, str]) -> Iterator[Cluster]:
    folder.mkdir()
    host = socket.gethostname().partition(".")[0]
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    port = free_port()
    text = _CONFIGURATION.format(
        host=host,
        folder=folder,
        spool=spool,
        controller_port=port,
        first_job=port * 1000,  # folders with a job's number are no other cluster's
        node_port=free_port(),
        cpus=os.cpu_count(),
        more=more,
    )
    cgroup = "CgroupAutomount=no\nConstrainCores=no\n"
    for name, content in {"slurm.conf": text, "cgroup.conf": cgroup, **files}.items():
        (folder / name).write_text(content)
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
        f"--log-file={folder}/munged.log",
    ]
    conf = str(folder / "slurm.conf")
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-f", conf]):
            stack.enter_context(_running(command, folder))
            if command is munged:
                until((folder / "munge.socket").exists)
        node = _Node([*(ALONE if files else ()), "slurmd", "-D", "-f", conf, "-N", host], folder)
        stack.callback(node.stop)
        node.start()
        made = Cluster(folder, node)
        until(lambda: "idle" in made.node_state, seconds=30)
        yield made


class _Node:
    """A slurmd, which may be started anew."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command, self._folder = command, folder
        self._stack = ExitStack()
        self.pid = 0

    def start(self) -> None:
        """Start it."""
        self.pid = self._stack.enter_context(_running(self._command, self._folder))

    def stop(self) -> None:
        """End it."""
        self._stack.close()


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[int]:
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
