"""The units under a running systemd: that of a small Debian in namespaces, made once for all tests here."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code_blocks import blocks_of
from tests.fakes.cache_files import FILES
from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fixtures_mount import until
from tests.scenarios.system.guest import REPOSITORY, USER, USER_ID, VBNFS, Guest, make_root

pytestmark = pytest.mark.slow

VBN = "/mnt/vbn"
TABLE = "project_metadata/units.csv"
UNIT = "vbnfs@test.service"
HASTE = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {TABLE: b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare Debian, of which systems are booted."""
    folder = tmp_path_factory.mktemp("debian") / "root"
    yield make_root(folder)
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)  # 300 MB


@pytest.fixture(scope="module")
def guest(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A running system with the helper and the units installed."""
    with Guest(root, tmp_path_factory.mktemp("guest") / "work") as guest:
        guest.output(VBNFS, "install-helper")
        guest.output(VBNFS, "install-units")
        guest.output("systemd-tmpfiles", "--create", "vbnfs.conf")
        yield guest


@pytest.fixture
def unit(guest: Guest, server: FakeS3Server) -> Iterator[str]:
    """The unit of a configuration, not started, in more haste than usual."""
    settings = f'mountpoint = "{VBN}"\nendpoint_url = "{server.endpoint_url}"\nallow_other = true\nrefresh = 1\n'
    guest.write("/etc/vbnfs/test.toml", settings)
    guest.write(f"/etc/systemd/system/{UNIT}.d/haste.conf", HASTE)
    guest.output("systemctl", "daemon-reload")
    yield UNIT
    guest.output("systemctl", "stop", UNIT)
    guest.run("systemctl", "reset-failed", UNIT)
    assert guest.mounts() == []


def is_served(guest: Guest, folder: str = VBN) -> bool:
    """Whether a file can be read, outside of the unit."""
    return guest.run("cat", f"{folder}/{TABLE}").stdout == "unit_id\n1\n"


def test_ready_when_the_tree_is_there(guest: Guest, server: FakeS3Server, unit: str) -> None:
    """Starting waits for the tree; then everybody outside the unit sees the mount, and `status` has a line."""
    gate = threading.Event()
    server.behaviours.append(for_kind("list_objects", held(gate)))
    guest.output("systemctl", "start", "--no-block", unit)
    until(lambda: guest.shows(unit, "StatusText") == "asking which versions there are")
    assert guest.shows(unit, "ActiveState") == "activating"
    gate.set()
    server.behaviours.clear()
    guest.output("systemctl", "start", unit)
    assert is_served(guest)
    assert guest.output("cat", f"{VBN}/{TABLE}", user=USER)
    assert guest.shows(unit, "StatusText").startswith(f"{VBN}: 1 versions, 0.4.0 at the top")
    assert guest.output("stat", "-c", "%a", "/var/cache/vbnfs") == "700\n"
    assert '"pid": ' in guest.output(VBNFS, "status", "--json", VBN)


def test_the_kernel_reads_files(guest: Guest, unit: str) -> None:
    """What hardens the unit leaves it what passthrough needs: a whole file is read by the kernel itself."""
    guest.output("systemctl", "start", unit)

    def is_passed() -> bool:
        assert is_served(guest)
        status = json.loads(guest.output(VBNFS, "status", "--json", VBN))
        assert status["passthrough"]["reason"] is None
        return bool(status["metrics"]["passthrough_opens"])

    until(is_passed)
    assert guest.shows(unit, "NRestarts") == "0"


def test_stopping_leaves_nothing(guest: Guest, unit: str) -> None:
    """After each stop neither mount nor process is there, also if a program uses the mount."""
    for user_of_it in (None, None, None, "sleep 60 <"):
        guest.output("systemctl", "start", unit)
        if user_of_it is not None:
            guest.output("sh", "-c", f"exec >/dev/null 2>&1; {user_of_it}{VBN}/{TABLE} &")
        guest.output("systemctl", "stop", unit)
        assert guest.mounts() == []
        assert guest.shows(unit, "MainPID") == "0"
        assert guest.shows(unit, "Result") == "success", guest.output("journalctl", "--no-pager", "-n60", "-u", unit)


def test_a_receiver_lives_as_long_as_the_daemon(guest: Guest, unit: str) -> None:
    """What hardens the unit lets a process receive; a stop that reaches all processes at once leaves none of them."""
    guest.write(f"/etc/systemd/system/{UNIT}.d/receivers.conf", "[Service]\nEnvironment=VBNFS_RECEIVERS=1\n")
    guest.output("systemctl", "daemon-reload")
    guest.output("systemctl", "start", unit)
    until(lambda: "receiver_program" in processes(guest))
    assert is_served(guest)
    guest.output("systemctl", "stop", unit)
    guest.output("rm", f"/etc/systemd/system/{UNIT}.d/receivers.conf")
    assert guest.shows(unit, "Result") == "success"
    assert "receiver_program" not in processes(guest)
    assert "the receiving process has ended" not in guest.output("journalctl", "--unit", unit)


def processes(guest: Guest) -> str:
    """The command lines of all processes, but for what asks."""
    return guest.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_a_daemon_that_was_killed(guest: Guest, unit: str) -> None:
    """After SIGKILL the unit starts anew on a folder that was cleared: there is one mount, and it works."""
    guest.output("systemctl", "start", unit)
    first = guest.shows(unit, "MainPID")
    guest.output("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
    until(lambda: guest.shows(unit, "MainPID") not in {first, "0"})
    guest.output("systemctl", "start", unit)  # waits until it has started
    assert is_served(guest)
    assert guest.mounts() == [VBN]
    assert guest.shows(unit, "NRestarts") == "1"


def test_a_daemon_that_was_killed_and_stays_so(guest: Guest, unit: str) -> None:
    """Where nothing starts it anew, a killed daemon's dead mount is taken away all the same."""
    guest.write(f"/etc/systemd/system/{UNIT}.d/once.conf", "[Service]\nRestart=no\n")
    guest.output("systemctl", "daemon-reload")
    guest.output("systemctl", "start", unit)
    guest.output("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
    until(lambda: guest.shows(unit, "ActiveState") == "failed")
    guest.output("rm", f"/etc/systemd/system/{UNIT}.d/once.conf")
    assert guest.mounts() == []


def test_the_watchdog(guest: Guest, unit: str) -> None:
    """A daemon that gives no sign of life is ended, and started anew."""
    guest.output("systemctl", "start", unit)
    first = guest.shows(unit, "MainPID")
    guest.output("systemctl", "kill", "--signal=STOP", "--kill-whom=main", unit)
    until(lambda: guest.shows(unit, "MainPID") not in {first, "0"}, seconds=60)
    guest.output("systemctl", "start", unit)
    assert "Watchdog timeout" in guest.output("journalctl", "--unit", unit)
    assert is_served(guest)
    assert guest.mounts() == [VBN]


def test_automount(guest: Guest, server: FakeS3Server) -> None:
    """A line of fstab mounts when it is looked at, goes when it is idle, and mounts again.

    What the unit's drop-in in docs/mounting.md has as variables is the daemon's.
    """
    options = (
        f"noauto,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=1s,endpoint_url={server.endpoint_url}"
    )
    guest.write("/etc/fstab", f"{PROJECT} /mnt/auto vbnfs {options},cache_dir=/var/cache/vbnfs 0 0\n")
    guest.output("systemctl", "daemon-reload")
    guest.output("systemctl", "start", "mnt-auto.automount")
    for _ in range(2):
        assert guest.mounts() == []
        assert is_served(guest, "/mnt/auto")
        until(lambda: guest.mounts() == [], seconds=60)
        until(lambda: guest.run("sh", "-c", "grep -l mount[.]vbnfs /proc/[0-9]*/cmdline").stdout == "")
    guest.output("systemctl", "stop", "mnt-auto.automount")
    [proxy] = [block.code for block in blocks_of("docs/mounting.md") if block.language == "ini"]
    guest.write("/etc/systemd/system/mnt-auto.mount.d/proxy.conf", proxy)
    guest.output("systemctl", "daemon-reload")
    guest.output("systemctl", "start", "mnt-auto.mount")
    pid = json.loads(guest.output(VBNFS, "status", "--json", "/mnt/auto"))["pid"]
    variables = guest.output("cat", f"/proc/{pid}/environ").split("\0")
    assert proxy.rpartition("Environment=")[2].strip() in variables
    guest.output("systemctl", "stop", "mnt-auto.mount")


def test_cleaning(guest: Guest, unit: str) -> None:
    """The service brings the caches of all configurations within their sizes; its timer can be enabled."""
    guest.write("/etc/vbnfs/other.toml", 'cache_dir = "/var/cache/other"\ncache_size = "1M"\n')
    folder = "/var/cache/other/blocks-v2/aws/whole/00/00ab"
    guest.output("mkdir", "-p", "-m", "700", folder)
    for name in FILES:
        guest.output("dd", "if=/dev/urandom", f"of={folder}/{name}", "bs=2M", "count=1")
    guest.output("systemctl", "start", "vbnfs-clean.service")
    assert guest.run("ls", folder).returncode != 0
    guest.output("systemctl", "enable", "--now", "vbnfs-clean.timer")
    assert guest.shows("vbnfs-clean.timer", "ActiveState") == "active"
    guest.output("rm", "/etc/vbnfs/other.toml")


def test_a_user_s_unit(guest: Guest, server: FakeS3Server) -> None:
    """A user's own systemd mounts in their home through fusermount3, and clears what a killed daemon leaves."""
    folder, manager = f"/home/{USER}/vbn", ["systemctl", "--user"]
    guest.output("loginctl", "enable-linger", USER)
    until(lambda: guest.run("test", "-S", f"/run/user/{USER_ID}/systemd/private").returncode == 0)
    guest.output(VBNFS, "install-units", "--user", user=USER)
    settings = f'mountpoint = "{folder}"\nendpoint_url = "{server.endpoint_url}"\n'
    guest.output(
        "sh", "-c", 'mkdir -p ~/.config/vbnfs; printf %s "$1" >~/.config/vbnfs/x.toml', "sh", settings, user=USER
    )
    guest.output(*manager, "daemon-reload", user=USER)
    guest.output(*manager, "start", "vbnfs@x", user=USER)
    assert guest.output("cat", f"{folder}/{TABLE}", user=USER)
    first = guest.shows("vbnfs@x", "MainPID", user=USER)
    guest.output(*manager, "kill", "--signal=KILL", "--kill-whom=main", "vbnfs@x", user=USER)
    until(lambda: guest.shows("vbnfs@x", "MainPID", user=USER) not in {first, "0"})
    guest.output(*manager, "start", "vbnfs@x", user=USER)
    assert guest.output("cat", f"{folder}/{TABLE}", user=USER)
    assert guest.mounts() == [folder]
    guest.output(*manager, "start", "vbnfs-clean.service", user=USER)
    guest.output(*manager, "stop", "vbnfs@x", user=USER)
    assert guest.mounts() == []


def test_a_user_s_page(guest: Guest, server: FakeS3Server) -> None:
    """A user's own systemd serves the page; its address is in a file of that user alone, and not in the journal."""
    host = guest.output("uname", "-n").strip()
    manager, written = ["systemctl", "--user"], f"/home/{USER}/vbnfs-web-{host}.html"
    guest.output("loginctl", "enable-linger", USER)
    until(lambda: guest.run("test", "-S", f"/run/user/{USER_ID}/systemd/private").returncode == 0)
    guest.output(VBNFS, "install-units", "--user", user=USER)
    settings = f'endpoint_url = "{server.endpoint_url}"\n'
    guest.output(
        "sh", "-c", 'mkdir -p ~/.config/vbnfs; printf %s "$1" >~/.config/vbnfs/config.toml', "sh", settings, user=USER
    )
    guest.output(*manager, "daemon-reload", user=USER)
    guest.output(*manager, "start", "vbnfs-web", user=USER)
    address = re.findall(r"http://[^\"]+", guest.output("cat", written, user=USER))[0]
    assert guest.output("stat", "-c", "%a %U", written) == f"600 {USER}\n"
    fetch = "import sys, urllib.request as r; print(r.build_opener(r.HTTPCookieProcessor()).open(sys.argv[1]).status)"
    assert guest.output(sys.executable, "-c", fetch, address, user=USER) == "200\n"
    assert guest.run(sys.executable, "-c", fetch, address).stdout == "200\n"  # root
    assert "403" in guest.run(sys.executable, "-c", fetch, address, user="www-data").stderr
    assert address.partition("=")[2] not in guest.output("journalctl", "--no-pager")
    guest.output(*manager, "stop", "vbnfs-web", user=USER)
    assert guest.run("test", "-e", written).returncode != 0
    guest.output("sh", "-c", "rm ~/.config/vbnfs/config.toml", user=USER)


def test_the_debian_package(root: Path, server: FakeS3Server, tmp_path: Path) -> None:
    """apt installs it in a bare root, where it works by mount(8) and by its unit, with metrics.

    An upgrade starts the unit anew, and says what goes on. Removed, it leaves caches and settings alone; purged, it
    takes what `systemctl enable` has made, too.
    """
    build = [REPOSITORY / "script" / "package"]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    package = REPOSITORY / done.stdout.splitlines()[-1]
    with Guest(root, tmp_path / "work") as guest:
        install = ("apt-get", "install", "--yes", "--no-install-recommends", str(package))
        guest.output(*install)
        assert guest.output("vbnfs", "--version").startswith("vbnfs, version ")
        for page in ("man1/vbnfs-mount.1", "man8/mount.vbnfs.8"):
            guest.output("test", "-f", f"/usr/share/man/{page}")
        options = f"endpoint_url={server.endpoint_url},allow_other"
        guest.output("mount", "-t", "vbnfs", f"s3:{PROJECT}", VBN, "-o", options)
        assert is_served(guest)
        guest.output("umount", VBN)
        settings = f'endpoint_url = "{server.endpoint_url}"\nmetrics_file = "/var/lib/vbn.prom"\n'
        guest.write("/etc/vbnfs/test.toml", f'mountpoint = "{VBN}"\n{settings}')
        guest.output("systemctl", "enable", "--now", "vbnfs@test", "vbnfs-clean.timer")
        assert is_served(guest)
        until(lambda: "vbnfs_server_reachable{" in guest.run("cat", "/var/lib/vbn.prom").stdout)
        first = guest.shows("vbnfs@test", "MainPID")
        upgraded = guest.output(*install, "--reinstall")
        assert "mounts of the earlier version go on until they are unmounted" in upgraded
        assert guest.shows("vbnfs@test", "MainPID") not in {first, "0"}
        assert is_served(guest)
        assert "the package vbnfs has put it in place" in guest.run("vbnfs", "install").stderr
        removed = guest.run("vbnfs", "uninstall")
        assert ("apt remove vbnfs" in removed.stderr, removed.stdout) == (True, "")
        assert guest.output("dpkg", "--verify", "vbnfs") == ""
        guest.output("dpkg", "--remove", "vbnfs")
        assert guest.mounts() == []
        left = guest.run("find", "/usr", "/etc/fish", "/var/lib/dpkg", "-name", "*vbnfs*").stdout
        assert left == "/var/lib/dpkg/info/vbnfs.list\n/var/lib/dpkg/info/vbnfs.postrm\n"
        guest.output("dpkg", "--purge", "vbnfs")
        assert guest.run("find", "/usr", "/etc", "/var/lib", "-name", "*vbnfs*").stdout == "/etc/vbnfs\n"
        guest.output("test", "-f", "/etc/vbnfs/test.toml")
