"""Why the system refuses to mount, from what fusermount3 writes, and what a user can do about it (pure).

The words are those of libfuse's util/fusermount.c. With mount(2) itself the reason is an errno.
"""

import re
from collections.abc import Callable
from typing import Final

PROFILE: Final = "/etc/apparmor.d/fusermount3"

# File systems on which fusermount3 does not mount, in this or that version of it: statfs(2), <linux/magic.h>.
_KINDS: Final = {
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0xAAD7AAEA: "PanFS",
    0x18031977: "WekaFS",
    0x00C36400: "Ceph",
    0xCA451A4E: "bcachefs",
    0x7366746E: "NTFS",
    0x2011BAB0: "exFAT",
    0x00004D44: "FAT",
    0x01021997: "9p, as of Windows' disks in WSL",
    0x858458F6: "ramfs",
    0x73757245: "Coda",
}
_ROOT_MOUNTS: Final = "let root mount ('sudo mount -t vbnfs SOURCE FOLDER', which asks no fusermount3)"
_NO_RIGHT: Final = (
    "this process may not mount: in a container, give it CAP_SYS_ADMIN and /dev/fuse (docker run --cap-add SYS_ADMIN"
    " --device /dev/fuse --security-opt apparmor=unconfined; in Kubernetes: privileged: true), or mount outside of"
    " it; elsewhere fusermount3 must be setuid root, and nothing may set no_new_privs"
)
_LSM: Final = (
    "a security module of the kernel (AppArmor, SELinux) refuses it, and its rule stands in 'dmesg': mount on a"
    f" folder in your home or below /mnt or /tmp, or {_ROOT_MOUNTS}"
)
_APPARMOR: Final = (
    "AppArmor's rule for fusermount3 lets it mount in homes and below /mnt, /media, /tmp and /run/user alone: mount"
    f" on ~/vbn, or {_ROOT_MOUNTS}, or let root add a rule for this folder to"
    " /etc/apparmor.d/local/fusermount3, such as 'mount fstype=fuse.vbnfs options=(nosuid,nodev,ro) -> {folder}/,'"
    f" and 'umount {{folder}}/,', and run 'apparmor_parser -r {PROFILE}'"
)


def remedy_for(reason: str, folder: str, *, has_profile: bool) -> str:
    """What to do about a refusal, as `; ...`; '' if nothing is known. `has_profile`: there is `PROFILE`."""
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, reason):
            text = remedy(match) if callable(remedy) else remedy
            break
    else:
        return ""
    if text is _LSM and has_profile:
        text = _APPARMOR.replace("{folder}", folder)
    return f"; {text}"


def _forbidden(match: re.Match[str]) -> str:
    kind = _KINDS.get(int(match[1], 16))
    what = f" ({kind})" if kind else ""
    return (
        f"fusermount3 has no such file system{what} in its list: mount on a folder of another one, such as"
        f" /tmp/vbn-$USER, and link to it (ln -s), or {_ROOT_MOUNTS}"
    )


_REMEDIES: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"mounting over filesystem type (0x[0-9a-fA-F]+) is forbidden", _forbidden),
    (r"user_allow_other", "let root write the line user_allow_other into /etc/fuse.conf, or leave allow_other out"),
    (r"unknown option\(s\)", "this libfuse does not know the option: leave it out, or mount with --fuse native"),
    (r"unknown option", "this fusermount3 does not know the option: leave it out, or let root mount"),
    (r"mount_max", "unmount others, or let root raise mount_max in /etc/fuse.conf"),
    (r"not owned by user|no write access to mountpoint", "mount on an empty folder of your own, such as ~/vbn"),
    (r"failed to open /dev/fuse: Permission denied", "as root, run: chmod 666 /dev/fuse"),
    (r"failed to open /dev/fuse: Operation not permitted", "in a container, give it the device: --device /dev/fuse"),
    (r"failed to open /dev/fuse|fuse device not found", "load the module with 'modprobe fuse'"),
    (r"(?:mount failed|failed to unmount .*|mount\(2\)): Permission denied", _LSM),
    (r"(?:mount failed|mount\(2\)): Operation not permitted", _NO_RIGHT),
    (r"(?:mount failed|mount\(2\)): No space left", "the system has as many mounts as it allows (fs.mount-max)"),
    (r"(?:mount failed|mount\(2\)): No such device", "load the module with 'modprobe fuse'"),
)
