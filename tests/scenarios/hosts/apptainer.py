"""`apptainer exec --fusemount SPEC IMAGE COMMAND...`, as Apptainer 1.4 does it for users, in a user namespace.

Its sources say how (internal/pkg/runtime/engine/apptainer: `addFuseMount` in container_linux.go, `runFuseDrivers`
and `stopFuseDrivers` in process_linux.go). SPEC is `TYPE:PROGRAM ARGUMENT... MOUNTPOINT`. In namespaces of the
container (user, mount, pid) /dev/fuse is opened, mounted as the type `fuse` on a folder of the session, and bound
to MOUNTPOINT. PROGRAM gets `/dev/fd/3` in the place of MOUNTPOINT, and then `-f`, unless TYPE ends with `-daemon`.
It runs in the container (`container`) or outside of it (`host`). In the foreground COMMAND does not wait for it;
behind COMMAND it is ended by SIGTERM. The image is here the host's own root, with an empty folder MOUNTPOINT.

The program `apptainer` runs this file. It imports nothing that a bare Python lacks.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_NEW_NAMESPACES = 0x00020000 | 0x10000000 | 0x20000000  # CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID: sched.h
_NOSUID_NODEV, _BIND, _RECURSIVE, _SLAVE = 2 | 4, 4096, 16384, 1 << 19  # sys/mount.h
_FOR_PROGRAM = 3
_ROOT, _SESSION = Path("/mnt/root"), "/.session"
libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Fuse:
    """What a SPEC says."""

    is_host: bool
    is_daemon: bool
    program: list[str]
    mountpoint: str

    @classmethod
    def parse(cls, spec: str) -> "Fuse":
        """The words of it; SetFuseMount in pkg/runtime/engine/apptainer/config/config.go."""
        kind, _, command = spec.partition(":")
        *program, mountpoint = command.split()
        assert kind in {"container", "container-daemon", "host", "host-daemon"}, kind
        return cls(kind.startswith("host"), kind.endswith("-daemon"), program, mountpoint)

    def start(self, device: int) -> "subprocess.Popen[bytes] | None":
        """Run the program with the device as descriptor 3; one in the background has gone there when this returns."""
        command = [*self.program, f"/dev/fd/{_FOR_PROGRAM}", *([] if self.is_daemon else ["-f"])]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[_FOR_PROGRAM],  # whatever it is here
            preexec_fn=lambda: os.dup2(device, _FOR_PROGRAM) and None,  # noqa: PLW1509 - this process has one thread
        )
        os.close(device)
        if not self.is_daemon:
            return process
        if process.wait() != 0:
            raise SystemExit(f"could not start program {command}")
        return None


def stop(driver: "subprocess.Popen[bytes] | None") -> None:
    """End a program in the foreground, and say how it ended."""
    if driver is not None:
        driver.send_signal(signal.SIGTERM)
        print(f"FUSE process ended: {driver.wait()}", file=sys.stderr)


def check(result: int) -> None:
    """Raise what a system call failed with."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str | Path, kind: str, flags: int, data: str = "") -> None:
    """Have the kernel mount something."""
    check(libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()))


def enter_namespaces() -> None:
    """Enter namespaces of the user's, who keeps the same ids. The next child is the container's first process."""
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(_NEW_NAMESPACES))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enter_image(image: str, mountpoint: str) -> None:
    """Make the image's folder a root with all that the host has, the folder to mount on, and one for the session."""
    mount("none", "/", "", _RECURSIVE | _SLAVE)
    mount("tmpfs", image, "tmpfs", 0)
    for entry in [one for one in os.scandir("/") if one.is_dir()]:
        target = Path(image, entry.name)
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
        else:
            target.mkdir()
            mount(entry.path, target, "", _BIND | _RECURSIVE)
    os.chroot(image)
    for folder in (mountpoint, _SESSION):
        Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir("/")


def mount_fuse(mountpoint: str) -> int:
    """Mount on a folder of the session, and bind that; return the descriptor of /dev/fuse."""
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    mount("fuse", _SESSION, "fuse", _NOSUID_NODEV, data)
    mount(_SESSION, mountpoint, "", _BIND)
    return device


def be_the_container(fuse: Fuse, image: str, command: list[str], link: socket.socket) -> int:
    """What the first process of the container does, until the command has ended; return its status."""
    enter_image(image, fuse.mountpoint)
    device = mount_fuse(fuse.mountpoint)
    if fuse.is_host:
        socket.send_fds(link, [b"device"], [device])
        os.close(device)
        link.recv(1)  # the program outside was started
        driver = None
    else:
        driver = fuse.start(device)
    status = subprocess.run(command, check=False).returncode
    stop(driver)
    return status


def be_the_master(fuse: Fuse, link: socket.socket, container: int) -> int:
    """What the process outside of the container does meanwhile."""
    driver = None
    if fuse.is_host:
        _, [device], _, _ = socket.recv_fds(link, 16, 1)
        driver = fuse.start(device)
        link.send(b"1")
    status = os.waitstatus_to_exitcode(os.waitpid(container, 0)[1])
    stop(driver)
    return status


def main() -> int:
    """Run a command in a container."""
    _, word, option, spec, image, *command = sys.argv
    assert (word, option) == ("exec", "--fusemount")
    fuse = Fuse.parse(spec)
    outside, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    container = os.fork()
    if container:
        inside.close()
        return be_the_master(fuse, outside, container)
    outside.close()
    enter_namespaces()
    first = os.fork()
    if first == 0:
        os._exit(be_the_container(fuse, image, command, inside))
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
