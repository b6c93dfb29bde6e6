"""What AllenSDK writes, where the kernel grants no leases, and where a user's home is on a disk of the user's own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fixtures_mount import until
from tests.scenarios.system.namespace import MEMBER, REPOSITORY, STRANGER, USER, Namespace

VBN = "/mnt/vbn"
UNITS = "project_metadata/units.csv"
LINK = f"{VBN}/allensdk/_manifest_last_used.txt"
STARTS = REPOSITORY / "tests" / "scenarios" / "allensdk" / "starts.py"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace with a few users."""
    with Namespace() as namespace:
        yield namespace


@contextmanager
def home_disk(namespace: Namespace, folder: Path, *become: str) -> Iterator[Path]:
    """The home of one user is a FUSE disk. While the file that this yields has a text, it does not answer."""
    switch = folder / "switch"
    switch.touch()
    home = f"/mnt/{MEMBER}"
    namespace.output("install", "-d", "-m", "700", "-o", MEMBER, "/mnt/below")
    words = [*become, sys.executable, "-m", "tests.fakes.home", "/mnt/below", str(switch), home]
    enter = ["nsenter", f"--mount={namespace.path}", "--", "env", f"--chdir={REPOSITORY}"]
    with subprocess.Popen([*enter, *words]) as program:
        try:
            until(lambda: "fuse" in namespace.run("findmnt", "--noheadings", home).stdout)
            yield switch
        finally:
            switch.write_text("")
            namespace.output("umount", "--lazy", home)
            program.wait(30)


@pytest.fixture
def switch(namespace: Namespace, tmp_path: Path) -> Iterator[Path]:
    """The administrator has put a user's home on a FUSE disk."""
    with home_disk(namespace, tmp_path) as switch:
        yield switch


@contextmanager
def mounted(namespace: Namespace, *options: str) -> Iterator[None]:
    """A mount of root's for all users. Its daemon lacks CAP_LEASE, so it has no leases of other users' files."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n"}}) as server:
        own = ["--cache-dir", "/mnt/cache", "--log-file", "/mnt/vbnfs.log", *options]
        words = [sys.executable, "-m", "vbnfs", "mount", "--endpoint-url", server.endpoint_url, "--allow-other", *own]
        done = namespace.run("setpriv", "--bounding-set=-lease", "--", *words, VBN, folder=str(REPOSITORY))
        assert (done.returncode, done.stdout) == (0, f"mounted 0.4.0 at {VBN}\n"), done.stderr
        yield
        namespace.output(sys.executable, "-m", "vbnfs", "umount", VBN, folder=str(REPOSITORY))


@pytest.fixture
def short_timeout(namespace: Namespace) -> Iterator[None]:
    """A mount that waits for nothing longer than two seconds."""
    with mounted(namespace, "--io-timeout", "2"):
        yield


@pytest.fixture
def long_timeout(namespace: Namespace) -> Iterator[None]:
    """A mount that waits for half a minute, as it does unless it is set."""
    with mounted(namespace):
        yield


@pytest.mark.usefixtures("short_timeout")
def test_a_home_that_does_not_answer(namespace: Namespace, switch: Path) -> None:
    """A user whose home hangs gets ETIMEDOUT for that file, and reads all else; other users notice nothing.

    However many processes of that user ask, the others have their file at once. When it answers again, so does this.
    """
    assert namespace.output("readlink", LINK, user=MEMBER).startswith(f"/mnt/{MEMBER}/.vbnfs-manifest-last-used")
    switch.write_text("hangs")
    with ThreadPoolExecutor() as pool:
        late = [pool.submit(namespace.run, "readlink", "-v", LINK, user=MEMBER) for _ in range(6)]
        until(switch.with_suffix(".asked").exists)
        for user in (None, USER, STRANGER):
            assert "manifest-last-used" in namespace.output("readlink", LINK, user=user)
        assert namespace.output("cat", f"{VBN}/{UNITS}", user=MEMBER) == "unit_id\n1\n"
        assert not any(one.done() and one.result().returncode == 0 for one in late)
        assert all("Connection timed out" in one.result().stderr for one in late)
    error = json.loads(namespace.vbnfs("status", "--json", VBN).stdout)["last_error"]
    assert "the disk that has the home of user 4712" in error
    switch.write_text("")
    assert namespace.output("readlink", LINK, user=MEMBER).startswith(f"/mnt/{MEMBER}/")


@pytest.mark.usefixtures("long_timeout")
def test_a_disk_of_the_users_own(namespace: Namespace) -> None:
    """Root touches no FUSE disk that a user has mounted on their home, or for their sockets: it need never answer."""
    namespace.output("sh", "-c", "echo user_allow_other >>/etc/fuse.conf; mkdir -m 755 /run/user")
    namespace.output("install", "-d", "-m", "700", "-o", MEMBER, "/run/user/4712")
    become = ("setpriv", "--reuid", MEMBER, "--regid", MEMBER, "--init-groups", "--")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        check_is_not_touched(namespace, Path(folder), *become)


def check_is_not_touched(namespace: Namespace, folder: Path, *become: str) -> None:
    """For a home that `become` mounts, which then hangs."""
    with home_disk(namespace, folder, *become) as switch:
        switch.write_text("hangs")
        assert namespace.output("readlink", LINK, user=MEMBER).startswith("/run/user/4712/.vbnfs-manifest-last-used")
        assert not switch.with_suffix(".asked").exists()
        namespace.output("mount", "--bind", f"/mnt/{MEMBER}", "/run/user/4712")
        assert namespace.output("readlink", LINK, user=MEMBER).startswith("/run/vbnfs-users/4712/.vbnfs-manifest")
        done = namespace.run(sys.executable, "-c", ASK, folder=str(REPOSITORY))
        assert "its control socket would be on a fuse of its owner's: /run/user/4712" in done.stdout, done.stderr
        assert not switch.with_suffix(".asked").exists()
        namespace.output("umount", "--lazy", "/run/user/4712")


@pytest.mark.slow
@pytest.mark.usefixtures("long_timeout")
def test_what_a_reader_asks_of_a_stopped_daemon(namespace: Namespace) -> None:
    """Commands of a user in root's mount give up after ten seconds, and name the mount; then they work again."""
    pid = json.loads(namespace.vbnfs("status", "--json", VBN).stdout)["pid"]
    words = (["verify", f"{VBN}/manifests"], ["tree", f"{VBN}/{UNITS}"], ["status", VBN])
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(namespace.vbnfs, *one, user=STRANGER) for one in words]
            found = [one.result() for one in asked]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [(one.returncode, f"{VBN}: its daemon does not answer" in one.stderr) for one in found] == [(1, True)] * 3
    assert namespace.vbnfs("status", VBN, user=STRANGER).returncode == 0


ASK = """
from pathlib import Path
from vbnfs.access.running_mounts import ask
from vbnfs.errors import MountError
from vbnfs.host.mountinfo import MountEntry
try:
    ask(MountEntry(Path("/mnt/theirs"), "0:9999", "fuse.vbnfs", "s3:x", 4712), "status")
except MountError as error:
    print(error)
"""


@pytest.mark.usefixtures("long_timeout", "switch")
def test_sixteen_processes_without_leases(namespace: Namespace) -> None:
    """Where the kernel grants no leases, processes that start find the version that was loaded last, and no other.

    So it is in a home on FUSE, and in an ordinary one.
    """
    newest, *loaded = (f"visual-behavior-neuropixels_project_manifest_v0.{minor}.0.json" for minor in (5, 1, 4))
    for user in (MEMBER, STRANGER):
        lines = namespace.output(sys.executable, str(STARTS), LINK, "2", newest, *loaded, user=user).splitlines()
        assert lines[:-1] == loaded
        assert set(lines[-1].split(" ")) <= set(loaded[-2:])
        assert namespace.output("readlink", LINK, user=user).startswith(f"/mnt/{user}/.vbnfs-manifest-last-used")
