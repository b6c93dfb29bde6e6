"""The files of an export, brought into its folder one after the other.

A file is read as a mount reads it, hashed on its way, and gets its name when its hash is the manifest's.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import trio

from vbnfs.access.content_readers import ContentReaders
from vbnfs.access.dataset import Dataset
from vbnfs.access.filling import Progress
from vbnfs.access.versions import Versions
from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.digests import DigestSet
from vbnfs.cli.export_findings import (
    EXPORTED,
    FAILED,
    LINKED,
    NO_HASH,
    REPLACED,
    THERE,
    Reports,
)
from vbnfs.cli.export_folder import ExportFolder, Part
from vbnfs.cli.export_links import Way
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.index import Walker
from vbnfs.cli.render import files as files_text
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.errors import ChangedError, ExportError, StorageError, with_remedy
from vbnfs.host.copying import clone_file
from vbnfs.host.folders import flags_of
from vbnfs.host.positioned import read_at
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.verification import Verifier

_STEP_BYTES: Final = 4 << 20  # whole blocks
_LAST_SECONDS: Final = 2.0
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


@dataclass(frozen=True, slots=True)
class Item:
    """A file to export: its path in the folder, what it is in the dataset, and its time there."""

    path: tuple[str, ...]
    file: DataFile
    content: Content
    modified_ns: int

    @property
    def name(self) -> str:
        """Its path in the folder, as people read it."""
        return "/".join(self.path)

    def is_in(self, out: ExportFolder) -> bool:
        """Whether it was exported before."""
        return out.has(self.path, self.content.size_bytes, self.modified_ns, self.content.file_hash)


@dataclass(frozen=True, slots=True)
class Files:
    """What is to be exported of a dataset version."""

    versions: Versions
    manifest: Manifest
    items: Sequence[Item]


class Hashed:
    """The hash and the digests of a content's bytes, which come in order, some whole blocks at a time."""

    def __init__(self, content: Content, known: DigestSet | None) -> None:
        self._content, self._known = content, known
        self._whole, self._digests = hashlib.blake2b(), bytearray()

    def add(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self._whole.update(data)
        if self._known is None:
            for start in range(0, len(data), BLOCK_BYTES):
                self._digests += digest(data[start : start + BLOCK_BYTES])

    @property
    def are_new(self) -> bool:
        """Whether the digests were made of these bytes."""
        return self._known is None

    @property
    def is_right(self) -> bool:
        """Whether the bytes have the content's hash, if that is known."""
        return self._content.file_hash in {None, self._whole.hexdigest()}

    def digest_set(self) -> DigestSet | None:
        """The digests of bytes that are right; None for a content without a hash."""
        if self._content.file_hash is None:
            return None
        made = DigestSet(self._content.file_hash, self._content.size_bytes, bytes(self._digests))
        return self._known or made


async def in_thread(work: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
    """Do some work that a disk may hold up; what interrupts this does not wait for it."""
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


class Work:
    """Brings one file after the other."""

    def __init__(
        self,
        dataset: Dataset,
        files: Files,
        out: ExportFolder,
        way: Way,
        reports: Reports,
        *,
        source: BlockSource,
        services: trio.Nursery,
    ) -> None:
        self._dataset, self._files, self._out, self._way, self._reports = dataset, files, out, way, reports
        self._source = source
        self._readers = ContentReaders(files.versions, source, nursery=services)
        parts = (dataset.cache, source, dataset.verdicts, dataset.digests)
        self._verifier = Verifier(*parts, metrics=dataset.metrics, mirrors=dataset.mirrors, without_pauses=True)
        self._walker = Walker(dataset, source)
        items = files.items
        self._progress = Progress(files=len(items), count_bytes=sum(item.content.size_bytes for item in items))

    async def bring_all(self) -> tuple[Finding, ...]:
        """A finding for each file. Raises `ExportError` where the folder takes no more."""
        findings: list[Finding] = []
        async with trio.open_nursery() as showing:
            showing.start_soon(self._reports.bar, self._progress)
            with self._failures():
                await in_thread(self._hand_on)
            for item in self._files.items:
                findings.append(await self._finding(item))
                self._reports.show(findings[-1])
            with self._failures():
                await in_thread(self._finish)
            showing.cancel_scope.cancel()
        return tuple(findings)

    async def _finding(self, item: Item) -> Finding:
        done_bytes, size_bytes = self._progress.done_bytes, item.content.size_bytes
        with self._failures():
            outcome, detail = await self._bring(item)
        self._progress.done_files += 1
        self._progress.done_bytes = done_bytes + size_bytes
        return Finding(item.name, outcome, size_bytes, detail)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise `ExportError` for an `OSError` of the folder."""
        try:
            yield
        except OSError as error:
            progress = self._progress
            raise ExportError(
                f"{self._out.top} takes no more: {error.strerror or error}; {progress.done_files:,} of"
                f" {files_text(progress.files)} are there: free some on that disk, or attach it, and run it again"
            ) from error

    def _hand_on(self) -> None:
        manifests = self._files.versions.release.manifests
        handed = self._dataset.catalog.hand_on(manifests)
        self._out.hand_on(handed, {one.file_name: one.data for one in manifests})

    def _finish(self) -> None:
        """What is written when all files are there."""
        hashes = {item.content.file_hash for item in self._files.items if item.content.file_hash is not None}
        index = self._dataset.index
        self._out.write_index({name: found for name in hashes if (found := index.proven(name)) is not None})
        manifest = self._files.manifest
        self._out.write_allensdk(manifest.file_name, manifest.data, manifest.modified_ns)

    async def _bring(self, item: Item) -> tuple[str, str]:
        """Outcome and detail. Raises `OSError` where the folder takes no more."""
        to = self._out.place(item.path)
        if await in_thread(item.is_in, self._out):
            return THERE, ""
        if self._way.mounted is not None:
            return await in_thread(self._link, to, item)
        await in_thread(self._out.make_folder_of, to)
        was_there = await in_thread(os.path.lexists, to)
        if was_there and await self._is_right(to, item):
            return THERE, ""
        outcome = REPLACED if was_there else EXPORTED
        try:
            try:
                done = await self._copy(item, to, outcome)
            except ChangedError:  # a size that a reply contradicts is asked for again, once
                item = await self._with_another_size(item)
                done = await self._copy(item, to, outcome)
        except StorageError as error:
            return FAILED, with_remedy(error)
        await self._walker.of_content(item.name, item.content)  # the cache has it now
        return done

    async def _with_another_size(self, item: Item) -> Item:
        """The item with the size that S3 has by now. Raises `ChangedError` if it is the same."""
        content = await self._readers.content_anew(item.file)
        if content is None:
            raise ChangedError(f"{item.file.version}: S3 has another file than its listing says")
        found = await self._dataset.catalog.sizes.fetch(self._files.versions.named.of(item.file))
        return replace(item, content=content, modified_ns=found.modified_ns)

    def _link(self, to: Path, item: Item) -> tuple[str, str]:
        target = self._way.target_of(item.file)
        if to.is_symlink() and to.readlink() == target:
            return THERE, ""
        self._out.make_folder_of(to)
        try:
            self._out.link(to, target)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise ExportError(f"{self._out.top}: its disk has no symbolic links: leave --link out") from error
            raise
        return LINKED, ""

    # Files that are there already

    async def _is_right(self, to: Path, item: Item) -> bool:
        """Whether a file that nothing is known of has the bytes of the dataset's."""
        content = item.content
        source = await in_thread(_open_regular, to, content.size_bytes)
        if source is None or content.file_hash is None:
            return False
        try:
            hashed = await self._hash(content, source)
            if not hashed.is_right:
                return False
            os.utime(source, ns=(item.modified_ns, item.modified_ns))
        except OSError:  # it cannot be read: it is replaced
            return False
        finally:
            os.close(source)
        await in_thread(self._keep_digests, hashed)
        return True

    # Copying

    async def _copy(self, item: Item, to: Path, outcome: str) -> tuple[str, str]:
        content = item.content
        for _ in (None, *content.sources):
            hashed = await self._copy_once(item, to)
            if hashed is not None and content.file_hash is None:
                return NO_HASH, "the manifest has no hash of it, so nothing proves it"
            if hashed is not None:
                await in_thread(self._keep_digests, hashed)
                return outcome, ""
            await self._verifier.verify(content, fetch=True)  # what was cached may be to blame, or one of the sources
        return FAILED, "its bytes do not have the hash that the manifest has"

    async def _copy_once(self, item: Item, to: Path) -> Hashed | None:
        """Copy, and give the file its name; None where the bytes have not the hash. Raises a `StorageError`."""
        content = await self._ready(item)
        part = await in_thread(self._out.new_part)
        try:
            if await in_thread(self._clone, content, part.descriptor):
                hashed = await self._hash(content, part.descriptor)
            elif self._way.is_shared:
                raise StorageError(
                    "the cache does not keep it as a whole", remedy="allow it more room, or leave --link out"
                )
            else:
                hashed = await self._read_into(content, part)
            if not hashed.is_right:
                return None
            await in_thread(part.publish, to, item.modified_ns)
        finally:
            with trio.move_on_after(_LAST_SECONDS, shield=True):  # a disk that hangs holds nothing up
                await in_thread(part.remove)
        return hashed

    async def _ready(self, item: Item) -> Content:
        """The content; whole in the cache where it is to be shared. A size that S3 contradicts is asked for again."""
        if not self._way.is_shared:
            return item.content
        if not await in_thread(self._dataset.cache.is_whole, item.content):
            await self._verifier.verify(item.content, fetch=True)
            await self._source.writer.written(item.content)
        return item.content

    def _clone(self, content: Content, to: int) -> bool:
        """Share the cache's file, where the disk can do that, and it is whole."""
        source = self._dataset.cache.open_whole(content)
        if source is None:
            return False
        try:
            return clone_file(source, to)
        finally:
            os.close(source)

    async def _read_into(self, content: Content, part: Part) -> Hashed:
        reader = self._readers.reader(content)
        hashed = await in_thread(self._hashed, content)

        def take(data: bytes | memoryview, offset: int) -> None:
            hashed.add(data)
            part.write(data, offset)

        for start in range(0, content.size_bytes, _STEP_BYTES):
            data = await reader.read(start, _STEP_BYTES)
            await in_thread(take, data, start)
            self._progress.add(len(data))
        return hashed

    async def _hash(self, content: Content, source: int) -> Hashed:
        hashed = await in_thread(self._hashed, content)
        for start in range(0, content.size_bytes, _STEP_BYTES):
            await in_thread(_hash_part, hashed, source, start)
            self._progress.add(min(_STEP_BYTES, content.size_bytes - start))
        return hashed

    def _hashed(self, content: Content) -> Hashed:
        known = None if content.file_hash is None else self._dataset.digests.proven(content.file_hash)
        return Hashed(content, known)

    def _keep_digests(self, hashed: Hashed) -> None:
        """The digests of a file that is there, for the folder and the cache."""
        if (made := hashed.digest_set()) is not None:
            if hashed.are_new:
                self._dataset.digests.keep_proven(made)
            self._out.record(made)


def _hash_part(hashed: Hashed, source: int, start: int) -> None:
    hashed.add(read_at(source, _STEP_BYTES, start))


def _open_regular(to: Path, size_bytes: int) -> int | None:
    """A descriptor of a regular file of this length, no link; None where there is none, or it cannot be read."""
    with suppress(OSError):
        descriptor = os.open(to, os.O_RDONLY | flags_of("NOFOLLOW", "NONBLOCK", "BINARY"))
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size == size_bytes:
            return descriptor
        os.close(descriptor)
    return None
