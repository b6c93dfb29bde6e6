"""The processes behind a mount: in the terminal, or in the background.

`vbnfs mount` forks: the child becomes the daemon, the parent waits at a pipe for the word that the tree can be
listed, or for the reason why not. The child leaves the terminal's session only after the mount is made: an
automounter waits for the session that asked. If the parent is interrupted or ends while it waits, so does the child:
it sees that nobody reads the pipe any more.
"""

import io
import json
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs import errors
from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.waiting import WAITING_SECONDS
from vbnfs.config.environment import load_supervisor
from vbnfs.config.settings import Config
from vbnfs.daemon.machine import check_machine, no_log, problems_of_the_machine, within_the_machine
from vbnfs.daemon.mount import END_SECONDS, Announce, Ready, serve
from vbnfs.daemon.readers import check_readers
from vbnfs.daemon.systemd import SystemdNotifier
from vbnfs.errors import MountError, VbnfsError, root_error
from vbnfs.host import descriptors
from vbnfs.host.mountinfo import descriptor_in
from vbnfs.host.private import keep_others_out
from vbnfs.host.processes import name_this_process
from vbnfs.logs import configure_logging

log = structlog.get_logger()

_NAME: Final = "vbnfs"
_END_SECONDS: Final = 5.0
_LIMITED: Final = (
    "no more memory, threads or processes: raise the limits (ulimit -u, -v, -d; the cgroup's memory and pids)"
)
_NOT_WANTED: Final = "the command that asked for the mount has gone"


def run_in_foreground(config: Config, mountpoint: Path, announce: Announce, say_waiting: Callable[[], None]) -> None:
    """Be the daemon in this process until it is unmounted. Raises a `VbnfsError`.

    `say_waiting` is called once if it takes more than a few seconds until `announce` is.
    """

    async def look_at_the_clock() -> None:
        await trio.sleep(WAITING_SECONDS)
        say_waiting()

    check_machine(makes_mount=descriptor_in(mountpoint) is None)
    check_readers(config)
    keep_others_out()
    _be_the_daemon(config, mountpoint, announce, look_at_the_clock)


def _be_the_daemon(
    config: Config, mountpoint: Path, announce: Announce, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """Serve until unmounted, with `meanwhile` beside it until the mount is announced. Raises a `VbnfsError`."""
    name_this_process(_NAME)  # else it has that of the program that was started: python3, or mount.vbnfs
    # Only a daemon in the foreground is what a supervisor started; the one that forked is not.
    notifier = SystemdNotifier(load_supervisor() if config.foreground else None)
    configure_logging(sys.stderr, level=config.log_level, as_json=not config.foreground)
    config = within_the_machine(config)
    problems = problems_of_the_machine()

    async def serve_with_company() -> None:
        async with trio.open_nursery() as nursery:
            company = trio.CancelScope()

            async def keep_company() -> None:
                with company:
                    await meanwhile()

            def announced(ready: Ready) -> None:
                company.cancel()
                announce(replace(ready, warnings=(*problems, *ready.warnings)))

            nursery.start_soon(keep_company)
            await serve(config, mountpoint, notifier, announced)
            nursery.cancel_scope.cancel()

    try:
        notifier.status("asking which versions there are")
        trio.run(serve_with_company)
    except BaseExceptionGroup as group:
        first = _first(group)
        raise MountError(_LIMITED) if _is_of_limits(first) else root_error(group) from first


def run_in_background(config: Config, mountpoint: Path, say_waiting: Callable[[], None]) -> Ready:
    """Start a daemon and return when the tree can be listed. Raises a `VbnfsError`.

    `say_waiting` is called once if that takes more than a few seconds.
    """
    check_machine(makes_mount=descriptor_in(mountpoint) is None)
    check_readers(config)
    keep_others_out()
    prepare_cache_directory(config.cache_dir)  # refused here, before a log file is made
    log_descriptor = _open_log(config.log_file)
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = _fork()
    if child == 0:
        os.close(read_end)
        _become_daemon(config, mountpoint, write_end, log_descriptor)
    os.close(write_end)
    os.close(log_descriptor)
    with os.fdopen(read_end, "rb") as pipe:
        try:
            if not _comes_within(pipe, WAITING_SECONDS):
                say_waiting()
            word = pipe.read()
        except BaseException:  # Ctrl-C: what was asked for is not wanted any more
            os.kill(child, signal.SIGTERM)
            _wait_for_the_end(child)  # so that nothing is left when this ends
            raise
    if not word:
        raise MountError(
            f"{mountpoint}: the daemon {_end_of(child)} before the mount was there; see {config.log_file}"
        )
    message = json.loads(word)
    if "error" in message:
        raise getattr(errors, message["kind"])(message["error"], remedy=message.get("remedy"))
    return Ready(message["top"], tuple(message["warnings"]))


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:  # EAGAIN, ENOMEM: fork(2)
        raise MountError(_LIMITED) from error


def _first(error: BaseException) -> BaseException:
    """The first of a group, and of the groups in it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _is_of_limits(error: BaseException) -> bool:
    """Whether the system refuses memory, or a thread, which has no exception of its own."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error))


def _comes_within(pipe: io.BufferedReader, seconds: float) -> bool:
    """Whether the daemon gives its word, or ends, within some seconds."""
    return bool(select.select([pipe], [], [], seconds)[0])


def _wait_for_the_end(child: int) -> None:
    """Some seconds at most. Its word may have been given before, and says nothing of that."""
    with suppress(OSError):  # an old kernel; no descriptor
        ended = os.pidfd_open(child)
        try:
            select.select([ended], [], [], _END_SECONDS)
        finally:
            os.close(ended)


def _end_of(child: int) -> str:
    """How a process ended that ended without a word."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return f"failed, and did not end within {END_SECONDS} s (is there enough memory?),"
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"


def _become_daemon(config: Config, mountpoint: Path, write_end: int, log_descriptor: int) -> None:
    """The child's life. Never returns."""
    status = 1
    pipe = io.FileIO(write_end, "wb")
    inherited = descriptors.inherited()
    try:
        os.dup2(log_descriptor, 2)
        os.close(log_descriptor)
        structlog.contextvars.bind_contextvars(mountpoint=str(mountpoint), pid=os.getpid())

        def announce(ready: Ready) -> None:
            _leave_terminal()
            # A lock, or a pipe that is read to its end, of a program that is not to wait for the daemon.
            descriptors.close_inherited(inherited)
            if not _tell(pipe, asdict(ready)):
                raise MountError(_NOT_WANTED)

        async def watch_the_pipe() -> None:
            """The end of a pipe that nobody reads any more counts as readable: poll(2), POLLERR."""
            await trio.lowlevel.wait_readable(write_end)
            raise MountError(_NOT_WANTED)

        _be_the_daemon(config, mountpoint, announce, watch_the_pipe)
        status = 0
    except VbnfsError as error:
        _tell(pipe, {"error": str(error), "kind": type(error).__name__, "remedy": error.own_remedy})
    except KeyboardInterrupt:
        log.info("interrupted before the mount was there")
    except BaseException as error:
        log.exception("the daemon ends with a defect")
        reason = f"{mountpoint}: a defect ends the daemon: {_first(error)!r}; see {config.log_file}"
        _tell(pipe, {"error": reason, "kind": MountError.__name__})
    finally:
        os._exit(status)


def _leave_terminal() -> None:
    os.setsid()
    os.chdir("/")
    with open(os.devnull, "r+b", buffering=0) as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)


def _tell(pipe: io.FileIO, message: dict[str, Any]) -> bool:
    """Give the word; False if it was given before, or nobody waits any more."""
    try:
        with pipe:  # its number may be another file's soon: what is closed stays so
            pipe.write(json.dumps(message).encode())
    except (OSError, ValueError) as error:
        log.warning("nobody waits for the daemon's word", word=message, reason=str(error))
        return False
    return True


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A pipe that nobody reads is an error (ENXIO, open(2)), and nothing to wait for.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise no_log(path, error) from error
    os.set_blocking(descriptor, True)
    return descriptor
