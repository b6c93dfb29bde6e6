"""Notices for the kernel: how much of a file is cached has changed, and its attributes are to be asked for again.

A notice is a write(2) to the device, and while it lasts the device is open, whatever happens to this process. So it
must wait for nothing that this process has to answer: were it killed meanwhile, nobody would answer, the connection
would never end, and its readers could not be killed. That is why no notice has the kernel drop pages, nor
given any: FUSE_NOTIFY_INVAL_INODE with a range and FUSE_NOTIFY_STORE wait for reads in flight. (See `pages.py`.)

A notice about attributes waits at most while that inode is being thrown out of memory (`fuse_ilookup` and
`fuse_reverse_inval_inode`, fs/fuse/inode.c). That takes as long as it has pages, and waits for no read: a file that
still has reads in flight has not been released, and until then the kernel holds its inode (`fuse_prepare_release`,
fs/fuse/file.c). A thread does it, because millions of pages take more than a moment.
"""

import queue
import threading

import structlog

from vbnfs.fuse.device import Device

log = structlog.get_logger()


class Invalidator:
    """For one mount, from `start` to `stop`; what is sent before or after is of no interest to anybody."""

    def __init__(self) -> None:
        self._device: Device | None = None
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def start(self, device: Device) -> None:
        """Tell the kernel by way of `device` from now on. Raises `RuntimeError` where no thread is to be had."""
        self._device = device
        threading.Thread(target=self._run, name="notices", daemon=True).start()

    def stop(self) -> None:
        """The device is about to be closed. Does not wait."""
        self._device = None
        self._queue.put(None)

    def send(self, notice: bytes) -> None:
        """Have it sent soon. Returns at once."""
        self._queue.put(notice)

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None:
            device = self._device
            try:
                if device is not None:
                    device.notify(notice)
            except OSError as error:
                log.warning("the kernel could not be told of a change", reason=str(error))
