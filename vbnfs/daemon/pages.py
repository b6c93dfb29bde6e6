"""Files whose pages the kernel has, and must not have: they are of bytes that proved to be wrong.

The kernel drops a file's pages, mapped ones too, when the file is opened and the answer is not FOPEN_KEEP_CACHE
(`fuse_open`, fs/fuse/file.c). It waits for reads in flight of the file meanwhile. So a process of its own opens it,
which does not have the device: when the daemon ends, however it ends, the kernel ends those reads, and that process
goes on. A thread of the daemon that waited would keep the device open, and no process would answer them any more.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import structlog
import trio

log = structlog.get_logger()

# O_NONBLOCK means nothing to a file; it tells the mount that this says nothing about what will be read.
_PROGRAM: Final = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))"
_TIMES: Final = 2  # the kernel leaves a page that a program is copying just then
_MOST_TRIES: Final = 10
_BETWEEN_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 10.0


class Pages:
    """Has the kernel drop pages of files in the mount on `mountpoint`, as long as `run` does.

    Where the mount cannot be seen from here (None), they are dropped when a program opens the file.
    """

    def __init__(self, mountpoint: Path | None) -> None:
        self._mountpoint = mountpoint
        self._stale: set[int] = set()
        self._wanted: dict[int, str] = {}
        self._has_wanted = trio.Event()

    def drop(self, inode: int, path: str) -> None:
        """Have the pages of the file dropped that stands at `path` in the mount. Returns at once."""
        self._stale.add(inode)
        if self._mountpoint is None:
            return
        self._wanted[inode] = path
        self._has_wanted.set()

    def are_stale(self, inode: int) -> bool:
        """Whether there may be such pages still: then the next open of the file has them dropped."""
        return inode in self._stale

    async def run(self) -> None:
        """Drop what is to be dropped, until cancelled."""
        while True:
            await self._has_wanted.wait()
            wanted, self._wanted, self._has_wanted = self._wanted, {}, trio.Event()
            async with trio.open_nursery() as nursery:
                for inode, path in wanted.items():
                    assert self._mountpoint is not None
                    nursery.start_soon(self._drop, inode, self._mountpoint, path)

    async def _drop(self, inode: int, mountpoint: Path, path: str) -> None:
        times = 0
        for _ in range(_MOST_TRIES):
            times += await trio.to_thread.run_sync(_open, mountpoint / path, abandon_on_cancel=True)
            if times == _TIMES:
                if inode not in self._wanted:  # found wrong once more
                    self._stale.discard(inode)
                return
            await trio.sleep(_BETWEEN_SECONDS)
        log.warning("a file's pages stay in the kernel until it is opened", path=path)


def _open(path: Path) -> bool:
    """Have a file opened, and wait for it, some seconds at most. False if it was not."""
    try:
        opener = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, path],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return opener.wait(_LONGEST_SECONDS) == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info("a file could not be opened to have its pages dropped", path=str(path), reason=str(error))
        return False
