"""The open files of a mount: who reads each of them, and the daemon's answers to what the kernel asks of them.

Cached blocks are answered at once. What has to be fetched has a deadline (failures.py).
"""

import errno
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import trio
from cachetools import LRUCache

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import DataNode, StaticNode, Tree
from vbnfs.errors import ChangedError, VbnfsError
from vbnfs.figures import Reader
from vbnfs.filesystem import who_reads
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.failures import Failures
from vbnfs.filesystem.nodes import Nodes
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.readers import Readers, Use, passed_inodes
from vbnfs.filesystem.recording import Recording
from vbnfs.filesystem.small_reads import RepeatedSmallReads
from vbnfs.filesystem.tables_ahead import TablesAhead
from vbnfs.filesystem.who_reads import OpenFile
from vbnfs.fuse.operations import Answer, Backing, Buffer, ErrnoReply, Opened, is_later
from vbnfs.histogram import Histogram
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import check_possible

_MOST_PATHS: Final = 1024


@dataclass(frozen=True, slots=True)
class KernelPages:
    """What the mount does about the pages that the kernel has of files."""

    are_stale: Callable[[int], bool] = lambda inode: False  # whether it may have some of wrong bytes
    fill: Callable[[str, ByteRange], None] = lambda path, block: None  # have it ask for a block of the file at a path


class OpenFiles:
    """Of one mount. `open_reader` opens a content; with False its reads say nothing about the next ones.

    `fetch` has a file fetched that may be read later. `recording` takes note of what is read.
    """

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        nodes: Nodes,
        attributes: Attributes,
        catalog: Catalog,
        *,
        open_reader: Callable[[Content, bool], FileReader],
        passthrough: Passthrough,
        failures: Failures,
        metrics: Metrics,
        pages: KernelPages,
        fetch: Callable[[DataNode, int], None] = lambda node, most_bytes: None,
        recording: Recording | None = None,
    ) -> None:
        self.passthrough: Final = passthrough
        self.waits: Final = Histogram()  # how long reads waited
        self._readers = Readers()
        self._nodes = nodes
        self._attributes = attributes
        self._catalog = catalog
        self._open_reader = open_reader
        self._failures = failures
        self._metrics = metrics
        self._pages = pages
        self._small_reads = RepeatedSmallReads()
        self._tables = TablesAhead(nodes, fetch)
        self._recording = recording
        self._paths: LRUCache[int, str] = LRUCache(_MOST_PATHS)
        self._waiting: dict[int, set[trio.CancelScope]] = {}  # reads, by inode
        self._handles = itertools.count(1)
        self._opened: dict[int, OpenFile] = {}  # by handle
        self._uses: dict[int, Use] = {}  # likewise
        self._texts: dict[int, bytes] = {}  # likewise, of files that are texts

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """Open a file for reading; the kernel may keep its pages, unless they are of wrong bytes."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ErrnoReply(errno.EROFS)
        node = self._nodes.node(inode)
        if isinstance(node, StaticNode):
            return self._handle(OpenFile(inode, node.data, None, pid))
        if not isinstance(node, DataNode):
            raise ErrnoReply(errno.EISDIR)
        content = self._attributes.content(node)
        if content is None:
            return self._open_later(node, flags, pid)
        return self._open_data(node, content, flags, pid)

    async def _open_later(self, node: DataNode, flags: int, pid: int) -> Opened:
        with self._failures.guard(node.inode):
            content = await self._attributes.learn_content(node)
        opened = self._open_data(node, content, flags, pid)
        return await opened if is_later(opened) else cast(Opened, opened)

    def _open_data(self, node: DataNode, content: Content, flags: int, pid: int) -> Answer[Opened]:
        check_possible(content)
        advises = not flags & os.O_NONBLOCK  # with which page_filler_program.py opens files
        if advises:
            self._tables.note_opened(node.inode, pid, self._opened.values())
        # A file that the kernel reads has a reader, too: readahead(2) of it asks the daemon, all the same.
        file = OpenFile(node.inode, self._open_reader(content, advises), content, pid)
        backing = self.passthrough.open(node.inode, content)
        if is_later(backing):
            return self._handle_later(file, backing)
        return self._handle(file, cast(Backing | None, backing))

    async def _handle_later(self, file: OpenFile, backing: Coroutine[Any, Any, Backing | None]) -> Opened:
        return self._handle(file, await backing)

    def _handle(self, file: OpenFile, backing: Backing | None = None) -> Opened:
        handle = next(self._handles)
        self._opened[handle] = file
        self._uses[handle] = self._readers.opened(file.inode, file.pid, file.file)
        if self._recording is not None and file.content is not None:
            node = self._nodes.tree.nodes.get(file.inode)
            if isinstance(node, DataNode):
                self._recording.note_opened(file.file, node, file.content, file.pid)
        return Opened(handle, keeps_pages=not self._pages.are_stale(file.inode), backing=backing)

    def open_text(self, text: bytes) -> Opened:
        """Open what is made when it is opened: its reads count nowhere."""
        handle = next(self._handles)
        self._texts[handle] = text
        return Opened(handle, keeps_pages=False, is_direct=True)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """Bytes of an open file, fewer than `size` only at its end."""
        file = self._opened.get(handle)
        if file is None:
            return memoryview(self._texts[handle])[offset : offset + size]
        inode, opened, use = file.inode, file.file, self._uses[handle]
        self._metrics.read_requests += 1
        if isinstance(opened, bytes):
            self.waits.add_none()
            return self._counted(use, memoryview(self._bytes_now(inode, opened))[offset : offset + size])
        self._tables.note_read(file)
        try:
            data = opened.read_nowait(offset, size)
        except (trio.WouldBlock, VbnfsError):  # a failure happens once more there, and is noted
            return self._read_later(use, opened, offset, size)
        self._failures.clear(inode)
        if opened.advises and self._small_reads.is_again(inode, offset, len(data)):
            self._fill_block(inode, offset // BLOCK_BYTES * BLOCK_BYTES)
        self.waits.add_none()
        self._record(opened, offset, data)
        return self._counted(use, data)

    def _bytes_now(self, inode: int, before: bytes) -> bytes:
        """What a file in memory has now: the kernel has its pages by inode, so all handles read the same."""
        node = self._nodes.tree.nodes.get(inode)
        return node.data if isinstance(node, StaticNode) else before

    def _fill_block(self, inode: int, start: int) -> None:
        """Have the kernel ask for all of the block that begins at `start`."""
        if inode not in self._nodes.tree.nodes:
            return
        path = self._paths.get(inode)
        if path is None:
            path = self._paths[inode] = self._nodes.tree.path_of(inode)
        self._pages.fill(path, ByteRange(start, start + BLOCK_BYTES))

    async def _read_later(self, use: Use, reader: FileReader, offset: int, size: int) -> Buffer:
        inode, is_size_new, began = use.inode, False, trio.current_time()
        try:
            with self._failures.guard_read(inode, ByteRange(offset, offset + size)):
                try:
                    data = await self._read_anew(inode, reader, offset, size)
                    self._record(reader, offset, data)
                    return self._counted(use, data)
                except ChangedError:
                    is_size_new = await self._recheck_size(inode)
                    raise
        finally:
            self.waits.add(trio.current_time() - began)
            if is_size_new:  # a program that opens it from now on reads another file
                self._failures.forget_reads(inode)

    async def _recheck_size(self, inode: int) -> bool:
        """A reply contradicted what was listed of a file: have its size asked for. Returns whether that was wrong."""
        node = self._nodes.tree.nodes.get(inode)
        if not isinstance(node, DataNode) or not await self._catalog.sizes.recheck(node.content):
            return False
        for other in await trio.to_thread.run_sync(_of_the_same_objects, self._nodes.tree, node):
            self._attributes.change(other)
        return True

    async def _read_anew(self, inode: int, reader: FileReader, offset: int, size: int) -> Buffer:
        """Read, and begin anew whenever the file is found wrong meanwhile."""
        while True:
            with trio.CancelScope() as waiting, self._known_as_waiting(inode, waiting):
                return await reader.read(offset, size)

    @contextmanager
    def _known_as_waiting(self, inode: int, scope: trio.CancelScope) -> Iterator[None]:
        self._waiting.setdefault(inode, set()).add(scope)
        try:
            yield
        finally:
            self._waiting[inode].discard(scope)
            if not self._waiting[inode]:
                del self._waiting[inode]

    def begin_reads_anew(self, inode: int) -> None:
        """Have reads that wait begin anew, because a file is refused now: then they fail at once."""
        for scope in self._waiting.get(inode, ()):
            scope.cancel()

    def _record(self, reader: FileReader, offset: int, data: Buffer) -> None:
        if self._recording is not None:
            self._recording.note_read(reader, offset, len(data))

    def _counted(self, use: Use, data: Buffer) -> Buffer:
        self._metrics.read_bytes += len(data)
        use.note(len(data))
        return data

    def release(self, handle: int) -> None:
        """Close a file."""
        self._texts.pop(handle, None)
        file = self._opened.pop(handle, None)
        if file is not None:
            self._readers.released(self._uses.pop(handle), file.file)
        if file is not None and isinstance(file.file, FileReader):
            if self._recording is not None:
                self._recording.note_released(file.file)
            file.file.close()
            self._tables.note_released(file)
            self.passthrough.release(file.inode)

    async def readers(self) -> list[Reader]:
        """Which programs read which files now."""
        uses, tree = self._readers.now(), self._nodes.tree
        return await trio.to_thread.run_sync(self._readers.rows, uses, passed_inodes(uses, self.passthrough), tree)

    async def report(self) -> dict[str, Any]:
        """Which open files the kernel reads by itself, for `vbnfs status`."""
        return await who_reads.report(self._opened.values(), self.passthrough, self._nodes.tree)

    async def read_by(self, node: DataNode) -> str:
        """Who reads a file that is opened now: a text for people."""
        content = await self._attributes.learn_content(node)
        await self.passthrough.find_out(content)
        return who_reads.describe(node.inode, content, self._opened.values, self.passthrough)


def _of_the_same_objects(tree: Tree, node: DataNode) -> list[int]:
    """The inodes of files that come from an object of which that file may come: itself, and those that dispute it."""
    sources = set(node.content.sources)
    files = (one for one in tree.nodes.values() if isinstance(one, DataNode))
    return [file.inode for file in files if not sources.isdisjoint(file.content.sources)]
