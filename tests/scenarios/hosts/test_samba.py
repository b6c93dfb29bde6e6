"""Samba hands the mount on, as docs/other-hosts.md configures it: what a client lists, gets, and is refused."""

import hashlib
import json
import os
import re
import signal
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
from vbnfs.host.processes import has_exited

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(9_000_001)
PORT = 4450
GLOBAL = """
[global]
    server role = standalone server
    interfaces = lo
    bind interfaces only = yes
    smb ports = {port}
    disable netbios = yes
    disable spoolss = yes
    load printers = no
    map to guest = Bad User
    guest account = nobody
    lock directory = {folder}
    state directory = {folder}
    cache directory = {folder}
    private dir = {folder}
    pid directory = {folder}
    ncalrpc dir = {folder}/ncalrpc
    log file = {folder}/log
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
def share(namespace: Namespace, server: FakeS3Server, tmp_path: Path) -> Iterator["Share"]:
    """The mount on /mnt/vbn, and smbd with the document's share."""
    mount(namespace, server)
    (tmp_path / "ncalrpc").mkdir()
    conf = tmp_path / "smb.conf"
    conf.write_text(GLOBAL.format(port=PORT, folder=tmp_path) + block("Samba", "ini"))
    tmp_path.chmod(0o755)
    smbd = ["smbd", "--foreground", "--no-process-group", f"--configfile={conf}"]
    command = ["nsenter", f"--mount={namespace.path}", "--", *smbd]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            until(is_listening)
            yield Share(tmp_path)
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


class Share:
    """The share, for a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, commands: str) -> str:
        """What smbclient prints for some of its commands."""
        where = ["smbclient", "//127.0.0.1/vbn", f"--port={PORT}", "--no-pass", "--command", commands]
        done = subprocess.run(where, capture_output=True, text=True, check=False, timeout=60, cwd=self.folder)
        return done.stdout + done.stderr


def test_a_client(share: Share, server: FakeS3Server, namespace: Namespace) -> None:
    """Names, sizes, bytes of a file that is not cached, free space; links are followed; nothing is written.

    While the mount is dead a client is refused; smbd need not be started anew when it is mounted again.
    """
    listing = share.run("ls; cd ecephys_sessions; ls")
    assert re.search(r"README\.txt +N +\d+ ", listing), listing
    assert re.search(rf"ecephys_session_1044\.nwb +N +{len(DATA)} ", listing), listing
    blocks, block_bytes, free = map(
        int, re.findall(r"(\d+) blocks of size (\d+)\. (\d+) blocks available", listing)[0]
    )
    assert 0 < free * block_bytes <= blocks * block_bytes
    assert server.count("get_range") == 0
    share.run(f"get {SESSION} copy")
    assert hashlib.sha256((share.folder / "copy").read_bytes()).digest() == hashlib.sha256(DATA[:]).digest()
    assert "units.csv" in share.run("ls manifests/latest/project_metadata/*")
    assert "NT_STATUS_" in share.run("get allensdk/_manifest_last_used.txt -")  # which leads out of the share
    for command in ("put copy mine", f"del {SESSION}", "mkdir folder", f"rename {SESSION} other"):
        assert re.search("NT_STATUS_(MEDIA_WRITE_PROTECTED|ACCESS_DENIED)", share.run(command)), command

    pid = json.loads(namespace.vbnfs("status", "--json", "/mnt/vbn").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_exited(pid))
    assert re.search("NT_STATUS_(BAD_NETWORK_NAME|ACCESS_DENIED)", share.run("ls"))  # the kernel may list what it has
    mount(namespace, server)
    assert "README.txt" in share.run("ls")
