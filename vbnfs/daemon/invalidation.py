"""Notices for the kernel: how much of a file is cached has changed, and its attributes are to be asked for again.

A notice is a write(2) to the device, and while it lasts the device is open, whatever happens to this process. So it
must wait for nothing that this process has to answer: if it were killed meanwhile, no process would answer, the
connection would never end, and its readers could not be killed. That is why no notice has the kernel drop pages, and
none gives it any: FUSE_NOTIFY_INVAL_INODE with a range and FUSE_NOTIFY_STORE wait for reads in flight. See
`pages.py`.

A notice about attributes waits at most while that inode is being thrown out of memory (`fuse_ilookup` and
`fuse_reverse_inval_inode`, fs/fuse/inode.c). That takes as long as it has pages, and waits for no read: a file that
still has reads in flight has not been released, and until then the kernel holds its inode (`fuse_prepare_release`,
fs/fuse/file.c). A thread does it, because millions of pages take more than a moment.
"""

import queue
import threading

import structlog

from vbnfs.fuse.engines import Connection

log = structlog.get_logger()


class Invalidator:
    """For one mount, from `start` to `stop`; what is sent before or after is dropped."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def start(self, connection: Connection) -> None:
        """Send notices by way of `connection` from now on. Raises `RuntimeError` where no thread can be started."""
        self._connection = connection
        threading.Thread(target=self._run, name="notices", daemon=True).start()

    def stop(self) -> None:
        """The connection is about to be closed. Does not wait."""
        self._connection = None
        self._queue.put(None)

    def send(self, inode: int) -> None:
        """Have the kernel ask for the attributes of an inode again, soon. Returns at once."""
        self._queue.put(inode)

    def _run(self) -> None:
        while (inode := self._queue.get()) is not None:
            connection = self._connection
            try:
                if connection is not None:
                    connection.invalidate_attributes(inode)
            except OSError as error:
                log.warning("the kernel does not take a notice of a change", reason=str(error))
