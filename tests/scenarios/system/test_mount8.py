"""mount(8), umount(8), fstab(5) and their kin, as the system has them, in a mount namespace of each test's own."""

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.cli.test_mounting_document import OPTIONS
from tests.fakes.dataset import PROJECT, FakeDataset, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until, without_address
from tests.scenarios.system.namespace import HOME, USER, Namespace

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
SESSION_BYTES = Pattern(3_000_001)
VBN = "/mnt/vbn"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: SESSION_BYTES}}) as server:
        yield server


@pytest.fixture
def options(server: FakeS3Server) -> str:
    """Options that every mount here wants."""
    return f"endpoint_url={server.endpoint_url},cache_dir=/mnt/cache,log_file=/mnt/vbnfs.log"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace in which `vbnfs install-helper` was run."""
    with Namespace() as namespace:
        done = namespace.vbnfs("install-helper")
        assert done.returncode == 0, done.stderr
        yield namespace


def daemon(namespace: Namespace, folder: str = VBN) -> int:
    """The process behind a mount."""
    pid: int = json.loads(namespace.vbnfs("status", "--json", folder).stdout)["pid"]
    return pid


def fstab(namespace: Namespace, *lines: str) -> None:
    """Write /etc/fstab."""
    namespace.output("sh", "-c", 'printf "%s\\n" "$@" >/etc/fstab', "sh", *lines)


# mount


def test_the_kernel_reads_for_everybody(namespace: Namespace, options: str) -> None:
    """Of root's `mount -t vbnfs -o allow_other` another user's reads of a whole file do not reach the daemon."""
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", f"{options},allow_other")
    right = hashlib.blake2b(SESSION_BYTES[: len(SESSION_BYTES)]).hexdigest()

    def read() -> tuple[int, int]:
        """The opens that were passed through, and the reads that reached the daemon, when a user has read it."""
        assert namespace.output("b2sum", f"{VBN}/{SESSION}", user=USER).split()[0] == right
        metrics = json.loads(namespace.vbnfs("status", "--json", VBN).stdout)["metrics"]
        return metrics["passthrough_opens"], metrics["read_requests"]

    until(lambda: read()[0] > 0)
    opens, reads = read()
    assert read() == (opens + 1, reads)


@pytest.mark.parametrize("kind", ["vbnfs", "fuse.vbnfs"])
def test_mount_and_umount(namespace: Namespace, options: str, kind: str) -> None:
    """`mount -t` says nothing and mounts read-only; findmnt, df, mountpoint know it; `umount` ends the daemon."""
    done = namespace.run(
        *("mount", "-t", kind, PROJECT, VBN, "-o"), f"ro,{options},cache-size=2G,dataset_version=0.4.0,allow_other"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv") == "unit_id\n1\n"
    assert namespace.output("stat", "--format=%s", f"{VBN}/{SESSION}") == f"{len(SESSION_BYTES)}\n"
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv", user=USER)
    assert namespace.output("findmnt", "-no", "FSTYPE,SOURCE", VBN).split() == ["fuse.vbnfs", PROJECT]
    assert {"ro", "allow_other"} <= set(namespace.output("findmnt", "-no", "OPTIONS", VBN).strip().split(","))
    assert namespace.output("df", "-T", VBN).splitlines()[1].split()[:3] == [PROJECT, "fuse.vbnfs", str(2 << 20)]
    assert namespace.run("mountpoint", VBN).returncode == 0
    process = os.pidfd_open(daemon(namespace))
    assert namespace.output("umount", VBN) == ""
    until(lambda: has_ended(process))
    assert namespace.run("mountpoint", VBN).returncode != 0


def has_ended(process: int) -> bool:
    """Whether the process of a pidfd is gone."""
    try:
        signal.pidfd_send_signal(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_rw_is_taken_as_ro(namespace: Namespace, options: str) -> None:
    """Without `ro` mount(8) says `rw`: the mount is read-only all the same, and `-v` tells."""
    done = namespace.run("mount", "-v", "-t", "vbnfs", PROJECT, VBN, "-o", options)
    assert (done.returncode, f"{PROJECT} mounted on {VBN}, read-only" in done.stderr) == (0, True)
    assert "ro" in namespace.output("findmnt", "-no", "OPTIONS", VBN).split(",")


def test_without_an_environment(namespace: Namespace, options: str) -> None:
    """As it is at boot: without HOME, PATH or anything else."""
    namespace.output("env", "-i", "/bin/mount", "-t", "vbnfs", PROJECT, VBN, "-o", options)
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv")


def test_fake_mounts_nothing(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """`mount -f` mounts nothing and asks no server; a wrong setting is reported all the same."""
    assert namespace.run("mount", "-f", "-t", "vbnfs", PROJECT, VBN, "-o", options).returncode == 0
    done = namespace.run("mount", "-f", "-t", "vbnfs", PROJECT, VBN, "-o", "cache_size=1")
    assert (done.returncode, "-o cache_size: '1' will not do" in done.stderr) == (1, True)
    assert (namespace.mounts(), server.requests) == ([], [])


def test_unknown_options(namespace: Namespace, options: str) -> None:
    """An option that nobody knows is refused with status 1; with `-s` it is tolerated, and a known one counts."""
    command = ["-t", "vbnfs", PROJECT, VBN, "-o", f"{options},cash_size=1G,cache_size=3G"]
    done = namespace.run("mount", *command)
    assert (done.returncode, "-o cash_size=1G: no such mount option" in done.stderr) == (1, True)
    assert namespace.run("mount", "-s", *command).returncode == 0
    assert namespace.output("df", "--output=size", VBN).split()[-1] == str(3 << 20)


def test_failures(namespace: Namespace, options: str) -> None:
    """What keeps a mount from being made is one line with mount(8)'s status 32; a wrong source is usage."""
    for source, folder, more, status, message in (
        (PROJECT, "/mnt/missing", "", 32, "no such folder"),
        (PROJECT, VBN, ",dataset_version=9.9.9", 32, "there are: 0.4.0"),
        (PROJECT, VBN, ",bucket=other-bucket", 32, "NoSuchBucket"),
        (PROJECT, VBN, ",config=/mnt/missing.toml", 1, "no such configuration file"),
        ("s3://bucket/project", VBN, "", 1, "a project is wanted"),
    ):
        done = namespace.run("mount", "-t", "vbnfs", source, folder, "-o", options + more)
        reason = without_address(done.stderr)
        assert (done.returncode, reason.count("\n"), message in reason) == (status, 1, True), done.stderr
        assert done.stderr.startswith("mount.vbnfs: ")
    assert namespace.mounts() == []


def test_a_second_mount_on_the_same_folder(namespace: Namespace, options: str) -> None:
    """A folder that has the mount is refused with status 32; `-o remount`, of the folder alone too, stacks none."""
    command = ["mount", "-t", "vbnfs", PROJECT, VBN, "-o"]
    done = namespace.run(*command, f"remount,{options}")
    assert (done.returncode, "not mounted" in done.stderr) == (32, True)
    namespace.output(*command, options)
    done = namespace.run(*command, options)
    assert (done.returncode, "already a vbnfs mount" in done.stderr) == (32, True)
    for remount in ([*command, f"remount,rw,{options}"], ["mount", "-o", "remount", VBN]):
        done = namespace.run(*remount)
        assert (done.returncode, "stays mounted as it is" in done.stderr) == (0, True), done.stderr
    assert namespace.mounts() == [VBN]
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv")


def test_other_mounts_share_the_cache(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """What was read through one mount is read through another one without a request."""
    namespace.output("mkdir", "/mnt/other")
    for folder in (VBN, "/mnt/other"):
        namespace.output("mount", "-t", "vbnfs", PROJECT, folder, "-o", options)
    first = namespace.output("md5sum", f"{VBN}/{SESSION}")
    server.forget_requests()
    assert namespace.output("md5sum", f"/mnt/other/{SESSION}").split()[0] == first.split()[0]
    assert server.count() == 0


def test_settings_from_a_file(namespace: Namespace, options: str) -> None:
    """`config=` names a TOML file; options win over it, and the source's bucket does not."""
    settings = "".join(f'{name} = "{value}"\n' for name, _, value in (o.partition("=") for o in options.split(",")))
    namespace.output("sh", "-c", 'printf %s "$1" >/mnt/vbn.toml', "sh", f'{settings}cache_size = "5G"\n')
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", "config=/mnt/vbn.toml,cache_size=4G")
    assert namespace.output("df", "--output=size", VBN).split()[-1] == str(4 << 20)


def test_the_bucket_follows_from_the_source(namespace: Namespace, options: str) -> None:
    """Another dataset of the same format mounts by its project's name alone; its bucket is called after it."""
    other = FakeDataset(bucket="visual-behavior-ophys-data", project="visual-behavior-ophys")
    other.publish("1.0.0", {"behavior_sessions/1.nwb": b"data"})
    with FakeS3Server(other.store) as server:
        more = f"endpoint_url={server.endpoint_url},cache_dir=/mnt/cache,log_file=/mnt/vbnfs.log"
        namespace.output("mount", "-t", "vbnfs", "visual-behavior-ophys", VBN, "-o", more)
        assert namespace.output("cat", f"{VBN}/behavior_sessions/1.nwb") == "data"
        namespace.output("umount", VBN)


def test_another_mount_namespace(namespace: Namespace, options: str) -> None:
    """`mount -N` mounts in another namespace, as mount(8) does."""
    namespace.output("true")
    with Namespace() as elsewhere:
        namespace.output("mount", "-N", elsewhere.path, "-t", "vbnfs", PROJECT, VBN, "-o", options)
        assert (namespace.mounts(), elsewhere.mounts()) == ([], [VBN])


# fstab


def test_fstab(namespace: Namespace, options: str) -> None:
    """A line as people write it mounts by its folder, is left out by `mount -a`, and `umount` finds it."""
    namespace.output("mkdir", "/mnt/auto")
    common = f"user,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=60,comment=data,{options}"
    fstab(namespace, f"{PROJECT} {VBN} vbnfs noauto,{common} 0 0", f"{PROJECT} /mnt/auto fuse.vbnfs {common} 0 0")
    namespace.output("mount", "-a")
    assert namespace.mounts() == ["/mnt/auto"]
    namespace.output("mount", VBN)
    assert sorted(namespace.mounts()) == ["/mnt/auto", VBN]
    for folder in ("/mnt/auto", VBN):
        assert {"noexec", "nosuid", "nodev", "ro"} <= set(
            namespace.output("findmnt", "-no", "OPTIONS", folder).strip().split(",")
        )
        namespace.output("umount", folder)
    assert namespace.mounts() == []


def test_mount_all_twice(namespace: Namespace, options: str) -> None:
    """`mount -a` again stacks no second mount, and from a folder that has what is called like the source neither."""
    fstab(namespace, f"{PROJECT} {VBN} vbnfs {options} 0 0")
    for _ in range(2):
        namespace.output("mount", "-a")
        assert namespace.mounts() == [VBN]
    namespace.output("mkdir", "-p", f"/mnt/sdk/{PROJECT}")
    # There mount(8) takes that for the source, finds it not mounted, and asks the helper, which refuses.
    assert "already a vbnfs mount" in namespace.run("mount", "-a", folder="/mnt/sdk").stderr
    assert namespace.mounts() == [VBN]


def test_mount_all_twice_with_named_datasets(namespace: Namespace, options: str) -> None:
    """A source that is not the project's name, a dataset's name or a label, is found in the list of mounts, too."""
    namespace.output("sh", "-c", 'printf %s "$1" >/mnt/x.toml', "sh", f"[datasets.mirror]\nproject = '{PROJECT}'\n")
    more = f"config=/mnt/x.toml,{options}"
    namespace.output("mkdir", "/mnt/label")
    fstab(namespace, f"mirror {VBN} vbnfs {more} 0 0", f"vbn-of-us /mnt/label vbnfs dataset=mirror,{more} 0 0")
    for _ in range(2):
        namespace.output("mount", "-a")
        assert sorted(namespace.mounts()) == ["/mnt/label", VBN]
    assert namespace.output("findmnt", "-no", "SOURCE", VBN) == "mirror\n"
    assert namespace.output("findmnt", "-no", "SOURCE", "/mnt/label") == "vbn-of-us\n"


def test_a_source_that_mount8_takes_for_a_path(namespace: Namespace, options: str) -> None:
    """Where the current folder has something of the project's name, the project is mounted all the same."""
    namespace.output("mkdir", "-p", f"/mnt/sdk/{PROJECT}")
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", options, folder="/mnt/sdk")
    assert namespace.output("findmnt", "-no", "SOURCE", VBN) == f"{PROJECT}\n"


# umount, and what is left


def test_lazy_umount(namespace: Namespace, options: str) -> None:
    """A mount in use is busy for `umount`, and goes with `umount -l`; who reads goes on reading."""
    namespace.output("mount", "-t", "vbnfs", PROJECT, VBN, "-o", options)
    script = f"""
        exec 3<{VBN}/{SESSION}
        umount {VBN} && exit 1
        umount -l {VBN} || exit 1
        mountpoint -q {VBN} && exit 1
        wc -c <&3
    """
    assert namespace.output("sh", "-c", script) == f"{len(SESSION_BYTES)}\n"


def test_a_dead_mount_is_cleared(namespace: Namespace, options: str) -> None:
    """After SIGKILL of the daemon `mount FOLDER` mounts anew, and does not stack."""
    fstab(namespace, f"{PROJECT} {VBN} vbnfs noauto,{options} 0 0")
    namespace.output("mount", VBN)
    process = os.pidfd_open(pid := daemon(namespace))
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(process))
    assert "not connected" in namespace.run("ls", VBN).stderr
    namespace.output("mount", VBN)
    assert namespace.mounts() == [VBN]
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv")


# Ordinary users


def test_a_user_mounts_at_home(namespace: Namespace, server: FakeS3Server) -> None:
    """Without any right a user mounts in their home through fusermount3, has it to themselves, and unmounts."""
    url = ["--endpoint-url", server.endpoint_url]
    done = namespace.vbnfs("mount", *url, f"{HOME}/vbn", user=USER)
    assert (done.returncode, done.stderr) == (0, "")
    assert namespace.output("cat", f"{HOME}/vbn/project_metadata/units.csv", user=USER) == "unit_id\n1\n"
    assert namespace.run("ls", f"{HOME}/vbn").returncode != 0
    assert namespace.output("stat", "-c", "%U %a", f"{HOME}/.cache/vbnfs") == f"{USER} 700\n"
    status = json.loads(namespace.vbnfs("status", "--json", f"{HOME}/vbn", user=USER).stdout)
    assert "sudo mount -t vbnfs" in status["passthrough"]["reason"]
    os.kill(status["pid"], signal.SIGKILL)
    until(lambda: "not connected" in namespace.run("ls", f"{HOME}/vbn", user=USER).stderr)
    done = namespace.vbnfs("mount", *url, f"{HOME}/vbn", user=USER)
    assert (done.returncode, done.stderr) == (0, "")
    assert namespace.mounts() == [f"{HOME}/vbn"]
    assert namespace.vbnfs("umount", f"{HOME}/vbn", user=USER).returncode == 0
    assert namespace.mounts() == []


def test_a_user_mounts_a_line_of_fstab(namespace: Namespace, server: FakeS3Server) -> None:
    """With `user` in fstab they run `mount FOLDER` and `umount FOLDER` themselves; the cache is their own."""
    fstab(namespace, f"{PROJECT} {HOME}/vbn vbnfs noauto,user,endpoint_url={server.endpoint_url} 0 0")
    namespace.output("mount", f"{HOME}/vbn", user=USER)
    assert namespace.output("cat", f"{HOME}/vbn/project_metadata/units.csv", user=USER)
    assert namespace.output("stat", "-c", "%U", f"{HOME}/.cache/vbnfs") == f"{USER}\n"
    namespace.output("umount", f"{HOME}/vbn", user=USER)
    assert namespace.mounts() == []


def test_root_mounts_for_a_user(namespace: Namespace, server: FakeS3Server) -> None:
    """With `setuid=` the daemon is that user's, as mount.fuse3 has it; an unknown user is an error."""
    command = ["mount", "-t", "vbnfs", PROJECT, f"{HOME}/vbn", "-o"]
    done = namespace.run(*command, "setuid=no-such-user")
    assert (done.returncode, "there is no such user" in done.stderr) == (1, True)
    namespace.output(*command, f"setuid={USER},endpoint_url={server.endpoint_url}")
    assert namespace.output("cat", f"{HOME}/vbn/project_metadata/units.csv", user=USER)
    assert namespace.output("stat", "-c", "%U", f"{HOME}/.cache/vbnfs") == f"{USER}\n"
    assert namespace.vbnfs("umount", f"{HOME}/vbn", user=USER).returncode == 0


def test_options_of_other_lines(namespace: Namespace, options: str, server: FakeS3Server) -> None:
    """A line of fstab with all options that docs/mounting.md has as taken mounts, for root and for a user.

    What is done shows in the list of mounts, and umount(8) finds its way, whatever `helper=` and `uhelper=` name.
    """
    rows = sorted(OPTIONS, key=lambda row: row[1], reverse=True)  # of noatime and atime the later one counts
    taken = [option for words, what in rows if what != "refused" for option in re.findall("`([^`]+)`", words)]
    taken = [option for option in taken if "context" not in option]  # labels are for machines with SELinux
    fstab(
        namespace,
        f"s3:{PROJECT} {VBN} vbnfs {','.join([*taken, options])} 0 0",
        f"s3:{PROJECT} {HOME}/vbn vbnfs {_for_users(taken)},endpoint_url={server.endpoint_url} 0 0",
    )
    namespace.output("mount", VBN)
    assert namespace.output("cat", f"{VBN}/project_metadata/units.csv") == "unit_id\n1\n"
    found = namespace.output("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", VBN).split()
    assert found[:2] == ["lab:vbn", "fuse.vbnfs"]
    assert {"ro", "noatime", "nodiratime", "max_read=131072"} <= set(found[2].split(","))
    namespace.output("umount", VBN)
    namespace.output("mount", f"{HOME}/vbn", user=USER)
    assert namespace.output("cat", f"{HOME}/vbn/project_metadata/units.csv", user=USER)
    namespace.output("umount", f"{HOME}/vbn", user=USER)
    assert namespace.mounts() == []


def _for_users(options: list[str]) -> str:
    """The same but for what takes a line from users, or what their fusermount3 may not know."""
    not_theirs = {"nosymfollow", "nouser", "nousers", "users", "group", "nogroup", "owner", "noowner", "user=me"}
    return ",".join([*(option for option in options if option not in not_theirs), "user", "noauto"])


# The helper's place


def test_installing_the_helper(namespace: Namespace) -> None:
    """Both names are links to this installation; `--remove` takes them away; only root may."""
    for name in ("mount.vbnfs", "mount.fuse.vbnfs"):
        assert namespace.output("readlink", f"/sbin/{name}").endswith("/bin/mount.vbnfs\n")
    assert namespace.vbnfs("install-helper", "--remove").returncode == 0
    done = namespace.vbnfs("install-helper", user=USER)
    assert (done.returncode, "only root may" in done.stderr) == (1, True)
    assert namespace.run("ls", "/sbin/mount.vbnfs").returncode != 0
    assert "unknown filesystem type 'vbnfs'" in namespace.run("mount", "-t", "vbnfs", PROJECT, VBN).stderr
