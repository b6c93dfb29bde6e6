"""A Slurm of this machine alone: munged, slurmctld and a slurmd, in a folder and at ports of a test's own."""

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.waiting import until

_CONFIGURATION = """
ClusterName=vbnfs
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
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
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


class Cluster:
    """One that runs: its commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None, **more: Any) -> str:
        """What a command of Slurm prints, which must not fail."""
        environment = {**os.environ, "SLURM_CONF": str(self._folder / "slurm.conf"), **(env or {})}
        words = list(map(str, command))
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=120, env=environment, **more
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The last lines of its logs."""
        return "".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*.log")))


@contextmanager
def cluster(folder: Path, *, more: str = "") -> Iterator[Cluster]:
    """A cluster, while entered. `more` are lines of slurm.conf."""
    folder.mkdir()
    host = socket.gethostname().partition(".")[0]
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    text = _CONFIGURATION.format(
        host=host,
        folder=folder,
        controller_port=free_port(),
        node_port=free_port(),
        cpus=os.cpu_count(),
        more=more,
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\n")
    (folder / "spool").mkdir(mode=0o755)
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
        f"--log-file={folder}/munged.log",
    ]
    conf = str(folder / "slurm.conf")
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-f", conf], ["slurmd", "-D", "-f", conf, "-N", host]):
            stack.enter_context(_running(command, folder))
            if command is munged:
                until((folder / "munge.socket").exists)
        made = Cluster(folder)
        until(lambda: "idle" in made.run("sinfo", "--noheader", "--format=%T"), seconds=30)
        yield made


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
