"""Files that the kernel reads by itself, from the file of a whole content in the cache: passthrough.

The daemon sees that such a file is opened and closed, and none of its reads. `CheckedFiles` says which contents may
be read so, `OpenModes` when an inode may. The kernel holds a file that is open: that the content is evicted, or that
the daemon ends, changes nothing for its readers.

The kernel holds what it was given until it is given back, or until the connection has ended: when the mount is taken
away, from everywhere, and its last file is closed. So it is also given the file that shows other processes what it
holds (`cache/holdings.py`), and the lock of that file lasts as long.
"""

import errno
import os
from typing import Final, Protocol

import structlog
import trio

from vbnfs.cache.holdings import Held, Holdings
from vbnfs.cache.whole_file import WholeFile
from vbnfs.errors import HashMismatchError
from vbnfs.filesystem.open_modes import OpenModes
from vbnfs.fuse.operations import Answer, Backing
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.checked_files import CheckedFiles

log = structlog.get_logger()

_DISK_SECONDS: Final = 1.0  # a disk that takes longer is left to the daemon's readers, which have a deadline
_GATHER_SECONDS: Final = 0.1  # programs may open and close thousands of files a second
NOT_MOUNTED: Final = "it is not mounted yet"
NEEDS_ROOT: Final = "the kernel grants it to root only: sudo mount -t vbnfs SOURCE FOLDER -o allow_other"
_REASONS: Final = {
    errno.EPERM: NEEDS_ROOT,
    errno.ELOOP: "the cache is on a file system that is stacked on others: give another --cache-dir",
}
_LASTING: Final = frozenset({*_REASONS, errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})


class Backings(Protocol):
    """What gives files to the kernel: a `Connection` of `fuse.engines`."""

    agreed: trio.Event

    def open_backing(self, descriptor: int) -> Backing:
        """Raises `OSError`."""

    def close_backing(self, backing: Backing) -> None:
        """Raises none."""


class Passthrough:
    """Of one mount. `reason`: why the kernel reads no file by itself; None if it does.

    `holdings` shows other processes what the kernel holds, and nothing else.
    """

    def __init__(
        self, files: CheckedFiles, holdings: Holdings, metrics: Metrics, *, reason: str | None = None
    ) -> None:
        self.files = files
        self.is_wanted = reason is None
        self.reason: str | None = NOT_MOUNTED if self.is_wanted else reason
        self._metrics = metrics
        self._modes = OpenModes()
        self._backings: Backings | None = None
        self._held: dict[int, Held] = {}  # by the mount's inode; what has no name any more stays, too
        self._holdings = holdings
        self._shown: Backing | None = None  # the file of `holdings`, while the kernel has it
        self._has_changed = trio.Event()  # `_held` has

    async def start(self, backings: Backings) -> None:
        """Find out whether the kernel may be given files: of an empty one, once the mount is there."""
        await backings.agreed.wait()
        if not self.is_wanted:
            return
        self._backings, self.reason = backings, why_not(backings)
        if self.reason is not None:
            log.info("the kernel reads no files by itself", reason=self.reason)

    def open(self, inode: int, content: Content) -> Answer[Backing | None]:
        """Count a file that is opened now; what the kernel is to read it from, None if the daemon reads it.

        Raises `HashMismatchError` while programs have it read by the kernel and it has proved wrong meanwhile.
        """
        self._refuse_condemned(inode, content)
        if self._modes.is_open(inode) or self.reason is not None or not self.files.may_have(content):
            return self._count(inode, content)
        file = self.files.open_at_once(content)
        return self._open_later(inode, content) if file is None else self._offer(inode, content, file)

    async def _open_later(self, inode: int, content: Content) -> Backing | None:
        file = await self._open_file(content)
        self._refuse_condemned(inode, content)
        return self._offer(inode, content, file)

    def _offer(self, inode: int, content: Content, file: WholeFile | None) -> Backing | None:
        """Count a file that is opened now, and have the kernel read it if nothing keeps it from that by now."""
        backing: Backing | None = None
        if file is not None and not self._modes.is_open(inode) and self.files.has(content):
            backing = self._register(file.descriptor)
        if file is not None and backing is not None:
            self._held[inode] = file.held(content.content_id)
            self._has_changed.set()
        return self._count(inode, content, backing)

    async def _open_file(self, content: Content) -> WholeFile | None:
        with trio.move_on_after(_DISK_SECONDS):
            return await trio.to_thread.run_sync(self.files.open, content, abandon_on_cancel=True)
        return None

    async def find_out(self, content: Content) -> None:
        """Have `files` know what `open` would find out of a content."""
        if self.reason is None and not self.files.has(content) and self.files.may_have(content):
            await self._open_file(content)

    async def publish(self) -> None:
        """Have other processes know what is held, until cancelled. A disk may hold this up for long."""
        while True:
            await self._has_changed.wait()
            self._has_changed = trio.Event()
            await trio.to_thread.run_sync(self._holdings.publish, list(self._held.values()), abandon_on_cancel=True)
            self._give_holdings()
            await trio.sleep(_GATHER_SECONDS)

    def _give_holdings(self) -> None:
        """Have the kernel keep the lock of the file that shows what it holds, while it holds anything."""
        descriptor = self._holdings.descriptor
        if self._held and self._shown is None and descriptor is not None:
            self._shown = self._register(descriptor)
        elif not self._held and self._shown is not None and self._backings is not None:
            self._backings.close_backing(self._shown)
            self._shown = None

    def _count(self, inode: int, content: Content, offered: Backing | None = None) -> Backing | None:
        backing = self._modes.open(inode, offered)
        if backing is not None:
            self._metrics.passthrough_opens += 1
        elif self.reason is None and not self.files.has(content):
            self.files.notice(content)
        return backing

    def release(self, inode: int) -> None:
        """Count a file less."""
        unused = self._modes.release(inode)
        if unused is not None and self._backings is not None:
            self._held.pop(inode, None)
            self._has_changed.set()
            self._backings.close_backing(unused)

    def condemn(self, inode: int) -> None:
        """A file proved to be wrong: no program opens it from now on while others have it read by the kernel."""
        self._modes.condemn(inode)

    def is_passed(self, inode: int) -> bool:
        """Whether the kernel reads the inode's open files by itself."""
        return self._modes.backing_of(inode) is not None

    def _refuse_condemned(self, inode: int, content: Content) -> None:
        held = self._held.get(inode)
        if self._modes.is_condemned(inode) or (held is not None and held.content_id != content.content_id):
            raise HashMismatchError(
                f"{content.source}: programs have it open from before it proved to be wrong; close it there"
            )

    def _register(self, descriptor: int) -> Backing | None:
        """Give an open file to the kernel, without waiting. After a refusal of any file none is given any more."""
        assert self._backings is not None
        try:
            return self._backings.open_backing(descriptor)
        except OSError as error:
            self.reason = _lasting_reason(error)
            if self.reason is not None:
                log.info("the kernel reads no files by itself", reason=self.reason)
            else:
                log.info("the kernel does not take a file now", reason=str(error))
            return None


def why_not(backings: Backings) -> str | None:
    """Why the kernel takes no file of a mount to read it by itself: an empty one is tried. None if it takes it."""
    probe = WholeFile(os.memfd_create("vbnfs"))
    try:
        backings.close_backing(backings.open_backing(probe.descriptor))
    except OSError as error:
        return _lasting_reason(error)
    return None


def _lasting_reason(error: OSError) -> str | None:
    """Why the kernel will take no other file either; None where it may."""
    return _REASONS.get(error.errno or 0, str(error.strerror)) if error.errno in _LASTING else None
