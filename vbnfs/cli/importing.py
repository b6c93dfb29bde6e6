"""What `vbnfs import` does: files of the dataset that are on this machine already come into the cache.

A file is recognised by its name or its size, and believed by its hash alone (cache/adoption.py). What is whole in the
cache is not read again: so an import that was interrupted goes on where it was.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.opening import make_cache, scope_of
from vbnfs.access.other_caches import trusted_uids
from vbnfs.access.versions import load_versions
from vbnfs.cache.adoption import Adoption, Registration, SourceError, can_share
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.in_place import make_in_place, why_not_believed
from vbnfs.cache.whole_file import Seal
from vbnfs.cli.asked import Place
from vbnfs.cli.found_files import Found, FoundFile, Recognised, Recogniser, check_folder, find_files, without_repeats
from vbnfs.cli.import_findings import (
    LEFT_OUT,
    NOT_KEPT,
    REFUSED,
    TAKEN,
    THERE,
    UNREADABLE,
    WOULD_TAKE,
    WRONG,
    Finding,
    Reports,
    other_bytes,
    unwanted,
)
from vbnfs.cli.partial_files import NO_RESERVE, PartialFile, partial_files, take_blocks
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.steps import take_steps
from vbnfs.cli.verify import IMPORTING, check_room
from vbnfs.errors import CacheError
from vbnfs.host.mountinfo import absolute
from vbnfs.host.places import folder_at
from vbnfs.objects import Content

_HASHED_BYTES: Final = 4 << 20
_OPEN: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe that took the file's place holds nothing up


@dataclass(frozen=True, slots=True)
class Ways:
    """How to import: with `dry_run` only what would be taken is found out; `in_place`: files are not copied."""

    dry_run: bool = False
    in_place: bool = False


def run(where: Place, folder: Path, *, ways: Ways, reports: Reports) -> tuple[Finding, ...]:
    """Take into the cache what a folder, or file, has of the dataset.

    Raises `DatasetError` for a folder that cannot be imported, `CacheError` where there is no room, or the disk takes
    no more. What was taken by then stays.
    """
    return run_to_the_end(partial(_import, where, folder, ways, reports))


async def _import(where: Place, folder: Path, ways: Ways, reports: Reports) -> tuple[Finding, ...]:
    top = check_folder(folder, cache_dir=where.config.cache_dir)
    async with open_dataset(where.config) as dataset:
        versions = await load_versions(dataset)
        await versions.learn_sizes(file for manifest in versions.release.manifests for file in manifest.files)
        leave_out = absolute(where.config.cache_dir)
        find = partial(find_files, top, leave_out=leave_out)
        found = await trio.to_thread.run_sync(find, abandon_on_cancel=True)
        work = await trio.to_thread.run_sync(_Import, where, dataset, ways, reports)
        recogniser = await trio.to_thread.run_sync(Recogniser, versions)
        await trio.to_thread.run_sync(work.sort, found, recogniser, abandon_on_cancel=True)
        if not ways.dry_run:
            await trio.to_thread.run_sync(work.check_room)
            await work.take_all()
            await trio.to_thread.run_sync(work.check_again)
        else:
            work.name_wanted()
        return tuple(work.findings.values())


class _Import:
    """The files that were found, sorted, and then taken one after the other."""

    def __init__(self, where: Place, dataset: Dataset, ways: Ways, reports: Reports) -> None:
        self.findings: dict[Path, Finding] = {}
        self._where, self._reports = where, reports
        self._cache, self._verdicts = dataset.cache, dataset.verdicts
        self._is_in_place = ways.in_place
        self._owners = trusted_uids(where.config)
        if ways.in_place and not ways.dry_run:
            make_in_place(folder_at(where.config.cache_dir), scope_of(where.config.endpoint_url))
            self._cache = make_cache(where.config, dataset.metrics, dataset.digests)
        self._evictor, self._digests = dataset.make_evictor(), dataset.digests
        self._wanted: dict[FoundFile, Recognised] = {}
        self._partial: list[PartialFile] = []
        self._there: dict[str, Content] = {}
        self._taken: dict[Path, list[Content]] = {}
        self._done = self._done_bytes = 0

    def sort(self, found: Found, recogniser: Recogniser) -> None:
        """Which files are wanted, and which are not: without reading any."""
        for path, reason in found.unreadable:
            self._note(path, UNREADABLE, 0, reason)
        for file in found.files:
            known = recogniser.recognise(file)
            if known.candidates and not all(map(self._is_there, known.candidates)):
                self._wanted[file] = known
            else:
                self._note(file.path, *unwanted(file, known))
        for directory in () if self._is_in_place else found.caches:
            try:
                for one in partial_files(directory, self._where.config, recogniser.by_id, self._cache, self._digests):
                    self._sort_partial(one)
            except CacheError as error:
                self._note(directory, LEFT_OUT, 0, f"its incomplete files, which no hash can prove: {error}")

    def _sort_partial(self, one: PartialFile) -> None:
        if one.blocks:
            self._partial.append(one)
        else:
            self._note(one.path, THERE, 0)

    def name_wanted(self) -> None:
        """Say what would be taken."""
        for file in self._wanted:
            self._note(file.path, WOULD_TAKE, file.size_bytes)
        for one in self._partial:
            self._note(one.path, WOULD_TAKE, one.size_bytes)

    def check_room(self) -> None:
        """Raise `CacheError` if not all that is wanted can be kept."""
        chosen = without_repeats(self._wanted.values(), self._is_there)
        partial_bytes = sum(one.size_bytes for one in self._partial)
        self._total_bytes = partial_bytes + sum(file.size_bytes for file in self._wanted)
        self._is_shared = self._are_shared()
        if (chosen or partial_bytes) and not self._is_in_place:
            check_room(
                self._where,
                self._cache,
                (*chosen.values(), *self._there.values()),
                purpose=IMPORTING,
                shared_bytes=sum(c.size_bytes for c in chosen.values()) if self._is_shared else 0,
                partial_bytes=partial_bytes,
            )

    def _are_shared(self) -> bool:
        """Whether the cache can have the files by reflinks, as far as one of each file system shows."""
        samples: dict[int, Path] = {}
        for file in self._wanted:
            with suppress(OSError):
                samples.setdefault(file.path.stat().st_dev, file.path)
        return all(_can_share(self._cache, path) for path in samples.values())

    async def take_all(self) -> None:
        """Take the wanted files. Raises `CacheError` where the cache's disk takes no more."""
        for file, known in self._wanted.items():
            with self._counted(file.size_bytes):
                self._note(file.path, *await self._take(file, known))
        for one in self._partial:
            with self._counted(one.size_bytes):
                await self._go_on(take_blocks(one, self._cache, self._evictor), one.size_bytes)
                self._note(one.path, TAKEN, one.size_bytes)

    @contextmanager
    def _counted(self, count_bytes: int) -> Iterator[None]:
        """A file is being taken. Raises `CacheError` for an `OSError` of the cache's disk."""
        try:
            yield
        except OSError as error:
            raise CacheError(
                f"{self._cache.directory.parent} takes no more: {error.strerror or error}; {self._done} of"
                f" {len(self._wanted) + len(self._partial)} files are done: free some on that disk, and run it again"
            ) from error
        self._progress(count_bytes, count_bytes)
        self._done += 1
        self._done_bytes += count_bytes

    async def _go_on(self, steps: Generator[int], count_bytes: int) -> None:
        await take_steps(steps, lambda done_bytes: self._progress(done_bytes, count_bytes))

    async def _take(self, file: FoundFile, known: Recognised) -> tuple[str, int, str]:
        try:
            source = _open(file.path)
            try:
                return await self._take_open(source, file, known)
            finally:
                os.close(source)
        except SourceError as error:
            return UNREADABLE, file.size_bytes, str(error)

    async def _take_open(self, source: int, file: FoundFile, known: Recognised) -> tuple[str, int, str]:
        before = os.fstat(source)
        if self._is_in_place and (reason := why_not_believed(before, self._owners)):
            return REFUSED, file.size_bytes, reason
        right = await self._right_ones(source, known.candidates)
        if right and all(map(self._is_there, right)):
            return THERE, file.size_bytes, ""
        taken = await self._take_as(source, file, right)
        if taken:
            self._taken[file.path] = taken
            return TAKEN, file.size_bytes, ""
        if Seal.of(source) != Seal.of_status(before) or before.st_size != file.size_bytes:
            return WRONG, file.size_bytes, "it changed while it was read: import it again when nothing writes to it"
        return other_bytes(file, known)

    async def _right_ones(self, source: int, candidates: Sequence[Content]) -> Sequence[Content]:
        """Of several candidates those with the file's hash; a single one is found out about while it is copied."""
        if len(candidates) == 1:
            return candidates
        whole = hashlib.blake2b()
        for start in range(0, candidates[0].size_bytes, _HASHED_BYTES):
            whole.update(await trio.to_thread.run_sync(_read_source, source, start))
        return [content for content in candidates if content.file_hash == whole.hexdigest()]

    async def _take_as(self, source: int, file: FoundFile, contents: Sequence[Content]) -> list[Content]:
        """The contents that the cache has now: none where the bytes were others. Raises `OSError`."""
        taken: list[Content] = []
        for content in contents:
            one = await self._begin(source, file, content)
            await self._go_on(iter(one), file.size_bytes)
            if one.is_right:
                taken.append(content)
            elif not self._is_in_place:
                self._evictor.not_written(content.size_bytes)
        return taken

    async def _begin(self, source: int, file: FoundFile, content: Content) -> Adoption | Registration:
        if self._is_in_place:
            path = absolute(file.path)
            return Registration(self._cache, self._verdicts, self._digests, content, source, path=path)
        has_room = await trio.to_thread.run_sync(self._evictor.make_room, content.size_bytes)
        if not has_room and not self._is_shared:
            raise OSError(errno.ENOSPC, NO_RESERVE)
        return Adoption(self._cache, self._verdicts, self._digests, content, source)

    def _progress(self, done_bytes: int, most_bytes: int) -> None:
        self._reports.progress(self._done_bytes + min(done_bytes, most_bytes), self._total_bytes)

    def check_again(self) -> None:
        """Correct the findings of files that the cache has lost since: another process may have made it smaller."""
        for path, contents in self._taken.items():
            if not all(self._has(content) for content in contents):
                self._note(path, NOT_KEPT, self.findings[path].size_bytes, "evicted since: allow the cache more room")

    def _is_there(self, content: Content) -> bool:
        if content.content_id not in self._there and self._has(content):
            self._there[content.content_id] = content
        return content.content_id in self._there

    def _has(self, content: Content) -> bool:
        is_there = self._cache.is_whole(content)
        return is_there or (self._is_in_place and self._cache.cached_bytes(content) == content.size_bytes)

    def _note(self, path: Path, outcome: str, size_bytes: int, detail: str = "") -> None:
        self.findings[path] = Finding(str(path), outcome, size_bytes, detail)
        self._reports.show(self.findings[path])


def _open(path: Path) -> int:
    """Raises `SourceError`."""
    try:
        source = os.open(path, _OPEN)
    except OSError as error:
        raise SourceError(error.strerror) from error
    if stat.S_ISREG(os.fstat(source).st_mode):
        return source
    os.close(source)
    raise SourceError("not a regular file")


def _read_source(source: int, start: int) -> bytes:
    try:
        return os.pread(source, _HASHED_BYTES, start)
    except OSError as error:
        raise SourceError(error.strerror) from error


def _can_share(cache: BlockCache, path: Path) -> bool:
    """True also for what cannot be read: it is not taken at all."""
    try:
        source = _open(path)
    except SourceError:
        return True
    try:
        return can_share(cache, source)
    finally:
        os.close(source)
