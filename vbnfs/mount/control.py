"""The control socket of a mount: one question as a line of JSON, one answer as a line of JSON.

    {"command": "status"}   -> {"ok": true, ...}        what `vbnfs status` shows
    {"command": "refresh"}  -> {"ok": true, "new": [...]}  look for new dataset versions now
    anything else           -> {"ok": false, "error": "..."}

The socket's name has the number of the mount's FUSE connection, which mountinfo tells: nobody has to touch the
mount to find its socket. It stands in a folder of its owner's own (0700).
"""

import json
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.errors import MountError
from vbnfs.mount.mountpoint import MountEntry, is_alive

log = structlog.get_logger()

_MAX_LINE_BYTES: Final = 64 << 10
_MAX_ANSWER_BYTES: Final = 4 << 20
_TIMEOUT_SECONDS: Final = 10.0

Command = Callable[[], Awaitable[Mapping[str, Any]]]


def runtime_directory(owner: int) -> Path:
    """The folder of a user's sockets: below /run for those who have a place there now, else below /tmp."""
    *places, last = _places(owner)
    return next((place for place in places if _is_at_hand(place, owner)), last)


def _is_at_hand(place: Path, owner: int) -> bool:
    """Whether a user's sockets can be there; of root in a user namespace, /run is somebody else's."""
    if owner != os.geteuid():
        return place.parent.is_dir()
    if place.is_dir():
        return place.stat().st_uid == owner
    return os.access(place.parent, os.W_OK)


def _places(owner: int) -> list[Path]:
    if owner == 0:
        return [Path("/run/vbnfs"), Path("/tmp/vbnfs-0")]
    return [Path(f"/run/user/{owner}/vbnfs"), Path(f"/tmp/vbnfs-{owner}")]


def socket_path(owner: int, device: str) -> Path:
    """The socket of the mount with this device (`major:minor`), if it were made now."""
    return runtime_directory(owner) / f"{device.replace(':', '-')}.sock"


def _found(owner: int, device: str) -> Path:
    """The socket of a mount: /run/user/UID comes and goes with its user's sessions, and mounts stay."""
    expected = socket_path(owner, device)
    paths = [expected, *(place / expected.name for place in _places(owner))]
    return next((path for path in paths if os.path.lexists(path)), expected)


def make_runtime_directory() -> Path:
    """Our own folder for sockets. Raises `MountError` if somebody else holds it."""
    directory = runtime_directory(os.getuid())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise MountError(f"{directory}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise MountError(f"{directory}: not a folder of yours alone (mode 0700); remove it or mend its mode")
    return directory


async def serve(
    path: Path, commands: Mapping[str, Command], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer at `path`, for ever; the socket is removed at the end."""
    make_runtime_directory()
    path.unlink(missing_ok=True)
    listener, made = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), None
    try:
        await listener.bind(str(path))
        path.chmod(0o600)
        made = path.lstat()
        listener.listen(16)

        async def answer(stream: trio.SocketStream) -> None:
            if peer_of(stream.socket) not in {os.getuid(), 0}:
                log.warning("control: somebody else asks, and is not answered", uid=peer_of(stream.socket))
                return
            with trio.move_on_after(_TIMEOUT_SECONDS):
                try:
                    reply = await _reply(await _line(stream), commands)
                    await stream.send_all(json.dumps(reply).encode() + b"\n")
                except trio.BrokenResourceError:
                    log.debug("control: the asker went away")

        task_status.started()
        await trio.serve_listeners(answer, [trio.SocketListener(listener)])
    finally:
        listener.close()
        with suppress(OSError):
            if made is not None and os.path.samestat(made, path.lstat()):  # and not that of whoever mounted since
                path.unlink()


def peer_of(connection: "socket.socket | trio.socket.SocketType") -> int:
    """The user at the other end of a Unix socket: SO_PEERCRED, unix(7), a struct ucred of pid, uid and gid."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(told[4:8], sys.byteorder)


async def _line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
        piece = await stream.receive_some(_MAX_LINE_BYTES)
        if not piece:
            break
        line += piece
    return line


async def _reply(line: bytes, commands: Mapping[str, Command]) -> Mapping[str, Any]:
    try:
        question = json.loads(line)
        command = commands[question["command"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"ok": False, "error": f"commands are: {', '.join(sorted(commands))}"}
    try:
        return {"ok": True, **await command()}
    except Exception as error:
        log.exception("control command failed", command=question["command"])
        return {"ok": False, "error": str(error) or repr(error)}


def ask(entry: MountEntry, command: str) -> dict[str, Any]:
    """Ask a mount's daemon. Raises `MountError` if it does not answer in time, or not well."""
    path = _found(entry.owner, entry.device)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(path))
            if peer_of(connection) not in {entry.owner, 0}:
                raise MountError(f"{entry.mountpoint}: at its control socket {path} somebody else answers")
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            with connection.makefile("rb") as file:
                answer = json.loads(file.readline(_MAX_ANSWER_BYTES))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        told = "its daemon is gone; 'vbnfs mount' mounts it anew, 'vbnfs umount' clears it"
        if is_alive(entry.mountpoint):
            told = f"it works, but its control socket {path} is gone"
        raise MountError(f"{entry.mountpoint}: {told}") from error
    except PermissionError as error:
        raise MountError(
            f"{entry.mountpoint}: only user {entry.owner}, who mounted it, and root can ask it"
        ) from error
    except (OSError, ValueError) as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error}") from error
    if not isinstance(answer, dict) or not answer.pop("ok", False):
        raise MountError(f"{entry.mountpoint}: {answer.get('error') if isinstance(answer, dict) else answer!r}")
    return answer
