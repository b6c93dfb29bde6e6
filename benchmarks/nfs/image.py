"""The disks of the machines: a small Debian with a kernel, and vbnfs with what it needs."""

import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
_KEPT: Final = REPOSITORY / ".machines"  # 700 MB, made once
_PACKAGES: Final = (
    "python3,fuse3,nfs-common,nfs-kernel-server,linux-image-cloud-amd64,kmod,procps,iproute2,initramfs-tools"
)
_ROOT_BYTES: Final = 2 << 30
_PROGRAM_BYTES: Final = 400 << 20
_INIT: Final = r"""#!/bin/sh
# The first process of a machine: its network, its modules, and an agent that runs commands.
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /program; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
modprobe -a virtio_net virtio_blk ext4 fuse nfs nfsv4
chmod 666 /dev/fuse
for word in $(cat /proc/cmdline); do case $word in machine=*) hostname "${word#machine=}" ;; esac; done
ip link set lo up; ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
mount -o ro /dev/vdb /program
exec /usr/bin/python3 /program/agent.py
"""


@dataclass(frozen=True)
class Image:
    """What a machine boots from."""

    kernel: Path
    initrd: Path
    root: Path


def make_image() -> Image:
    """The Debian, made if need be: some minutes, and the network is asked. Needs root."""
    release = subprocess.check_output(
        ["sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"'], text=True
    ).strip()
    wanted = f"{release} {_PACKAGES}\n{_INIT}"
    made = _KEPT / "made"
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(_KEPT, ignore_errors=True)
        _KEPT.mkdir()
        root = _KEPT / "root"
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", release, root], check=True)
        add_init(root)
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), _KEPT / "vmlinuz")
        shutil.copy(next((root / "boot").glob("initrd.img-*")), _KEPT / "initrd")
        make_disk(_KEPT / "root.img", _ROOT_BYTES, root)
        shutil.rmtree(root)
        made.write_text(wanted)
    return Image(_KEPT / "vmlinuz", _KEPT / "initrd", _KEPT / "root.img")


def add_init(root: Path) -> None:
    """Give a root folder its first program, and two users."""
    init = root / "sbin" / "machine"
    init.write_text(_INIT)
    init.chmod(0o755)
    for name, number in (("one", 1000), ("two", 1001)):
        with open(root / "etc/passwd", "a") as file:
            file.write(f"{name}:x:{number}:{number}::/home/{name}:/bin/sh\n")
        (root / "home" / name).mkdir()
        shutil.chown(root / "home" / name, number, number)
        (root / "home" / name).chmod(0o700)


def make_disk(path: Path, count_bytes: int, contents: Path | None = None) -> None:
    """A disk with an ext4 on it, which holds a folder's contents."""
    with path.open("wb") as file:
        file.truncate(count_bytes)
    more = [] if contents is None else ["-d", str(contents)]
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", *more, str(path)], check=True)


def make_program(folder: Path) -> Path:
    """A disk with vbnfs as it is here, the libraries that it needs, and the machines' agent."""
    contents = folder / "program"
    contents.mkdir()
    for name in sorted(_needed("vbnfs")):
        _copy_distribution(name, contents)
    shutil.copytree(REPOSITORY / "vbnfs", contents / "vbnfs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("agent.py"), contents / "agent.py")
    subprocess.run(["python3", "-m", "compileall", "-q", str(contents)], check=False)
    disk = folder / "program.img"
    make_disk(disk, _PROGRAM_BYTES, contents)
    shutil.rmtree(contents)
    return disk


def _needed(name: str) -> set[str]:
    """The distributions that one needs, itself not among them."""
    found: set[str] = set()
    left = [name]
    while left:
        for needed in _requirements(left.pop()):
            if needed not in found:
                found.add(needed)
                left.append(needed)
    return found - {name}


def _requirements(name: str) -> Iterator[str]:
    try:
        requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # for another system
        return
    for line in requires:
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line)):
            yield match[0].lower().replace("_", "-")


def _copy_distribution(name: str, to: Path) -> None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    for file in distribution.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = to / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(distribution.locate_file(file), target)
