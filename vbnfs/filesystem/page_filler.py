"""Blocks that are asked for in small parts, again and again: the kernel is made to ask for all of each at once.

A process of its own (page_filler_program.py) reads them through the mount, like any program; so they are read,
checked and kept by the kernel like everything else. No thread of the daemon may do so: if the daemon is killed while
such a request is under way, the request gets no answer, and the waiting thread keeps the device open, and so the
mount, without end. The same is true of FUSE_NOTIFY_STORE, which gives a block over unasked. A process that
does not have the device holds nothing up: when the daemon is gone the kernel ends its requests, and then it ends.
"""

import os
import select
import subprocess
import sys
from pathlib import Path

import structlog

from vbnfs.dataset.names import encode
from vbnfs.filesystem import page_filler_program
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange

log = structlog.get_logger()


class PageFiller:
    """For the mount on `mountpoint`. The process is there from the first block on, until this is closed or killed.

    Where the mount cannot be seen from here (None), there is none: blocks come in small parts.
    """

    def __init__(self, mountpoint: Path | None, metrics: Metrics) -> None:
        self._mountpoint = b"" if mountpoint is None else os.fsencode(mountpoint)
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = mountpoint is None

    def fill(self, path: str, block: ByteRange) -> None:
        """Have the kernel read a block of the file that stands at `path` in the mount. Returns at once.

        It is advice, and dropped where there is more of it than can be followed, or no process to follow it.
        """
        if self._is_closed:
            return
        try:
            if self._process is None:
                self._process = _start()
            assert self._process.stdin is not None
            where = b"%d %d %s/%s\0" % (block.start, len(block), self._mountpoint, encode(path))
            if len(where) <= select.PIPE_BUF:  # else it might be written in part
                os.write(self._process.stdin.fileno(), where)
                self._metrics.whole_blocks += 1
        except BlockingIOError:
            pass
        except OSError as error:
            log.info("blocks are not read whole any more", reason=str(error))
            self.close()

    def close(self) -> None:
        """Let the process end. Does not wait for it: it may be waiting for this mount."""
        self._is_closed = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def _start() -> subprocess.Popen[bytes]:
    """Start it where no signal of a terminal reaches it. Raises `OSError`."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", page_filler_program.__file__],
        bufsize=0,
        cwd="/",
        stdin=subprocess.PIPE,
        pipesize=select.PIPE_BUF,  # some thirty blocks: a program has read them itself if they wait longer
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process
