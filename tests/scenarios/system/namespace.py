"""A mount namespace of a test's own: its /etc, /sbin and /run can be changed, and the machine's stay as they are."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.mount_namespaces import NO_MOUNTS

REPOSITORY = Path(__file__).parents[3]
USER = "somebody"  # there is one in the namespace
MEMBER, STRANGER = "member", "stranger"  # of the group LAB, and not
LAB, LAB_ID = "lab", 4800
HOME = "/mnt/somebody"
_SETUP = (
    f"set -eu\n{NO_MOUNTS}\n"
    + r"""
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /mnt
layer() {  # what is written below "$1" goes to memory; "$1" itself has the mode $2
    mkdir -p "/run/layers$1/upper" "/run/layers$1/work"
    chmod "$2" "/run/layers$1/upper"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/layers$1/upper,workdir=/run/layers$1/work" "$1"
}
layer /etc 755
layer "$(realpath /sbin)" 755
for folder in "$@"; do layer "$folder" 755; done
# Everybody's, unlike the machine's own, which is not touched.
mknod -m 666 /run/fuse c 10 229
mount --bind /run/fuse /dev/fuse
: >/etc/fstab
mkdir /mnt/vbn
echo somebody:x:4711:4711::/mnt/somebody:/bin/sh >>/etc/passwd
echo somebody:x:4711: >>/etc/group
mkdir -m 700 /mnt/somebody /mnt/somebody/vbn
chown -R somebody:somebody /mnt/somebody
for user in member:4712 stranger:4713; do  # the one is in the group lab
    echo "${user%:*}:x:${user#*:}:${user#*:}::/mnt/${user%:*}:/bin/sh" >>/etc/passwd
    echo "${user%:*}:x:${user#*:}:" >>/etc/group
    mkdir -m 700 "/mnt/${user%:*}"
    chown "${user#*:}:${user#*:}" "/mnt/${user%:*}"
done
echo lab:x:4800:member >>/etc/group
echo ready
exec cat
"""
)
_TIMEOUT_SECONDS = 120


def private_folders() -> Iterator[Path]:
    """Folders that keep other users from this Python and this vbnfs, the outermost first."""
    seen: set[Path] = set()
    for program in (Path(os.path.realpath(sys.executable)), REPOSITORY / "vbnfs"):
        for folder in reversed(program.parents):
            if folder not in seen and not folder.stat().st_mode & 0o001:
                seen.add(folder)
                yield folder


class Namespace:
    """The namespace, while entered: everybody can run this vbnfs and use FUSE; /mnt has a few empty folders."""

    def __enter__(self) -> Self:
        folders = [str(folder) for folder in private_folders()]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SETUP, "sh", *folders]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise AssertionError(self._holder.communicate()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run("umount", "--all", "--lazy", "--types", "fuse.vbnfs")
        self._holder.communicate()

    @property
    def path(self) -> str:
        """What `mount -N` wants."""
        return f"/proc/{self._holder.pid}/ns/mnt"

    def run(
        self,
        *command: str,
        folder: str = "/",
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        seconds: float = _TIMEOUT_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there, as root or as a user. The exit status is the caller's to look at."""
        identity = ["--reuid", str(user), "--regid", str(user), "--init-groups", "--reset-env"]
        become = [] if user is None else ["setpriv", *identity, "--"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VBNFS_")}
        return subprocess.run(
            ["nsenter", f"--mount={self.path}", "--", "env", f"--chdir={folder}", *become, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={**kept, **(env or {})},
        )

    def output(
        self, *command: str, folder: str = "/", user: str | None = None, seconds: float = _TIMEOUT_SECONDS
    ) -> str:
        """What a program that must not fail writes to standard output."""
        done = self.run(*command, folder=folder, user=user, seconds=seconds)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def vbnfs(self, *arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run vbnfs there."""
        return self.run(sys.executable, "-m", "vbnfs", *arguments, folder=str(REPOSITORY), user=user)

    def mounts(self) -> list[str]:
        """The mount points of the vbnfs mounts, each as often as something is mounted there."""
        return self.run(
            "findmnt", "--noheadings", "--list", "--types", "fuse.vbnfs", "--output", "TARGET"
        ).stdout.split()
