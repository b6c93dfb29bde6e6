"""The processes behind a mount: in the terminal, or in the background.

`vbnfs mount` forks: the child becomes the daemon, the parent waits at a pipe for the word that the tree can be
listed, or for the reason why not. The child leaves the terminal's session only after the mount is made: an
automounter waits for the session that asked. If the parent is interrupted or ends while it waits, so does the child:
it sees that nobody reads the pipe any more.
"""

import io
import json
import math
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
from vbnfs.config.environment import load_supervisor
from vbnfs.config.settings import LEAST_MEMORY_BYTES, Config
from vbnfs.daemon.mount import END_SECONDS, Announce, Ready, serve
from vbnfs.daemon.systemd import SystemdNotifier
from vbnfs.errors import MountError, VbnfsError, root_error
from vbnfs.host import limits
from vbnfs.host.cgroup import memory_limit_bytes
from vbnfs.host.mount_programs import fusermount
from vbnfs.host.private import keep_others_out
from vbnfs.host.runtime import make_runtime_directory
from vbnfs.logs import configure_logging

log = structlog.get_logger()

_FUSE_DEVICE: Final = Path("/dev/fuse")
_FUSE_SYSCTLS: Final = Path("/proc/sys/fs/fuse")
LEAST_DATA_BYTES: Final = 128 << 20  # of RLIMIT_DATA: Python, the manifests, the stacks of threads
LEAST_OPEN_FILES: Final = 64  # beside what connections to S3 take, of which there are fewer then
WAITING_SECONDS: Final = 2.5  # without a word; a mount takes one
_END_SECONDS: Final = 5.0
_LIMITED: Final = (
    "no more memory, threads or processes: raise the limits (ulimit -u, -v, -d; the cgroup's memory and pids)"
)
_NOT_WANTED: Final = "the command that asked for the mount has gone"
_PART_OF_KERNELS_TIMEOUT: Final = 0.8  # it is looked at every few seconds only


def run_in_foreground(config: Config, mountpoint: Path, announce: Announce, say_waiting: Callable[[], None]) -> None:
    """Be the daemon in this process until it is unmounted. Raises a `VbnfsError`.

    `say_waiting` is called once if it takes more than a few seconds until `announce` is.
    """

    async def look_at_the_clock() -> None:
        await trio.sleep(WAITING_SECONDS)
        say_waiting()

    _check_machine()
    keep_others_out()
    _be_the_daemon(config, mountpoint, announce, look_at_the_clock)


def _be_the_daemon(
    config: Config, mountpoint: Path, announce: Announce, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """Serve until unmounted, with `meanwhile` beside it until the mount is announced. Raises a `VbnfsError`."""
    # Only a daemon in the foreground is what a supervisor started; the one that forked is not.
    notifier = SystemdNotifier(load_supervisor() if config.foreground else None)
    configure_logging(sys.stderr, level=config.log_level, as_json=not config.foreground)
    config = _within_the_cgroup(_below_the_kernels_timeout(config))
    problems = _problems_of_the_control_socket()

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
    _check_machine()
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
        raise getattr(errors, message["kind"])(message["error"])
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


def what_takes_so_long(config: Config) -> str:
    """What a mount waits for that is not there after some seconds."""
    if config.offline:
        return f"still reading what {config.cache_dir} keeps of the dataset's versions"
    server = config.endpoint_url or "AWS"
    return f"still waiting for {server} to tell which versions {config.bucket} has (Ctrl-C ends it)"


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
    try:
        os.dup2(log_descriptor, 2)
        os.close(log_descriptor)
        structlog.contextvars.bind_contextvars(mountpoint=str(mountpoint), pid=os.getpid())

        def announce(ready: Ready) -> None:
            _leave_terminal()
            if not _tell(pipe, asdict(ready)):
                raise MountError(_NOT_WANTED)

        async def watch_the_pipe() -> None:
            """The end of a pipe that nobody reads any more counts as readable: poll(2), POLLERR."""
            await trio.lowlevel.wait_readable(write_end)
            raise MountError(_NOT_WANTED)

        _be_the_daemon(config, mountpoint, announce, watch_the_pipe)
        status = 0
    except VbnfsError as error:
        _tell(pipe, {"error": str(error), "kind": type(error).__name__})
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
        raise MountError(f"log file {path}: {error.strerror}; choose one with --log-file") from error
    os.set_blocking(descriptor, True)
    return descriptor


def _check_machine() -> None:
    if not _FUSE_DEVICE.exists():
        raise MountError(
            f"no {_FUSE_DEVICE}: load the module with 'modprobe fuse' (in a container: --device /dev/fuse)"
        )
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):  # fusermount3 opens it with the rights of who runs it
        raise MountError(f"{_FUSE_DEVICE}: not open to everybody; as root, run: chmod 666 {_FUSE_DEVICE}")
    fusermount()
    _check_limits()
    limits.raise_open_files()  # segments, connections and mappings each take one


def _check_limits() -> None:
    """Where less is granted than a mount takes, it fails here, and not in the middle of something."""
    data_bytes, files = limits.most_data_bytes(), limits.most_open_files()
    if data_bytes is not None and data_bytes < LEAST_DATA_BYTES:
        raise MountError(
            f"this process may take {data_bytes >> 20} MiB of memory, and a mount needs {LEAST_DATA_BYTES >> 20} at"
            " least: raise the limit (ulimit -d, or data in /etc/security/limits.conf)"
        )
    if files is not None and files < LEAST_OPEN_FILES:
        raise MountError(
            f"this process may have {files} files open, and a mount needs {LEAST_OPEN_FILES} at the least:"
            " raise the limit (ulimit -Hn, or nofile in /etc/security/limits.conf)"
        )


def _problems_of_the_control_socket() -> tuple[str, ...]:
    """What will keep `vbnfs status` from reaching the mount, which works all the same."""
    try:
        make_runtime_directory()
    except MountError as error:
        return (f"'vbnfs status' will not reach this mount: {error}",)
    return ()


def _below_the_kernels_timeout(config: Config) -> Config:
    """Answer before Linux 6.15 and later lose patience: one request beyond their limit aborts the whole mount."""
    limits = [_sysctl_seconds(f"{name}_request_timeout") for name in ("default", "max")]
    strictest = min((limit for limit in limits if limit > 0), default=math.inf)
    if config.io_timeout_seconds < strictest * _PART_OF_KERNELS_TIMEOUT:
        return config
    seconds = strictest * _PART_OF_KERNELS_TIMEOUT
    log.warning("--io-timeout lowered: the kernel (fs.fuse.*_request_timeout) waits no longer", seconds=seconds)
    return replace(config, io_timeout_seconds=seconds)


def _within_the_cgroup(config: Config) -> Config:
    """Half of what the control group allows at the most: the rest is for the tree, and for pages on their way."""
    allowed = memory_limit_bytes()
    if allowed is None:
        return config
    limit_bytes = max(LEAST_MEMORY_BYTES, allowed // 2)
    if config.memory_limit_bytes <= limit_bytes:
        return config
    log.warning("--memory-limit lowered: the control group allows no more", limit_bytes=limit_bytes, allowed=allowed)
    return replace(config, memory_limit_bytes=limit_bytes)


def _sysctl_seconds(name: str) -> int:
    """Seconds; 0 where there is no limit (Documentation/admin-guide/sysctl/fs.rst)."""
    try:
        return int((_FUSE_SYSCTLS / name).read_text())
    except (OSError, ValueError):
        return 0
