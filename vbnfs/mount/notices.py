"""Notices for the kernel: what it was told of an inode has changed.

Telling it waits while that inode is being thrown out of memory, which waits for reads in flight, which the event loop
has to answer (`fuse_reverse_inval_inode`, fs/fuse/inode.c). So the event loop has it done by a thread.
"""

import queue
import threading

import structlog

from vbnfs.fuse.device import Device

log = structlog.get_logger()


class Notices:
    """For one mount, from `start` to `stop`; what is told before or after is of no interest to anybody."""

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

    def tell(self, notice: bytes) -> None:
        """Tell it now, and wait for the kernel: not to be called from the event loop."""
        device = self._device
        try:
            if device is not None:
                device.notify(notice)
        except OSError as error:
            log.warning("the kernel could not be told of a change", reason=str(error))

    def send(self, notice: bytes) -> None:
        """Have it told soon. Returns at once."""
        self._queue.put(notice)

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None:
            self.tell(notice)
