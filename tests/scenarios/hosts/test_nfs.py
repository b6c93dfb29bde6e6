"""An NFS server hands the mount on: nfs-ganesha as docs/other-hosts.md configures it, and a client in user space."""

import hashlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.hosts.recipes import block
from tests.scenarios.system.namespace import Namespace

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(9_000_001)
PORT = 20490
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
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: DATA}}) as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace of its own."""
    with Namespace() as namespace:
        yield namespace


@pytest.fixture
def export(namespace: Namespace, server: FakeS3Server, tmp_path: Path) -> Iterator[None]:
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


@pytest.mark.usefixtures("export")
def test_a_client(server: FakeS3Server) -> None:
    """A client lists folders and reads files, of which a part is cached, through a server in user space."""
    assert b"README.txt" in client("nfs-ls", "").stdout
    assert server.count("get_range") == 0
    assert hashlib.sha256(client("nfs-cat", f"/{SESSION}").stdout).digest() == hashlib.sha256(DATA[:]).digest()
    assert client("nfs-cat", "/project_metadata/units.csv").stdout == b"unit_id\n1\n"


@pytest.mark.usefixtures("export")
def test_experiment(server, namespace, tmp_path):
    import json, os, signal
    from pathlib import Path
    def say(*a): print(*a, file=open("/tmp/host16/exp","a"))
    say(client("nfs-cat", "/project_metadata/units.csv"))
    Path("/proc/sys/vm/drop_caches").write_text("2")
    say("forgotten", client("nfs-cat", "/project_metadata/units.csv"))
    pid = json.loads(namespace.vbnfs("status", "--json", "/mnt/vbn").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    say("dead", client("nfs-cat", "/project_metadata/units.csv"))
    mount(namespace, server)
    for _ in range(3): say("anew", client("nfs-cat", "/project_metadata/units.csv"))
    say(namespace.vbnfs("umount","/mnt/vbn"))
    say("unmounted", client("nfs-cat", "/project_metadata/units.csv"))
    mount(namespace, server)
    say("anew", client("nfs-cat", "/project_metadata/units.csv"))
    say((tmp_path/"log").read_text()[-3000:])
