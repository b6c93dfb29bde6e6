"""`vbnfs doctor` on a real server, with mounts that are dead or stopped, a disk that hangs, and as other users."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.disks import freezable_disk, freeze, thaw
from tests.fakes.name_server import NameServer
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.mount_namespaces import NO_MOUNTS
from tests.scenarios.system.namespace import HOME, LAB, MEMBER, USER, Namespace
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease


def findings(printed: str, *, about: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """By check; of mounts those at and below a folder: others are of other tests."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(printed)["findings"]:
        if one["check"] != "mounts" or (about is not None and str(about) in one["text"]):
            found.setdefault(one["check"], []).append(one)
    return found


def test_leftover_mounts(seaweed: SeaweedServer, tiny_release: DemoRelease, mounts: Mounts, tmp_path: Path) -> None:
    """A mount whose daemon was killed, and one that is stopped, are found, with remedies; the rest is well."""
    dead, stopped = (mounts(seaweed.endpoint_url, name=name) for name in ("dead", "stopped"))
    killed, pid = dead.status()["pid"], stopped.status()["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{killed}").exists())
    os.kill(pid, signal.SIGSTOP)
    try:
        done = run_vbnfs("doctor", "--json", "--endpoint-url", seaweed.endpoint_url)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    found = findings(done.stdout, about=tmp_path)
    by_mount = {one["text"].partition(":")[0]: one for one in found.pop("mounts")}
    assert by_mount.keys() == {str(dead.path), str(stopped.path)}
    gone, silent = by_mount[str(dead.path)], by_mount[str(stopped.path)]
    assert gone["text"].endswith("its daemon is gone; 'vbnfs mount' mounts it anew, 'vbnfs umount' clears it")
    assert gone["see"].endswith("#transport-endpoint-is-not-connected")
    assert "does not answer" in silent["text"]
    assert silent["see"].endswith("#the-daemon-does-not-answer")
    assert {one["level"] for ones in found.values() for one in ones} <= {"good", "note"}
    assert " MB/s" in found["throughput"][0]["text"]
    assert "no server" not in found["clock"][0]["text"]
    assert "dataset version" in found["server"][0]["text"]


@pytest.mark.slow
@pytest.mark.root
def test_a_name_server_that_hangs(tmp_path: Path) -> None:
    """Where the network's name server does not answer, that is the one thing to do, and the command ends in time."""
    resolv = tmp_path / "resolv.conf"
    setup = f'{NO_MOUNTS}; mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", setup, "sh", str(resolv)]
    with NameServer(hangs=True, address="127.83.0.2") as name_server:
        resolv.write_text(f"nameserver {name_server.address}\noptions timeout:1 attempts:1\n")
        done = subprocess.run(
            [*inside, sys.executable, "-m", "vbnfs", "doctor", "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert name_server.asked > 0
    assert done.returncode == 1, done.stderr
    found = findings(done.stdout)
    assert [check for check, ones in found.items() if ones[0]["level"] == "to do"] == ["name"]
    assert ".s3.us-west-2.amazonaws.com cannot be looked up: " in found["name"][0]["text"]
    assert "check the network and its name server (/etc/resolv.conf)" in found["name"][0]["remedy"]
    assert (found["server"][0]["level"], found["server"][0]["text"]) == ("left out", "see name")


@pytest.mark.slow
@pytest.mark.root
def test_a_disk_that_hangs(tmp_path: Path) -> None:
    """Where the cache's disk takes no writes and does not say so, that is found, and the command ends in time."""
    with freezable_disk(tmp_path / "disk", 64 << 20) as disk:
        (disk / "cache").mkdir(mode=0o700)
        freeze(disk)
        began = time.monotonic()
        try:
            done = run_vbnfs("doctor", "--json", "--offline", "--cache-dir", disk / "cache")
        finally:
            thaw(disk)
        assert time.monotonic() - began < 60.0
    assert done.returncode == 1
    found = findings(done.stdout)
    assert found["disk"][0]["level"] == "to do"
    assert "does not answer" in found["disk"][0]["text"]
    for check in ("passthrough", "folder", "cache", "log"):
        assert (found[check][0]["level"], found[check][0]["text"]) == ("left out", "see disk")
    for check in ("kernel", "fuse", "limits"):
        assert found[check][0]["level"] == "good"


# A machine without the module: its /dev has other devices, and not this one.
NO_FUSE = """
mkdir /run/dev
mknod -m 666 /run/dev/null c 1 3
mknod -m 666 /run/dev/urandom c 1 9
ln -s /proc/self/fd /run/dev/fd
mount --bind /run/dev /dev
"""


@pytest.mark.slow
@pytest.mark.root
def test_as_an_ordinary_user() -> None:
    """A user has mounts by fusermount3, without passthrough; what keeps them from it is found, with the remedy.

    So it is where there is no /dev/fuse at all, for root, too.
    """
    with Namespace() as namespace:

        def doctor(*arguments: str) -> dict[str, list[dict[str, Any]]]:
            done = namespace.vbnfs("doctor", "--json", "--offline", *arguments, user=USER)
            return findings(done.stdout)

        well = doctor()
        assert well["fuse"][0]["level"] == "good"
        assert "by fusermount3 3." in well["fuse"][0]["text"]
        assert (well["passthrough"][0]["level"], "to root only" in well["passthrough"][0]["text"]) == ("note", True)
        assert well["folder"][0]["text"].startswith(f"{HOME}/.cache/vbnfs: there is no cache yet")
        shared = doctor("--allow-other")
        assert shared["fuse"][0]["level"] == "to do"
        assert "write the line user_allow_other into /etc/fuse.conf" in shared["fuse"][0]["text"]
        namespace.output("chmod", "600", "/dev/fuse")
        namespace.output("mkdir", "-m", "755", f"{HOME}/.cache")  # of root
        closed = doctor("--report", f"{HOME}/report.txt")
        assert closed["fuse"][0]["text"] == "/dev/fuse: not open to everybody; as root, run: chmod 666 /dev/fuse"
        assert closed["passthrough"][0]["level"] == "left out"
        assert closed["folder"][0]["level"] == "to do"
        report = namespace.output("cat", f"{HOME}/report.txt")
        assert USER not in report
        assert "/dev/fuse: not open to everybody; as root, run: chmod 666 /dev/fuse" in report
        assert namespace.mounts() == []
        namespace.output("sh", "-euc", f"chgrp {LAB} /dev/fuse; chmod 660 /dev/fuse")
        expected = (
            f"/dev/fuse: not open to everybody; be a member of the group {LAB}, and log in again; or, as root, run:"
        )
        assert doctor()["fuse"][0]["text"] == f"{expected} chmod 666 /dev/fuse"
        done = namespace.vbnfs("doctor", "--json", "--offline", user=MEMBER)
        assert findings(done.stdout)["fuse"][0]["level"] == "good"
        namespace.output("sh", "-euc", NO_FUSE)
        for user in (USER, None):
            done = namespace.vbnfs("doctor", "--json", "--offline", user=user)
            absent = findings(done.stdout)
            assert absent["fuse"][0]["level"] == "to do"
            assert absent["fuse"][0]["text"] == (
                "no /dev/fuse: load the module with 'modprobe fuse' (in a container: --device /dev/fuse; in"
                " Kubernetes: privileged: true)"
            )
            assert absent["passthrough"][0]["text"] == "no mount can be made"
