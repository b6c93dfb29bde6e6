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
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
import trio

from vbnfs.errors import MountError
from vbnfs.host.mount_programs import is_alive
from vbnfs.host.mountinfo import MountEntry

log = structlog.get_logger()

_MAX_LINE_BYTES: Final = 64 << 10
_MAX_ANSWER_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 64 << 10
_TIMEOUT_SECONDS: Final = 10.0  # for question and answer together
_QUESTION_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.05
_MOST_ASKERS: Final = 16  # at the same time; others wait, and take nothing of the daemon's meanwhile

_LONGEST_REASON: Final = 1000
_UCRED_BYTES: Final = 12  # pid, uid and gid, of 4 bytes each

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
        listener.listen(_MOST_ASKERS)
        task_status.started()
        await _answer_all(trio.SocketListener(listener), commands)
    finally:
        listener.close()
        with suppress(OSError):
            if made is not None and os.path.samestat(made, path.lstat()):  # and not that of whoever mounted since
                path.unlink()


async def _answer_all(listener: trio.SocketListener, commands: Mapping[str, Command]) -> None:
    places = trio.Semaphore(_MOST_ASKERS)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await _answer(stream, commands)
        finally:
            places.release()

    async with trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:  # no descriptor left
                places.release()
                log.debug("control: nobody can ask now", reason=str(error))
                await trio.sleep(_AGAIN_SECONDS)
            else:
                nursery.start_soon(answer, stream)


async def _answer(stream: trio.SocketStream, commands: Mapping[str, Command]) -> None:
    if peer_of(stream.socket).uid not in {os.getuid(), 0}:
        log.warning("control: somebody else asks, and is not answered", uid=peer_of(stream.socket).uid)
        return
    with trio.move_on_after(_TIMEOUT_SECONDS):
        try:
            with trio.fail_after(_QUESTION_SECONDS):
                line = await _line(stream)
            reply = await _reply(line, commands)
            await stream.send_all(json.dumps(reply).encode() + b"\n")
        except (trio.BrokenResourceError, trio.TooSlowError):
            log.debug("control: the asker went away, or asks too slowly")


class Peer(NamedTuple):
    """Who is at the other end of a Unix socket; `pid` is 0 if it cannot be seen from here."""

    pid: int
    uid: int


def peer_of(connection: "socket.socket | trio.socket.SocketType") -> Peer:
    """Who connected or, of a connection that was made from here, who listens: SO_PEERCRED, unix(7)."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED_BYTES)
    return Peer(int.from_bytes(told[:4], sys.byteorder), int.from_bytes(told[4:8], sys.byteorder))


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
    return ask_of(entry, command)[0]


def ask_of(entry: MountEntry, command: str) -> tuple[dict[str, Any], int]:
    """`ask`, and which process answers, 0 if that cannot be seen from here. The answer may be any JSON object."""
    path = _found(entry.owner, entry.device)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            within = _Deadline(connection)
            within.connect(path)
            peer = peer_of(connection)
            if peer.uid not in {entry.owner, 0}:
                raise MountError(f"{entry.mountpoint}: at its control socket {path} somebody else answers")
            within.send(json.dumps({"command": command}).encode() + b"\n")
            answer = json.loads(within.line())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        told = "its daemon is gone; 'vbnfs mount' mounts it anew, 'vbnfs umount' clears it"
        if is_alive(entry.mountpoint):
            told = f"it works, but its control socket {path} is gone"
        raise MountError(f"{entry.mountpoint}: {told}") from error
    except PermissionError as error:
        raise MountError(
            f"{entry.mountpoint}: only user {entry.owner}, who mounted it, and root can ask it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error}") from error
    if not isinstance(answer, dict):
        raise MountError(f"{entry.mountpoint}: its daemon's answer is none")
    if answer.pop("ok", None) is not True:
        reason = " ".join(str(answer.get("error")).split())  # one line: it may be made up to look like others
        raise MountError(f"{entry.mountpoint}: {reason[:_LONGEST_REASON]}")
    return answer, peer.pid


def daemon_of(entry: MountEntry) -> int:
    """The process that serves a mount, as the kernel has it: no answer is waited for. 0 if that is not known."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _Deadline(connection).connect(_found(entry.owner, entry.device))
            peer = peer_of(connection)
    except OSError:
        return 0
    return peer.pid if peer.uid in {entry.owner, 0} else 0


class _Deadline:
    """A connection on which all together takes some seconds at most. Raises `OSError`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end = time.monotonic() + _TIMEOUT_SECONDS

    def connect(self, path: Path) -> None:
        """Also where others queue for it."""
        while True:
            self._set()
            try:
                return self._connection.connect(os.fsencode(path))
            except BlockingIOError:  # the queue is full, unix(7)
                time.sleep(_AGAIN_SECONDS)

    def send(self, data: bytes) -> None:
        """All of it."""
        self._set()
        self._connection.sendall(data)  # whose timeout is for all of it

    def line(self) -> bytes:
        """What comes up to the end of a line, or as long as it may be."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MAX_ANSWER_BYTES:
            self._set()
            piece = self._connection.recv(_PIECE_BYTES)
            if not piece:
                break
            line += piece
        return bytes(line)

    def _set(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
