"""A small Debian with systemd as its first process, in namespaces: for what only a running systemd can show.

Nothing of the machine's own can be changed from within: /dev is a private one, /proc/sys and /sys are read-only, and
so are this repository and its Python, which the guest sees at the same paths. It has the machine's network.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.children import children_of
from tests.fixtures_mount import until
from tests.mount_namespaces import NO_MOUNTS

REPOSITORY = Path(__file__).parents[3]
VBNFS = str(Path(sys.executable).parent / "vbnfs")
USER = "somebody"
USER_ID = 4711
DEBIAN = REPOSITORY / ".debian" / "root.tar"  # a root folder, as `script/setup all` has made it
_TIMEOUT_SECONDS = 120
_UMASK = 0o022  # whatever that of the tests is: everybody in there is to reach its folders
_BOOT = (
    f"set -eu\nmount --make-rprivate /\n{NO_MOUNTS}\n"
    + r"""
lower=$1 work=$2; shift 2
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"

mount -t tmpfs -o mode=755 tmpfs dev
node() { mknod -m "$2" "dev/$1" c "$3" "$4"; }
node null 666 1 3; node zero 666 1 5; node full 666 1 7; node random 666 1 8; node urandom 666 1 9
node tty 666 5 0; node fuse 666 10 229; node autofs 600 10 235
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 tmpfs run

chmod 755 root
for folder in "$@"; do  # read-only: what systemd cleans up at boot is the guest's
    mkdir -p ".$folder"
    mount --bind "$folder" ".$folder"
    mount -o remount,bind,ro ".$folder"
done
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-sysctl.service systemd-udevd.service \
    systemd-udev-trigger.service systemd-modules-load.service systemd-random-seed.service apt-daily.timer \
    apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer console-getty.service getty.target; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
echo somebody:x:4711:4711::/home/somebody:/bin/sh >>etc/passwd
echo somebody:x:4711: >>etc/group
echo 'somebody:*:20000:0:99999:7:::' >>etc/shadow  # PAM wants it
mkdir -p home/somebody/.config mnt/vbn mnt/auto
chown -R 4711:4711 home/somebody
mkdir old
pivot_root . old
umount -l /old
exec env -i container=x /sbin/init </dev/null >/dev/null 2>&1
"""
)


def make_root(folder: Path) -> Path:
    """A minimal Debian (or Ubuntu) of this machine's release, which `script/setup all` has made."""
    assert DEBIAN.exists(), f"{DEBIAN} is missing: run script/setup all"
    folder.mkdir()
    command = ["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--strip-components=1"]
    subprocess.run([*command, f"--directory={folder}", f"--file={DEBIAN}"], check=True)
    return folder


class Guest:
    """The system, while entered, booted from a root folder that it does not change."""

    def __init__(self, root: Path, work: Path) -> None:
        self._root = root
        self._work = work

    def __enter__(self) -> Self:
        self._work.mkdir()
        spaces = ["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        python = Path(sys.base_prefix)
        folders = [str(REPOSITORY), *([] if python.is_relative_to("/usr") else [str(python)])]
        self._process = subprocess.Popen(
            ["unshare", *spaces, "sh", "-c", _BOOT, "sh", str(self._root), str(self._work), *folders],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            umask=_UMASK,
        )
        try:
            until(self._has_booted, seconds=60)
        except BaseException:
            if self._process.poll() is None:
                print(self.run("journalctl", "--no-pager", "-n50").stdout)
            self._end()
            raise
        return self

    def _has_booted(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(self._process.communicate()[1])
        return self.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process.poll() is None:
            os.kill(self._first_process(), signal.SIGKILL)  # and with it every process of the guest
            self._process.communicate()

    def _first_process(self) -> int:
        return next(iter(children_of(self._process.pid)), -1)

    def run(self, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in the guest, outside of all units. The exit status is the caller's to look at."""
        identity = ["--reuid", str(user), "--regid", str(user), "--init-groups"]
        become = [] if user is None else ["setpriv", *identity, "--"]
        home = "/root" if user is None else f"/home/{user}"
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = ["env", "-i", path, f"HOME={home}", f"XDG_RUNTIME_DIR=/run/user/{USER_ID}"]
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        return subprocess.run(
            ["nsenter", f"--target={self._first_process()}", *spaces, "--", *clean, *become, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )

    def output(self, *command: str, user: str | None = None) -> str:
        """What a program that must not fail writes to standard output."""
        done = self.run(*command, user=user)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}{self.run('journalctl', '-n50').stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file of the guest."""
        self.output("sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", path, text)

    def shows(self, unit: str, key: str, *, user: str | None = None) -> str:
        """A property of a unit."""
        manager = [] if user is None else ["--user"]
        return self.output("systemctl", *manager, "show", "--value", "--property", key, unit, user=user).strip()

    def mounts(self) -> list[str]:
        """The mount points of vbnfs mounts, each as often as something is mounted there."""
        return self.run("findmnt", "-n", "--list", "--types", "fuse.vbnfs", "--output", "TARGET").stdout.split()
