"""How a mount is made: by mount(2), by fusermount3, by the caller; and what refuses it, with the remedy."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuse.test_device import SUBTYPE
from tests.open_files import open_files
from vbnfs.errors import MountError
from vbnfs.fuse import mounting
from vbnfs.fuse.mounting import Call, call_of, escaped, open_mount
from vbnfs.host import handed_over, mount_call, mount_programs
from vbnfs.host.mountinfo import all_mounts, find_mount

NO_CAPABILITY = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def without_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may not call mount(2), as far as it knows."""
    monkeypatch.setattr(mounting, "has_capability", lambda number: False)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ([], Call("fuse", "fuse", 6, ())),
        (["ro", "subtype=vbnfs", "fsname=a,b=c"], Call("a,b=c", "fuse.vbnfs", 7, ())),
        (["noexec", "exec", "suid", "dev"], Call("fuse", "fuse", 0, ())),
        (["noatime", "nodiratime", "noexec", "nosymfollow"], Call("fuse", "fuse", 6 | 8 | 256 | 1024 | 2048, ())),
        (
            ["default_permissions", "allow_other", "max_read=4096", 'context="a:s0:c1,c2"'],
            Call("fuse", "fuse", 6, ("default_permissions", "allow_other", "max_read=4096", 'context="a:s0:c1,c2"')),
        ),
    ],
)
def test_what_mount2_is_called_with(options: list[str], call: Call) -> None:
    """Flags, source and type are arguments of their own; nosuid and nodev hold unless an option says otherwise."""
    assert call_of(options) == call


def test_escaping() -> None:
    """fusermount3 and libfuse get commas and backslashes escaped."""
    assert escaped(r"fsname=a,b\c") == r"fsname=a\,b\\c"


def reason_of_failure(path: Path, *options: str) -> str:
    """Why a mount fails. Nothing is mounted then, and no descriptor stays open."""
    before = open_files()
    with pytest.raises(MountError) as caught:
        open_mount(path, options)
    assert open_files() == before
    assert find_mount(path) is None
    return str(caught.value)


# mount(2)


@pytest.mark.root
def test_root_needs_no_fusermount3(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may mount calls mount(2): fusermount3 need not be there, nor have a list that suits."""
    monkeypatch.setattr(mount_programs, "_FOLDERS", ("/nowhere",))
    monkeypatch.setenv("PATH", "/nowhere")
    open_mount(mountpoint, ["ro", SUBTYPE, "fsname=s3:a b", "noexec", "max_read=65536"]).close()
    monkeypatch.undo()
    entry = find_mount(mountpoint)
    assert entry is not None
    assert (entry.source, entry.file_system_type, entry.owner) == ("s3:a b", "fuse.vbnfs", os.geteuid())
    line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(mountpoint) in line)
    assert {"ro", "nosuid", "nodev", "noexec", "max_read=65536"} <= set(line.split()[3].split(","))


@pytest.mark.root
def test_what_mount2_does_not_take(mountpoint: Path) -> None:
    """A missing folder, a file, a link and an unknown option are refused with the reason; then mounting works."""
    (mountpoint / "file").touch()
    (mountpoint / "link").symlink_to(mountpoint)
    for name, reason in (
        ("missing", "No such file or directory"),
        ("file", "Not a directory"),
        ("link", "Not a directory"),
    ):
        path = mountpoint / name
        assert reason_of_failure(path, "ro", SUBTYPE) == f"{path}: cannot be mounted: mount(2): {reason}"
    reason = reason_of_failure(mountpoint, "ro", SUBTYPE, "no_such_option")
    assert "the kernel does not take one of these options: ro, subtype=vbnfs, no_such_option" in reason
    open_mount(mountpoint, ["ro", SUBTYPE]).close()
    assert find_mount(mountpoint) is not None


@pytest.mark.root
@pytest.mark.parametrize("label", ["context", "fscontext", "defcontext", "rootcontext"])
def test_labels_where_selinux_is_off(mountpoint: Path, label: str) -> None:
    """SELinux's labels go to the kernel, which takes them where SELinux is on; the message says that it is not."""
    option = f"{label}=system_u:object_r:nfs_t:s0"
    if "selinuxfs" in Path("/proc/filesystems").read_text():
        open_mount(mountpoint, ["ro", SUBTYPE, option]).close()
        assert find_mount(mountpoint) is not None
    else:
        assert f"SELinux is not on here, and labels are for it alone: leave {option} out" in reason_of_failure(
            mountpoint, "ro", SUBTYPE, option
        )


@pytest.mark.root
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_fusermount3_where_mount2_is_refused(mountpoint: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where the kernel refuses the call, as it may in a container, fusermount3 is asked."""

    def refuse(*_: object) -> None:
        raise PermissionError(number, os.strerror(number))

    monkeypatch.setattr(mount_call, "mount", refuse)
    open_mount(mountpoint, ["ro", SUBTYPE]).close()
    assert find_mount(mountpoint) is not None


@pytest.mark.root
def test_root_without_the_capability(tmp_path: Path) -> None:
    """Root in a container without CAP_SYS_ADMIN learns that it lacks that, with and without fusermount3."""
    script = """
import sys
from pathlib import Path
from vbnfs.errors import MountError
from vbnfs.fuse.mounting import open_mount
try:
    open_mount(Path(sys.argv[1]), ["ro", "subtype=vbnfs"])
except MountError as error:
    print(error)
"""
    command = [*NO_CAPABILITY, sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fusermount3: mount failed: Operation not permitted; this process may not mount: in a" in done.stdout
    assert "--cap-add SYS_ADMIN --device /dev/fuse" in done.stdout


# fusermount3


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
    """Put a program in the place of fusermount3."""
    script = folder / "fusermount3"
    script.write_text(program)
    script.chmod(0o755)
    monkeypatch.setattr(mount_programs, "_FOLDERS", (str(folder),))


@pytest.mark.usefixtures("without_capability")
def test_a_mount_point_that_is_missing(mountpoint: Path) -> None:
    """The reason is fusermount3's, and the mount point is named."""
    missing = mountpoint / "missing"
    reason = reason_of_failure(missing, "ro", SUBTYPE)
    assert reason.startswith(f"{missing}: cannot be mounted: ")
    assert "No such file or directory" in reason


@pytest.mark.usefixtures("without_capability")
def test_an_option_that_there_is_not(mountpoint: Path) -> None:
    """An option that is not taken is refused with fusermount3's reason, after which mounting works as before."""
    reason = reason_of_failure(mountpoint, "ro", SUBTYPE, "no_such_option")
    assert "fusermount3: " in reason
    open_mount(mountpoint, ["ro", SUBTYPE]).close()
    assert find_mount(mountpoint) is not None


@pytest.mark.usefixtures("without_capability")
def test_labels_without_mount2(mountpoint: Path) -> None:
    """fusermount3 knows no labels; the message says who can mount with them."""
    reason = reason_of_failure(mountpoint, "ro", SUBTYPE, "context=system_u:object_r:nfs_t:s0")
    assert "context=system_u:object_r:nfs_t:s0 is for mount(2) alone, which this process may not call" in reason
    assert reason.endswith("let root mount, or leave it out")


@pytest.mark.usefixtures("without_capability")
def test_without_fusermount3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where fusermount3 is not installed, the reason tells what to install."""
    monkeypatch.setattr(mount_programs, "_FOLDERS", ("/nowhere",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install fuse3" in reason_of_failure(tmp_path)


HANDS_ONE_OVER_AND_STAYS = """
import os, socket, time
end = socket.socket(fileno=int(os.environ["_FUSE_COMMFD"]))
socket.send_fds(end, [b"x"], [0])
time.sleep(1000)
"""


@pytest.mark.usefixtures("without_capability")
@pytest.mark.parametrize("program", ["#!/bin/sh\nexec sleep 1000\n", f"#!{sys.executable}{HANDS_ONE_OVER_AND_STAYS}"])
def test_a_fusermount3_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """It is ended after a while, whether it has handed over a descriptor or not, and nothing stays open."""
    monkeypatch.setattr(mounting, "_ANSWER_SECONDS", 0.5)
    fake(monkeypatch, tmp_path, program)
    assert "fusermount3 does not end; the disk of that folder may hang" in reason_of_failure(tmp_path)


HANDS_ONE_OVER_AND_FAILS = """
import os, socket, sys
with socket.socket(fileno=int(os.environ["_FUSE_COMMFD"])) as end:
    socket.send_fds(end, [b"x"], [0])
sys.exit("no more of this")
"""


@pytest.mark.usefixtures("without_capability")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("#!/bin/sh\nexit 3\n", "ended with status 3"),
        ("#!/bin/sh\nkill -9 $$\n", "ended with status -9"),
        ("#!/bin/sh\nexit 0\n", "ended with status 0"),
        ("#!/bin/sh\necho no luck >&2\nexit 1\n", "cannot be mounted: no luck"),
        (f"#!{sys.executable}{HANDS_ONE_OVER_AND_FAILS}", "cannot be mounted: no more of this"),
        ("#!/no/such/interpreter\n", "cannot be mounted: "),
    ],
    ids=["silent", "killed", "no descriptor", "with a reason", "with a descriptor", "not to be run"],
)
def test_a_fusermount3_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, reason: str) -> None:
    """However fusermount3 ends, mounting fails with what is known, and nothing stays open."""
    fake(monkeypatch, tmp_path, program)
    assert reason in reason_of_failure(tmp_path)


@pytest.mark.usefixtures("without_capability")
@pytest.mark.parametrize(
    ("words", "remedies"),
    [
        ("mounting over filesystem type 0x0bd00bd0 is forbidden", ["(Lustre)", "/tmp/vbn-$USER", "let root mount"]),
        ("mounting over filesystem type 0x47504653 is forbidden", ["(GPFS)"]),
        ("mounting over filesystem type 0xca451a4e is forbidden", ["(bcachefs)"]),
        ("mounting over filesystem type 0x12345678 is forbidden", ["no such file system in its list", "/tmp/vbn-"]),
        ("mount failed: Permission denied", ["a security module", "'dmesg'", "let root mount"]),
        ("mount failed: Operation not permitted", ["CAP_SYS_ADMIN", "setuid root", "no_new_privs"]),
        (
            "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf",
            ["let root write the line user_allow_other into /etc/fuse.conf"],
        ),
        (
            "too many FUSE filesystems mounted; mount_max=N can be set in /etc/fuse.conf",
            ["unmount others, or let root raise mount_max"],
        ),
        ("mountpoint /tmp/x not owned by user", ["an empty folder of your own"]),
        ("user has no write access to mountpoint /x", ["an empty folder of your own"]),
        ("failed to open /dev/fuse: Operation not permitted", ["--device /dev/fuse"]),
        ("failed to open /dev/fuse: Permission denied", ["chmod 666 /dev/fuse"]),
        ("fuse device not found, try 'modprobe fuse' first", ["load the module"]),
        ("mount failed: No space left on device", ["fs.mount-max"]),
    ],
)
def test_the_words_of_fusermount3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, remedies: list[str]
) -> None:
    """What fusermount3 refuses is explained with what to do about it, behind its own words."""
    monkeypatch.setattr(mounting, "PROFILE", str(tmp_path / "none"))
    fake(monkeypatch, tmp_path, f'#!/bin/sh\necho "fusermount3: {words.replace("$", chr(92) + "$")}" >&2\nexit 1\n')
    reason = reason_of_failure(tmp_path)
    said, _, remedy = reason.partition(words)
    assert said == f"{tmp_path}: cannot be mounted: fusermount3: "
    assert [one for one in remedies if one not in remedy] == []


@pytest.mark.usefixtures("without_capability")
def test_apparmors_rule_for_fusermount3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where AppArmor has a profile of fusermount3, as on Ubuntu, its rule is named, and how to add this folder."""
    (tmp_path / "profile").touch()
    monkeypatch.setattr(mounting, "PROFILE", str(tmp_path / "profile"))
    fake(monkeypatch, tmp_path, '#!/bin/sh\necho "fusermount3: mount failed: Permission denied" >&2\nexit 1\n')
    reason = reason_of_failure(tmp_path)
    for part in (
        "fusermount3: mount failed: Permission denied; AppArmor's rule for fusermount3 lets it mount in homes and"
        " below /mnt, /media, /tmp and /run/user alone: mount on ~/vbn, or let root mount",
        f"to /etc/apparmor.d/local/fusermount3, such as 'mount fstype=fuse.vbnfs options=(nosuid,nodev,ro) ->"
        f" {tmp_path}/,' and 'umount {tmp_path}/,', and run 'apparmor_parser -r /etc/apparmor.d/fusermount3'",
    ):
        assert part in reason


# A mount that the caller has made


@pytest.mark.root
def test_a_descriptor_of_the_caller(mountpoint: Path) -> None:
    """A mount that was made with a descriptor is taken over, once; the kernel says where it is (Linux 6.16)."""
    device = os.open("/dev/fuse", os.O_RDWR)
    path = Path(f"/dev/fd/{device}")
    assert "nothing is mounted with it; call mount(2) with the option fd=" in reason_of_failure(path)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    mount_call.mount("x", mountpoint, "fuse.vbnfs", 7, data)
    connection = open_mount(path, ["ro"])
    entry = handed_over.mount_of(device)
    assert entry is None or entry.mountpoint == mountpoint
    assert entry is not None or "fuse_connection" not in Path(f"/proc/self/fdinfo/{device}").read_text()
    assert connection.read() is not None
    assert f"{path}: another process answers this mount already" in reason_of_failure(path)
    assert [one.mountpoint for one in all_mounts() if one.mountpoint == mountpoint] == [mountpoint]


def test_descriptors_that_are_none(tmp_path: Path) -> None:
    """A descriptor that is not open, or of something else, is refused with the reason."""
    assert "no such open file; the program that starts vbnfs has to leave it open" in reason_of_failure(
        Path("/dev/fd/999999")
    )
    with (tmp_path / "file").open("wb") as file:
        assert "not a descriptor of /dev/fuse" in reason_of_failure(Path(f"/dev/fd/{file.fileno()}"))
