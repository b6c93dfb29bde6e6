"""A mount that Apptainer makes for an ordinary user: by `/dev/fd/3`, in the container and outside of it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.hosts import apptainer
from tests.scenarios.hosts.programs import SCRIPT
from tests.scenarios.system.namespace import HOME, REPOSITORY, USER, Namespace

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(3_000_001)
WITH_VBN = REPOSITORY / "deploy" / "apptainer" / "with-vbn"
PROGRAMS, IMAGE = f"{HOME}/bin", f"{HOME}/image"

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.4.0": {SESSION: DATA}}) as server:
        yield server


class Reader:
    """A user who has `apptainer`, vbnfs, an image, and settings in a file."""

    def __init__(self, namespace: Namespace, server: FakeS3Server) -> None:
        self._namespace = namespace
        self._write(f"{PROGRAMS}/apptainer", f'#!/bin/sh\nexec {sys.executable} {apptainer.__file__} "$@"\n')
        self._write(f"{PROGRAMS}/vbnfs", SCRIPT)
        settings = f'endpoint_url = "{server.endpoint_url}"\nlog_file = "{HOME}/vbnfs.log"\ncache_reserve = "0"\n'
        self._write(f"{HOME}/.config/vbnfs/config.toml", settings)
        namespace.output("mkdir", IMAGE, user=USER)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as that user."""
        environment = [f"HOME={HOME}", f"PATH={PROGRAMS}:/usr/bin:/bin", f"VBNFS={PROGRAMS}/vbnfs"]
        return self._namespace.run("env", *environment, *map(str, command), folder=HOME, user=USER)

    def _write(self, path: str, text: str) -> None:
        script = 'mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0" && chmod 755 "$0"'
        self._namespace.output("sh", "-euc", script, path, text, user=USER)


def test_fusemount(server: FakeS3Server) -> None:
    """Each type of --fusemount serves a program in the container; the second finds in the cache what the first read.

    A program in the foreground ends in order on SIGTERM. One in the background ends with the container.
    """
    with Namespace() as namespace:
        reader = Reader(namespace, server)
        reads = ("cksum", f"/vbn/{SESSION}")
        expected = subprocess.run(["cksum"], input=DATA[:], capture_output=True, check=True).stdout.split()[:2]
        asked = 0
        for kind in ("container", "host", "container-daemon --fuse pyfuse3", "host-daemon"):
            name, _, more = kind.partition(" ")
            spec = f"{name}:vbnfs mount {more} /vbn"
            done = reader.run("apptainer", "exec", "--fusemount", spec, IMAGE, *reads)
            assert (done.returncode, done.stdout.encode().splitlines()[-1].split()[:2]) == (0, expected), (
                kind,
                done.stderr,
            )
            # Outside of the container the end of its mount may be ending it when SIGTERM comes.
            assert bool(re.search(r"FUSE process ended: (0|-15)\n", done.stderr)) == ("daemon" not in kind), (
                done.stderr
            )
            asked = asked or server.count("get_range")
            assert server.count("get_range") == asked > 0, kind
            until(lambda: namespace.run("pgrep", "-f", f"^.*vbnfs mount.*{HOME}").returncode == 1)
        assert namespace.mounts() == []


def test_the_script(server: FakeS3Server) -> None:
    """deploy/apptainer/with-vbn has the dataset on /vbn, and ends with the program's status."""
    with Namespace() as namespace:
        reader = Reader(namespace, server)
        script = f"ls /vbn/ecephys_sessions; echo >/vbn/{SESSION}; exit 3"
        done = reader.run("sh", WITH_VBN, IMAGE, "sh", "-c", script)
        assert (done.returncode, done.stdout) == (3, f"{Path(SESSION).name}\n"), done.stderr
        assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr
