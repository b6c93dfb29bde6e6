"""Several users on a machine: whose mount it is, whose folder, whose HOME; and root in a namespace of their own."""

import json
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import until, without_address
from tests.scenarios.system.namespace import HOME, REPOSITORY, USER, Namespace

UNITS = "project_metadata/units.csv"
MINE = f"{HOME}/vbn"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace with a user of its own."""
    with Namespace() as namespace:
        yield namespace


def mount(namespace: Namespace, server: FakeS3Server, folder: str = MINE, user: str | None = USER) -> int:
    """Mount on a folder; the daemon's process."""
    more = [] if user else ["--cache-dir", "/mnt/cache", "--log-file", "/mnt/vbnfs.log"]
    done = namespace.vbnfs("mount", "--endpoint-url", server.endpoint_url, *more, folder, user=user)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mounted 0.4.0 at {folder}\n", "")
    pid: int = json.loads(namespace.vbnfs("status", "--json", folder, user=user).stdout)["pid"]
    return pid


def test_root_sees_that_a_users_mount_is_dead(namespace: Namespace, server: FakeS3Server) -> None:
    """A mount that a user's dead daemon left is dead to root, too: `status` says so, and `mount` clears it."""
    os.kill(mount(namespace, server), signal.SIGKILL)
    until(lambda: "not connected" in namespace.run("ls", MINE, user=USER).stderr)
    done = namespace.vbnfs("status", MINE)
    assert (done.returncode, "its daemon is gone" in done.stderr) == (1, True), done.stderr
    mount(namespace, server, user=None)
    assert namespace.mounts() == [MINE]
    assert namespace.output("cat", f"{MINE}/{UNITS}") == "unit_id\n1\n"


def test_root_sees_that_a_users_mount_is_alive(namespace: Namespace, server: FakeS3Server) -> None:
    """A mount that a user's daemon has is not taken for dead by root, nor cleared, also when it is stopped."""
    pid = mount(namespace, server)
    message = f"vbnfs: {MINE}: already a vbnfs mount; 'vbnfs umount {MINE}' takes it away\n"
    for number in (signal.SIGCONT, signal.SIGSTOP):
        os.kill(pid, number)
        done = namespace.vbnfs("mount", "--cache-dir", "/mnt/cache", MINE)
        assert without_address(done.stderr) == message
    os.kill(pid, signal.SIGCONT)
    assert namespace.output("cat", f"{MINE}/{UNITS}", user=USER) == "unit_id\n1\n"


@pytest.mark.parametrize("user", [None, USER])
def test_a_folder_above_that_gets_another_name(namespace: Namespace, server: FakeS3Server, user: str | None) -> None:
    """A daemon that is ended takes its mount away, also when the folder above it has another name by then."""
    namespace.output("mkdir", "-p", f"{HOME}/above/mnt", user=USER)
    pid = mount(namespace, server, f"{HOME}/above/mnt", user)
    namespace.output("mv", f"{HOME}/above", f"{HOME}/renamed")
    assert namespace.mounts() == [f"{HOME}/renamed/mnt"]
    os.kill(pid, signal.SIGTERM)
    until(lambda: namespace.mounts() == [])


def test_a_busy_mount(namespace: Namespace, server: FakeS3Server) -> None:
    """A user whose shell is in the mount reads so, by its name, when it is to be unmounted."""
    mount(namespace, server)
    script = f"cd {MINE}; echo $$; {sys.executable} -m vbnfs umount {MINE}"
    done = namespace.run("env", f"PYTHONPATH={REPOSITORY}", "sh", "-c", script, user=USER)
    assert (done.returncode, f"; used by sh (process {done.stdout.strip()}): end them" in done.stderr) == (1, True)
    assert namespace.vbnfs("umount", MINE, user=USER).returncode == 0


def test_a_mount_of_somebody_else(namespace: Namespace, server: FakeS3Server) -> None:
    """Who may take away a mount is said to others, and no remedy that is none."""
    namespace.output("chmod", "755", HOME)
    mount(namespace, server, "/mnt/vbn", user=None)
    done = namespace.vbnfs("umount", "/mnt/vbn", user=USER)
    message = "vbnfs: /mnt/vbn: mounted by root: root can take it away\n"
    assert (done.returncode, without_address(done.stderr)) == (1, message)
    assert namespace.mounts() == ["/mnt/vbn"]


def test_a_home_of_somebody_else(namespace: Namespace, server: FakeS3Server) -> None:
    """With the HOME of another user, as su(1) may keep it, commands say so, and what to name; then they work."""
    namespace.output("mkdir", "-p", "-m", "700", "/mnt/boss/.config/vbnfs")
    namespace.output("sh", "-c", "echo 'bucket = 1' >/mnt/boss/.config/vbnfs/config.toml")
    url = ["--endpoint-url", server.endpoint_url]
    cache, log = ["--cache-dir", f"{HOME}/cache"], ["--log-file", f"{HOME}/x.log"]

    def run(*arguments: str) -> tuple[int, str]:
        command = ["env", "HOME=/mnt/boss", sys.executable, "-m", "vbnfs", *arguments]
        done = namespace.run(*command, user=USER, folder=str(REPOSITORY))
        return done.returncode, without_address(done.stderr)

    blamed = "; HOME is /mnt/boss, which is not yours: 'su -' or 'sudo -i' sets your own\n"
    for command in (["versions"], ["diff", "0.1.0"], ["urls"], ["verify"], ["mount", MINE]):
        status, message = run(*command, *url)
        assert (status, "--cache-dir" in message, message.endswith(blamed)) == (1, True, True), (command, message)
    status, message = run("mount", MINE, *url, *cache)
    assert (status, "--log-file" in message, message.endswith(blamed)) == (1, True, True), message
    assert run("mount", MINE, *url, *cache, *log) == (0, "")
    for folder in ("/mnt/boss/.config/vbnfs", "/mnt/boss/.config/vbnfs/inner"):
        message = f"vbnfs: {folder}: cannot be read: Permission denied{blamed}"
        assert run("clean", "--config-folder", folder) == (2, message)
    assert run("status", MINE) == (0, "")
    assert run("umount", MINE) == (0, "")


def test_a_place_for_control_sockets_that_is_another_users(namespace: Namespace, server: FakeS3Server) -> None:
    """A folder of another user in the place of the control socket is warned of when mounting; the mount works."""
    namespace.output("mkdir", "-p", "-m", "700", "/tmp/vbnfs-4711", user=USER)  # as any run of theirs leaves it
    namespace.output("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/tmp/vbnfs-4711")
    done = namespace.vbnfs("mount", "--endpoint-url", server.endpoint_url, MINE, user=USER)
    message = "vbnfs: warning: 'vbnfs status' will not reach this mount: /tmp/vbnfs-4711: not a folder of yours"
    assert (done.returncode, done.stderr.startswith(message), done.stderr.count("\n")) == (0, True, 1), done.stderr
    assert namespace.output("cat", f"{MINE}/{UNITS}", user=USER) == "unit_id\n1\n"
    assert namespace.vbnfs("umount", MINE, user=USER).returncode == 0


def test_root_of_a_user_namespace(namespace: Namespace, server: FakeS3Server) -> None:
    """A user who is root in a namespace of their own mounts there, asks the mount, and unmounts."""
    vbnfs = f"{sys.executable} -m vbnfs"
    script = f"""
        export HOME={HOME}
        {vbnfs} mount --endpoint-url {server.endpoint_url} {MINE} && cat {MINE}/{UNITS} &&
        {vbnfs} status --json {MINE} >/dev/null && {vbnfs} umount {MINE} && echo done
    """
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = namespace.run(*command, user=USER, folder=str(REPOSITORY))
    expected = f"mounted 0.4.0 at {MINE}\nunit_id\n1\ndone\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_setuid_on_another_users_folder(namespace: Namespace, server: FakeS3Server) -> None:
    """With `setuid=` on a folder that is not that user's, the message says whose it must be."""
    helper = [sys.executable, "-m", "vbnfs.cli.mount_helper", PROJECT]
    for folder in ("/mnt/vbn", "/mnt/closed"):
        namespace.output("mkdir", "-p", "-m", "700", folder)
        options = f"setuid={USER},endpoint_url={server.endpoint_url}"
        done = namespace.run(*helper, folder, "-o", options, folder=str(REPOSITORY))
        message = f"with setuid={USER} it must be a folder of {USER}'s ('chown {USER} {folder}')"
        assert (done.returncode, without_address(done.stderr)) == (32, f"mount.vbnfs: {folder}: {message}\n")
