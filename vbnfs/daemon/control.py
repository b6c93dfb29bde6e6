"""The answering end of a mount's control socket: one question as a line of JSON, one answer as a line of JSON.

    {"command": "status"}   -> {"ok": true, ...}           what `vbnfs status` shows
    {"command": "figures"}  -> {"ok": true, ...}           what `vbnfs top` shows
    {"command": "refresh"}  -> {"ok": true, "new": [...]}  ask for new dataset versions now
    anything else           -> {"ok": false, "error": "..."}

There is one work that takes long, and is asked for with values: `fill` (daemon/filling.py). It answers with several
lines, and ends when the asker goes away.

The asking end is access/running_mounts.py; where sockets are is in host/runtime.py.
"""

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.access.running_mounts import UNKNOWN_COMMAND
from vbnfs.daemon.accepting import accept_each
from vbnfs.errors import MountError
from vbnfs.host import peers
from vbnfs.host.runtime import make_runtime_directory
from vbnfs.logs import WarnOnce

log = structlog.get_logger()

_MAX_LINE_BYTES: Final = 64 << 10
_TIMEOUT_SECONDS: Final = 10.0  # for question and answer together
_QUESTION_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0  # whether the socket is there
_MOST_ASKERS: Final = 16  # at the same time; others wait, and take nothing of the daemon's meanwhile

Command = Callable[[], Awaitable[Mapping[str, Any]]]
Report = Callable[[Mapping[str, Any]], Awaitable[None]]  # how far a work is
Work = Callable[[Mapping[str, Any], Report], Awaitable[Mapping[str, Any]]]  # takes the question, and reports


async def keep_serving(
    place: Callable[[], Path], commands: Mapping[str, Command], works: Mapping[str, Work] | None = None
) -> None:
    """Answer until cancelled, at the path that `place` gives: where a socket goes away, it is made again.

    /run/user/UID is emptied when its user logs out, and mounts stay. Then the place is another one.
    """
    warn_once = WarnOnce()
    while True:
        try:
            await serve(place(), commands, works)
        except (OSError, MountError) as error:
            warn_once("no control socket: 'vbnfs status' will not reach this mount", reason=str(error))
        await trio.sleep(_LOOK_SECONDS)


async def serve(
    path: Path,
    commands: Mapping[str, Command],
    works: Mapping[str, Work] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at `path` until cancelled, or until the socket is not there any more. It is removed at the end."""
    make_runtime_directory()
    path.unlink(missing_ok=True)
    listener, made = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), None
    try:
        await listener.bind(str(path))
        path.chmod(0o600)
        made = path.lstat()
        listener.listen(_MOST_ASKERS)
        task_status.started()
        async with trio.open_nursery() as answering:
            answering.start_soon(_answer_all, trio.SocketListener(listener), commands, works or {})
            await _until_gone(path, made)
            answering.cancel_scope.cancel()
    finally:
        listener.close()
        with suppress(OSError):
            if made is not None and _is_there(path, made):  # and not the socket of a later mount
                path.unlink()


async def _until_gone(path: Path, made: os.stat_result) -> None:
    while True:
        if not _is_there(path, made):
            return
        await trio.sleep(_LOOK_SECONDS)


def _is_there(path: Path, made: os.stat_result) -> bool:
    try:
        return os.path.samestat(made, path.lstat())
    except OSError:
        return False


async def _answer_all(
    listener: trio.SocketListener, commands: Mapping[str, Command], works: Mapping[str, Work]
) -> None:
    places = trio.Semaphore(_MOST_ASKERS)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                begun = await _answer(stream, commands, works)
            finally:
                places.release()
            if begun is not None:
                await _do(stream, *begun)

    await accept_each(listener, places, answer, what="control")


async def _answer(
    stream: trio.SocketStream, commands: Mapping[str, Command], works: Mapping[str, Work]
) -> tuple[Work, Mapping[str, Any]] | None:
    """Answer a question; the work that it asks for, and the question, where it asks for one."""
    peer = peers.peer_of(stream.socket)
    if peer.uid not in {os.getuid(), 0}:
        log.warning("control: another user asks, and is not answered", uid=peer.uid)
        return None
    with trio.move_on_after(_TIMEOUT_SECONDS):
        try:
            with trio.fail_after(_QUESTION_SECONDS):
                line = await _line(stream)
            if (begun := _work_of(line, works)) is not None:
                return begun
            reply = await _reply(line, commands)
            await stream.send_all(json.dumps(reply).encode() + b"\n")
        except (trio.BrokenResourceError, trio.TooSlowError):
            log.debug("control: the asker went away, or asks too slowly")
    return None


def _work_of(line: bytes, works: Mapping[str, Work]) -> tuple[Work, Mapping[str, Any]] | None:
    try:
        question = json.loads(line)
        return works[question["command"]], question
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


async def _do(stream: trio.SocketStream, work: Work, question: Mapping[str, Any]) -> None:
    """Do a work for as long as the asker is there, and takes what is reported."""

    async def report(values: Mapping[str, Any]) -> None:
        with trio.fail_after(_TIMEOUT_SECONDS):
            await stream.send_all(json.dumps({"ok": True, **values}).encode() + b"\n")

    async def end_with_asker() -> None:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(_MAX_LINE_BYTES):
                pass
        working.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as working:
            working.start_soon(end_with_asker)
            await report(await work(question, report))
            working.cancel_scope.cancel()
    except* (trio.BrokenResourceError, trio.TooSlowError):
        log.debug("control: the asker of a work went away")
    except* Exception as group:
        log.warning("control: a work failed", command=question["command"], reason=str(group.exceptions[0]))
        with suppress(trio.BrokenResourceError):
            error = {"ok": False, "error": str(group.exceptions[0])}
            await stream.send_all(json.dumps(error).encode() + b"\n")


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
        return {"ok": False, "error": f"{UNKNOWN_COMMAND} {', '.join(sorted(commands))}"}
    try:
        return {"ok": True, **await command()}
    except Exception as error:
        log.exception("control command failed", command=question["command"])
        return {"ok": False, "error": str(error) or repr(error)}
