"""An NFS server hands the mount on: nfs-ganesha as docs/other-hosts.md configures it, and a client in user space."""

import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.hosts.recipes import block
from tests.scenarios.hosts.test_handles import forget
from tests.scenarios.system.namespace import Namespace

TABLE, TEXT = "project_metadata/units.csv", b"unit_id\n1\n"
SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(9_000_001)
PORT = 4900
GLOBAL = """
NFS_CORE_PARAM {{
    Protocols = 4;
    NFS_Port = {port};
    Bind_addr = 127.0.0.1;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Enable_UDP = false;
}}
NFSV4 {{
    Graceless = true;
    RecoveryBackend = fs;
    RecoveryRoot = {folder};
    Only_Numeric_Owners = true;
}}
"""

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {TABLE: TEXT, SESSION: DATA}}) as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace of its own."""
    with Namespace() as namespace:
        yield namespace


@contextmanager
def exported(namespace: Namespace, server: FakeS3Server, tmp_path: Path) -> Iterator[None]:
    """The mount on /mnt/vbn, and nfs-ganesha with the document's export."""
    mount(namespace, server)
    (tmp_path / "ganesha.conf").write_text(GLOBAL.format(port=PORT, folder=tmp_path) + block("NFS", "ganesha"))
    files = ["-f", str(tmp_path / "ganesha.conf"), "-L", str(tmp_path / "log"), "-p", str(tmp_path / "pid")]
    command = ["nsenter", f"--mount={namespace.path}", "--", "ganesha.nfsd", "-F", *files]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            until(is_listening)
            yield
        finally:
            process.terminate()
            process.wait()
            until(lambda: not is_listening())


def mount(namespace: Namespace, server: FakeS3Server) -> None:
    """Mount on /mnt/vbn."""
    options = ["--endpoint-url", server.endpoint_url, "--cache-dir", "/mnt/cache", "--log-file", "/mnt/log"]
    done = namespace.vbnfs("mount", *options, "--allow-other", "/mnt/vbn")
    assert done.returncode == 0, done.stderr


def is_listening() -> bool:
    """Whether a client can connect."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def client(program: str, path: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a program of libnfs on a path of the export."""
    url = f"nfs://127.0.0.1/vbn{path}?version=4&nfsport={PORT}"
    return subprocess.run([program, url], capture_output=True, check=False, timeout=60)


def test_a_client(server: FakeS3Server, namespace: Namespace, tmp_path: Path) -> None:
    """A client lists folders and reads files, cached or not, also when the kernel has forgotten them.

    While the mount is dead it gets an error; when it is mounted anew, and the server started anew, it reads again.
    """
    with exported(namespace, server, tmp_path):
        assert b"README.txt" in client("nfs-ls", "").stdout
        assert server.count("get_range") == 0
        assert hashlib.sha256(client("nfs-cat", f"/{SESSION}").stdout).digest() == hashlib.sha256(DATA[:]).digest()
        forget()
        assert client("nfs-cat", f"/{TABLE}").stdout == TEXT
        pid = json.loads(namespace.vbnfs("status", "--json", "/mnt/vbn").stdout)["pid"]
        os.kill(pid, signal.SIGKILL)
        assert client("nfs-cat", f"/{TABLE}").returncode != 0
    with exported(namespace, server, tmp_path):
        assert client("nfs-cat", f"/{TABLE}").stdout == TEXT
