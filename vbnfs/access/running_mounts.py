"""Asking a mount: its owner and root by its control socket, of which daemon/control.py is the answering end.

Users who only read a mount ask by an extended attribute of its top folder, which the kernel gives to readers alone.

The mount's list in the kernel has the number of its FUSE connection, and the socket's name has it, too: no call
touches the mount, so that one which hangs can be asked about.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vbnfs import __version__
from vbnfs.config.settings import Config
from vbnfs.errors import MountError
from vbnfs.host import peers
from vbnfs.host.apart import read_attribute
from vbnfs.host.identity import our_uid, user_name, user_or_root
from vbnfs.host.mount_programs import is_alive
from vbnfs.host.mountinfo import MountEntry, all_mounts, is_made_by_a_user, mount_holding
from vbnfs.host.runtime import find_socket, socket_paths

_DATASET: Final = ("bucket", "project", "endpoint_url")
READERS_STATUS: Final = "user.vbnfs.status"  # of the top folder: filesystem/operations.py
UNKNOWN_COMMAND: Final = "commands are:"  # the answer's error for a command that a daemon does not know
_MAX_ANSWER_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 10.0  # for question and answer together
_LEAST_SECONDS: Final = 0.5  # to find out whether a mount is dead
_AGAIN_SECONDS: Final = 0.05
_LONGEST_REASON: Final = 1000  # characters


def ask(entry: MountEntry, command: str) -> dict[str, Any]:
    """Ask a mount's daemon. Raises `MountError` if it does not answer in time, or reports a failure."""
    return ask_of(entry, command)[0]


def ask_of(entry: MountEntry, command: str, *, seconds: float = ANSWER_SECONDS) -> tuple[dict[str, Any], int]:
    """`ask`, and which process answers, 0 if that cannot be seen from here. The answer may be any JSON object."""
    path, end = _socket_of(entry), time.monotonic() + seconds
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            within = _Deadline(connection, end)
            within.connect(path)
            peer = peers.peer_of(connection)
            if peer.uid not in {entry.owner, 0}:
                raise MountError(f"{entry.mountpoint}: at its control socket {path} somebody else answers")
            within.send(json.dumps({"command": command}).encode() + b"\n")
            answer = json.loads(within.line())
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError) as error:
        reason = "its daemon is gone; 'vbnfs mount' mounts it anew, 'vbnfs umount' clears it"
        if is_alive(entry.mountpoint, seconds=_left(end)):
            has_ended = isinstance(error, ConnectionResetError)  # the daemon has ended the connection, and lives
            reason = "its daemon does not answer" if has_ended else f"it works, but its control socket {path} is gone"
        raise MountError(f"{entry.mountpoint}: {reason}") from error
    except PermissionError as error:
        who = user_or_root(entry.owner)
        raise MountError(
            f"{entry.mountpoint}: mounted by {user_name(entry.owner)}: {who} can ask for that;"
            " 'vbnfs status' and 'getfattr -d FILE' answer all who can read it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error}") from error
    if not isinstance(answer, dict):
        raise MountError(f"{entry.mountpoint}: its daemon's answer is none")
    if answer.pop("ok", None) is not True:
        raise refusal_of(entry, command, answer)
    return answer, peer.pid


def refusal_of(entry: MountEntry, command: str, answer: Mapping[str, Any]) -> MountError:
    """What it means that a daemon answers a command with an error."""
    reason = " ".join(str(answer.get("error")).split())  # one line: it may be made up to look like others
    if reason.startswith(UNKNOWN_COMMAND):
        return MountError(
            f"{entry.mountpoint}: its daemon is of an older vbnfs than {__version__} and does not know"
            f" {command!r}; unmount it and mount it again"
        )
    return MountError(f"{entry.mountpoint}: {reason[:_LONGEST_REASON]}")


def ask_as_reader(entry: MountEntry, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """What a mount of another user reports to all who can read it. Raises `MountError` to those who cannot."""
    whose, who, end = user_name(entry.owner), user_or_root(entry.owner), time.monotonic() + seconds
    try:
        answer = json.loads(read_attribute(entry.mountpoint, READERS_STATUS, seconds=seconds))
    except PermissionError as error:
        raise MountError(
            f"{entry.mountpoint}: mounted by {whose}, and not open to you; {who} can mount it with allow_other, or"
            " for a group of yours with gid= and umask=, too"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        if not is_alive(entry.mountpoint, seconds=_left(end)):
            raise MountError(f"{entry.mountpoint}: its daemon is gone; {who} can mount it anew") from error
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error}") from error
    if not isinstance(answer, dict):
        raise MountError(f"{entry.mountpoint}: its daemon's answer is none")
    return answer


def shows_dataset_of(status: Mapping[str, Any], config: Config) -> bool:
    """Whether a mount with this status has the dataset of a configuration, from the same server."""
    return all(name in status and status[name] == getattr(config, name) for name in _DATASET)


def daemon_of(entry: MountEntry) -> int:
    """The process that serves a mount, as the kernel has it: no answer is waited for. 0 if that is not known."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _Deadline(connection, time.monotonic() + ANSWER_SECONDS).connect(_socket_of(entry))
            peer = peers.peer_of(connection)
    except (OSError, MountError):
        return 0
    return peer.pid if peer.uid in {entry.owner, 0} else 0


def _socket_of(entry: MountEntry) -> Path:
    """The path of a mount's control socket. Raises `MountError` where looking for it could hang.

    The folder is the mount's owner's, who can mount a file system there that does not answer.
    """
    mounts = all_mounts() if entry.owner != our_uid() else []
    for path in socket_paths(entry.owner, entry.device):
        disk = mount_holding(path, mounts)
        if disk is not None and is_made_by_a_user(disk):
            kind = disk.file_system_type
            raise MountError(f"{entry.mountpoint}: its control socket would be on a {kind} of its owner's: {path}")
    return find_socket(entry.owner, entry.device)


def _left(end: float) -> float:
    return max(_LEAST_SECONDS, end - time.monotonic())


class _Deadline:
    """A connection on which all has to have happened by `end`, as time.monotonic() has it. Raises `OSError`."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection = connection
        self._end = end

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
        """What comes up to the end of a line, or as long as it may be. Raises `OSError` also where nothing comes."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MAX_ANSWER_BYTES:
            self._set()
            piece = self._connection.recv(_PIECE_BYTES)
            if not piece and not line:
                raise ConnectionAbortedError("it closed the connection, as it does when it ends; try again")
            if not piece:
                break
            line += piece
        return bytes(line)

    def _set(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
