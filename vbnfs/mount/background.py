"""The processes behind a mount: in the terminal, or in the background.

`vbnfs mount` forks: the child becomes the daemon, the parent waits at a pipe for the word that the tree can be
listed, or for the reason why not. The child leaves the terminal's session only after the mount is made: an
automounter waits for the session that asked. If the parent is interrupted or ends while it waits, so does the child.
"""

import io
import json
import math
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs import errors
from vbnfs.config import LEAST_MEMORY_BYTES, Config, load_supervisor
from vbnfs.dataset.allensdk import ALLENSDK
from vbnfs.dataset.catalog import KEPT_FORMAT
from vbnfs.errors import MountError, VbnfsError, the_reason
from vbnfs.fuse.device import fusermount
from vbnfs.logs import configure_logging
from vbnfs.mount.cgroup import memory_limit_bytes
from vbnfs.mount.daemon import Announce, serve
from vbnfs.mount.notify import Notifier
from vbnfs.storage.block_cache import FORMAT as BLOCKS_FORMAT
from vbnfs.storage.private import check_private, keep_others_out, make_private
from vbnfs.storage.verdicts import FORMAT as VERDICTS_FORMAT
from vbnfs.temporary import remove_leftovers

log = structlog.get_logger()

_FUSE_DEVICE: Final = Path("/dev/fuse")
_FUSE_SYSCTLS: Final = Path("/proc/sys/fs/fuse")
_BLOCK_FOLDERS: Final = 2  # scope, and the first two digits; there may be 20,000 files below
_KEPT_FOLDERS: Final = 5  # origin, bucket, project, manifests, and the few files in them
_VERDICT_FOLDERS: Final = 3  # scope, good and bad, and the first two digits or the few files of what is bad
_ALLENSDK_FOLDERS: Final = 1  # the few files in it
_PART_OF_KERNELS_TIMEOUT: Final = 0.8  # it is looked at every few seconds only


def prepare_cache_directory(directory: Path) -> None:
    """Make the cache directory, for its owner alone. Raises `CacheError`, also if others have a hand in it.

    What dead processes left of small files is deleted; what they left of blocks, whoever looks at the cache deletes.
    """
    folder = make_private(directory)
    check_private(folder / BLOCKS_FORMAT, depth=_BLOCK_FOLDERS)
    check_private(folder / KEPT_FORMAT, depth=_KEPT_FOLDERS)
    check_private(folder / VERDICTS_FORMAT, depth=_VERDICT_FOLDERS)
    check_private(folder / ALLENSDK, depth=_ALLENSDK_FOLDERS)
    for kept in (KEPT_FORMAT, VERDICTS_FORMAT):
        remove_leftovers(folder / kept)
    remove_leftovers(folder / BLOCKS_FORMAT, depth=0)  # of its size


def run_in_foreground(config: Config, mountpoint: Path, announce: Announce) -> None:
    """Be the daemon in this process until it is unmounted. Raises a `VbnfsError`."""
    # Only a daemon in the foreground is what a supervisor started; the one that forked is not.
    notifier = Notifier(load_supervisor() if config.foreground else None)
    _check_machine()
    keep_others_out()
    prepare_cache_directory(config.cache_dir)
    _raise_file_limit()
    configure_logging(sys.stderr, level=config.log_level, as_json=not config.foreground)
    config = _within_the_cgroup(_below_the_kernels_timeout(config))
    try:
        notifier.status("asking which versions there are")
        trio.run(serve, config, mountpoint, notifier, announce)
    except BaseExceptionGroup as group:
        raise the_reason(group) from None


def run_in_background(config: Config, mountpoint: Path) -> list[str]:
    """Start a daemon and return its warnings once the tree can be listed. Raises a `VbnfsError`."""
    _check_machine()
    keep_others_out()
    prepare_cache_directory(config.cache_dir)
    log_descriptor = _open_log(config.log_file)
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _become_daemon(config, mountpoint, write_end, log_descriptor)
    os.close(write_end)
    os.close(log_descriptor)
    try:
        with os.fdopen(read_end, "rb") as pipe:
            word = pipe.read()
    except BaseException:  # Ctrl-C: what was asked for is not wanted any more
        os.kill(child, signal.SIGTERM)
        raise
    if not word:
        raise MountError(f"{mountpoint}: the daemon ended before the mount was there; see {config.log_file}")
    message = json.loads(word)
    if "error" in message:
        raise getattr(errors, message["kind"])(message["error"])
    return list(message["warnings"])


def _become_daemon(config: Config, mountpoint: Path, write_end: int, log_descriptor: int) -> None:
    """The child's life. Never returns."""
    status = 1
    pipe = io.FileIO(write_end, "wb")
    try:
        os.dup2(log_descriptor, 2)
        os.close(log_descriptor)
        structlog.contextvars.bind_contextvars(mountpoint=str(mountpoint), pid=os.getpid())

        def announce(warnings: tuple[str, ...]) -> None:
            _leave_terminal()
            if not _tell(pipe, {"warnings": warnings}):
                raise MountError("whoever asked for the mount has gone")

        run_in_foreground(config, mountpoint, announce)
        status = 0
    except VbnfsError as error:
        _tell(pipe, {"error": str(error), "kind": type(error).__name__})
    except KeyboardInterrupt:
        log.info("interrupted before the mount was there")
    except BaseException:
        log.exception("the daemon ends with a defect")
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
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MountError(f"log file {path}: {error.strerror}; choose one with --log-file") from error


def _check_machine() -> None:
    if not _FUSE_DEVICE.exists():
        raise MountError(
            f"no {_FUSE_DEVICE}: load the module with 'modprobe fuse' (in a container: --device /dev/fuse)"
        )
    fusermount()


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


def _raise_file_limit() -> None:
    """As many open files as the system grants: segments, connections and mappings each take one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
