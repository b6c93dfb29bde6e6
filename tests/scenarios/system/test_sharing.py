"""Who may read a mount: one user, one group, root, everybody; and how a mount looks to df(1) and its kin."""

import json
import stat
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import until, without_address
from tests.scenarios.system.namespace import HOME, LAB, LAB_ID, MEMBER, STRANGER, USER, Namespace
from vbnfs.host.processes import has_exited

VBN = "/mnt/vbn"
UNITS = "project_metadata/units.csv"
SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DENIED = "Permission denied"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n", SESSION: bytes(300_000)}}) as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace in which `vbnfs install-helper` was run."""
    with Namespace() as namespace:
        done = namespace.vbnfs("install-helper")
        assert done.returncode == 0, done.stderr
        yield namespace


@pytest.fixture
def options(server: FakeS3Server) -> str:
    """Options that every mount of root's here wants."""
    return f"endpoint_url={server.endpoint_url},cache_dir=/mnt/cache,log_file=/mnt/vbnfs.log"


def readers(namespace: Namespace, path: str = f"{VBN}/{UNITS}") -> dict[str | None, bool]:
    """Who can read a file of the mount: True; who is refused with EACCES: False."""
    found: dict[str | None, bool] = {}
    for user in (None, USER, MEMBER, STRANGER):
        done = namespace.run("cat", path, user=user)
        assert done.returncode == 0 or DENIED in done.stderr, done.stderr
        found[user] = done.returncode == 0
    return found


def shown(namespace: Namespace, path: str, user: str | None = None) -> str:
    """Mode, user and group of a file, as stat(1) shows them."""
    return namespace.output("stat", "-c", "%a %u %g", path, user=user).strip()


def test_sharing_with_a_group(namespace: Namespace, options: str) -> None:
    """`allow_other,gid=,umask=`: members of the group read, others get EACCES; the TOML file can say it."""
    namespace.output("sh", "-c", f'printf \'allow_other = true\\ngid = "{LAB}"\\numask = "27"\\n\' >/mnt/x.toml')
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},config=/mnt/x.toml")
    assert readers(namespace) == {None: True, USER: False, MEMBER: True, STRANGER: False}
    assert shown(namespace, f"{VBN}/{UNITS}") == f"440 0 {LAB_ID}"
    assert shown(namespace, VBN) == f"550 0 {LAB_ID}"
    assert shown(namespace, f"{VBN}/manifests/latest") == f"777 0 {LAB_ID}"  # a link: its mode does not count
    assert DENIED in namespace.run("ls", VBN, user=STRANGER).stderr
    assert DENIED in namespace.run("stat", f"{VBN}/{UNITS}", user=USER).stderr


@pytest.mark.slow
def test_sharing_with_a_user(namespace: Namespace, options: str) -> None:
    """`uid=,fmask=,dmask=`: the owner is who is shown; without `allow_other` a warning says what lacks."""
    namespace.output(
        "mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_other,uid={USER},fmask=077,dmask=022"
    )
    assert readers(namespace) == {None: True, USER: True, MEMBER: False, STRANGER: False}
    assert (shown(namespace, f"{VBN}/{UNITS}"), shown(namespace, VBN)) == ("400 4711 0", "555 4711 0")
    assert UNITS.split("/")[1] in namespace.output("ls", f"{VBN}/project_metadata", user=STRANGER)
    namespace.output("umount", VBN)

    done = namespace.run("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},uid=4711,gid={LAB}")
    warning = (
        "mount.vbnfs: warning: uid and gid without allow_other: no other user can enter the mount; add allow_other"
    )
    assert (done.returncode, done.stderr) == (0, f"{warning}\n")
    assert readers(namespace) == {None: True, USER: False, MEMBER: False, STRANGER: False}
    namespace.output("umount", VBN)


@pytest.mark.slow
def test_unknown_owners(namespace: Namespace, options: str) -> None:
    """A user or a group that there is not, and a mask that is none, are refused before anything is mounted."""
    for option in ("gid=no-such-group", "uid=no-such-user", "umask=9", "uid=-1"):
        done = namespace.run("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},{option}")
        assert (done.returncode, "will not do" in done.stderr) == (1, True), done.stderr
    done = namespace.run("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_root,allow_other")
    assert (done.returncode, "leave one out" in done.stderr) == (1, True), done.stderr
    assert namespace.mounts() == []
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_other,uid=54321,gid=54322")
    assert shown(namespace, VBN, user=STRANGER) == "555 54321 54322"  # numbers need no names


@pytest.mark.slow
def test_an_ordinary_user_shares(namespace: Namespace, server: FakeS3Server) -> None:
    """`allow_root` and `allow_other` of a user need user_allow_other; then root, or the group, reads."""
    url, home = ["--endpoint-url", server.endpoint_url], f"{HOME}/vbn"
    done = namespace.vbnfs("mount", *url, "--allow-root", home, user=USER)
    remedy = "; let root write the line user_allow_other into /etc/fuse.conf, or leave allow_other out"
    assert (done.returncode, without_address(done.stderr).strip().endswith(remedy)) == (1, True), done.stderr
    namespace.output("sh", "-c", f"echo user_allow_other >>/etc/fuse.conf; chmod 755 {HOME}")

    namespace.output("true")
    assert namespace.vbnfs("mount", *url, "--allow-root", home, user=USER).returncode == 0
    assert readers(namespace, f"{home}/{UNITS}") == {None: True, USER: True, MEMBER: False, STRANGER: False}
    assert DENIED in namespace.run("ls", home, user=MEMBER).stderr
    assert shown(namespace, home, user=USER) == "500 4711 4711"
    assert namespace.vbnfs("umount", home, user=USER).returncode == 0

    assert namespace.vbnfs("mount", *url, "-o", f"allow_other,gid={LAB},umask=027", home, user=USER).returncode == 0
    assert readers(namespace, f"{home}/{UNITS}") == {None: True, USER: True, MEMBER: True, STRANGER: False}
    assert namespace.vbnfs("umount", home, user=USER).returncode == 0

    done = namespace.vbnfs("mount", *url, "-o", "allow_other,uid=root,umask=077", home, user=USER)
    assert (done.returncode, "somebody, who mounts, could not read them" in done.stderr) == (1, True), done.stderr
    assert namespace.mounts() == []


@pytest.mark.slow
def test_options_of_mount8(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """mount(8)'s options are taken by root's mount(2) and by fusermount3: what the kernel knows shows in the list."""
    generic = (
        "ro,nosuid,nodev,noexec,noatime,nodiratime,defaults,nofail,_netdev,noauto,x-systemd.automount,comment=a,relatime"
        ",default_permissions,max_read=65536,nomand,lazytime,silent"
    )
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{generic},{options}")
    flags = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"}
    assert mounted_with(namespace, VBN) >= {*flags, "default_permissions", "max_read=65536"}
    assert namespace.output("cat", f"{VBN}/{UNITS}") == "unit_id\n1\n"
    namespace.output("umount", VBN)

    home, theirs = f"{HOME}/vbn", generic.replace("nodiratime,", "")
    done = namespace.vbnfs("mount", "-o", theirs, "--endpoint-url", server.endpoint_url, home, user=USER)
    assert done.returncode == 0, done.stderr
    assert mounted_with(namespace, home) >= {*flags - {"nodiratime"}, "default_permissions", "max_read=65536"}
    assert namespace.vbnfs("umount", home, user=USER).returncode == 0


def mounted_with(namespace: Namespace, folder: str) -> set[str]:
    """The options of a mount, as findmnt shows them."""
    return set(namespace.output("findmnt", "-no", "OPTIONS", folder).strip().split(","))


@pytest.mark.slow
def test_mtab_and_forbidden_file_systems(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """Root mounts on any file system, and leaves /etc/mtab alone; fusermount3's refusal of one names it."""
    namespace.output("sh", "-c", "rm /etc/mtab; echo own >/etc/mtab; mkdir /mnt/ram; mount -t ramfs ramfs /mnt/ram")
    namespace.output("sh", "-c", "mkdir /mnt/ram/vbn; chmod 777 /mnt/ram/vbn")
    namespace.output("mount", "-t", "vbnfs", PROJECT, "/mnt/ram/vbn", "-o", options)
    assert namespace.output("cat", f"/mnt/ram/vbn/{UNITS}") == "unit_id\n1\n"
    namespace.output("umount", "/mnt/ram/vbn")
    assert namespace.output("cat", "/etc/mtab") == "own\n"
    done = namespace.vbnfs("mount", "--endpoint-url", server.endpoint_url, "/mnt/ram/vbn", user=USER)
    if done.returncode == 0:  # a fusermount3 that knows ramfs
        assert namespace.vbnfs("umount", "/mnt/ram/vbn", user=USER).returncode == 0
    else:
        assert "is forbidden; fusermount3 has no such file system (ramfs) in its list" in done.stderr


def test_a_mount_is_remote(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """`df -l` leaves a mount out whose source has a colon, as that of `vbnfs mount` has; findmnt and find know it."""
    source = f"s3:{PROJECT}"
    namespace.output("sh", "-c", f"echo '{source} {VBN} vbnfs {options} 0 0' >/etc/fstab")
    for _ in range(2):  # the second time it is mounted already
        namespace.output("mount", "-a")
        assert namespace.mounts() == [VBN]
    assert VBN not in namespace.output("df", "-l")
    assert namespace.output("df", VBN).splitlines()[1].split()[0] == source
    assert namespace.output("findmnt", "-no", "SOURCE,FSTYPE", VBN).split() == [source, "fuse.vbnfs"]
    assert namespace.output("find", "/mnt", "-maxdepth", "1", "-fstype", "fuse.vbnfs") == f"{VBN}\n"
    namespace.output("umount", source)
    assert namespace.mounts() == []

    assert namespace.vbnfs("mount", "--endpoint-url", server.endpoint_url, f"{HOME}/vbn", user=USER).returncode == 0
    assert namespace.output("findmnt", "-no", "SOURCE", f"{HOME}/vbn") == f"{source}\n"
    assert f"{HOME}/vbn" not in namespace.run("df", "-l", user=USER).stdout
    namespace.output("umount", "--all", "--types", "fuse.vbnfs")
    assert namespace.mounts() == []


def test_readers_of_an_administrators_mount(namespace: Namespace, options: str) -> None:
    """`status` and `verify` answer every user who can read a mount, with what concerns them; others learn why not."""
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_other,gid={LAB},umask=027")
    namespace.output("cat", f"{VBN}/{SESSION}", user=MEMBER)
    status = json.loads(namespace.vbnfs("status", "--json", VBN, user=MEMBER).stdout)
    assert (status["mounted_by"], status["versions"], status["mountpoint"]) == ("root", ["0.4.0"], VBN)
    assert {"cache_dir", "log_file", "metrics", "passthrough", "last_error"}.isdisjoint(status)
    text = namespace.vbnfs("status", VBN, user=MEMBER).stdout
    assert "mounted by  root, whose cache it reads" in text
    done = namespace.vbnfs("status", user=MEMBER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{VBN} is root's: 'vbnfs status {VBN}' shows it\n")

    def verified() -> str:
        return namespace.vbnfs("verify", f"{VBN}/{SESSION}", user=MEMBER).stdout

    until(lambda: verified() == f"good         {VBN}/{SESSION}\n")
    done = namespace.vbnfs("verify", f"{VBN}/project_metadata", f"{VBN}/README.txt", user=MEMBER)
    assert done.stdout == f"not complete {VBN}/{UNITS}: not complete\nno file      {VBN}/README.txt\n"
    assert (done.returncode, f"nothing in {VBN}/README.txt can be verified" in done.stderr) == (1, True), done.stderr
    done = namespace.vbnfs("verify", "--fetch", f"{VBN}/{UNITS}", user=MEMBER)
    assert (done.returncode, f"the cache of {VBN} is root's: root can do that" in done.stderr) == (2, True), (
        done.stderr
    )
    for user, words in ((MEMBER, "not an HDF5 file"), (STRANGER, "mounted by root, and not open to you")):
        done = namespace.vbnfs("tree", f"{VBN}/{SESSION}", user=user)  # which that user reads, or may not
        assert (done.returncode, done.stdout, words in done.stderr) == (1, "", True), done.stderr
    done = namespace.vbnfs("status", VBN, user=STRANGER)
    message = (
        f"vbnfs: {VBN}: mounted by root, and not open to you; root can mount it with allow_other, or for a group"
    )
    assert (done.returncode, done.stderr.startswith(message)) == (1, True), done.stderr
    assert json.loads(namespace.vbnfs("status", "--json", VBN).stdout)["cache_dir"] == "/mnt/cache"


_PAGE_MOUNTPOINT = """
import sys
from vbnfs.config.sources import load_config
from vbnfs.web.house import House
print(House(load_config(command_line={"endpoint_url": sys.argv[1]}), examine=list).mountpoint())
"""


def test_the_page_where_root_has_mounted(namespace: Namespace, server: FakeS3Server, options: str) -> None:
    """Who can read a mount of root's has its path on the page; not who cannot, and not that of another dataset."""
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_other,gid={LAB},umask=027")
    for user, address, shown in (
        (MEMBER, server.endpoint_url, VBN),
        (MEMBER, "http://127.0.0.1:9", "None"),
        (STRANGER, server.endpoint_url, "None"),
    ):
        found = namespace.output(sys.executable, "-c", _PAGE_MOUNTPOINT, address, user=user)
        assert found == f"{shown}\n"


def test_status_after_logging_out(namespace: Namespace, server: FakeS3Server) -> None:
    """When /run/user/UID is emptied, as at log-out, `status` reaches the mount again, and `umount` waits."""
    home, place = f"{HOME}/vbn", "/run/user/4711"
    log_in = f"mkdir -p {place} && mount -t tmpfs -o mode=700,uid=4711 tmpfs {place}"
    namespace.output("sh", "-c", log_in)
    assert namespace.vbnfs("mount", "--endpoint-url", server.endpoint_url, home, user=USER).returncode == 0
    assert stat.S_ISSOCK(int(namespace.output("sh", "-c", f"stat -c 0x%f {place}/vbnfs/*.sock"), 16))
    namespace.output("umount", "--lazy", place)
    namespace.output("rmdir", place)
    until(lambda: namespace.vbnfs("status", home, user=USER).returncode == 0)
    namespace.output("sh", "-c", log_in)  # and back: the mount is found where it is now
    pid = json.loads(namespace.vbnfs("status", "--json", home, user=USER).stdout)["pid"]
    assert namespace.vbnfs("umount", home, user=USER).returncode == 0
    assert has_exited(pid)
    namespace.output("rm", "-rf", "/tmp/vbnfs-4711")


@pytest.mark.slow
def test_a_daemon_that_is_killed_with_auto_unmount(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """With `auto_unmount` no dead mount stays, root's or a user's, also when a folder above has another name."""
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},auto_unmount")
    namespace.output("mkdir", "-p", f"{HOME}/above/vbn", user=USER)
    url = ["--endpoint-url", server.endpoint_url]
    done = namespace.vbnfs("mount", *url, "-o", "auto_unmount", f"{HOME}/above/vbn", user=USER)
    assert done.returncode == 0, done.stderr
    namespace.output("mv", f"{HOME}/above", f"{HOME}/renamed")
    for mount, user in ((VBN, None), (f"{HOME}/renamed/vbn", USER)):
        pid = json.loads(namespace.vbnfs("status", "--json", mount, user=user).stdout)["pid"]
        namespace.output("kill", "-KILL", str(pid))
        until(lambda mount=mount: mount not in namespace.mounts())  # type: ignore[misc]
