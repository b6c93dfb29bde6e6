"""What `vbnfs import` does: files of the dataset that are on this machine already come into the cache.

A file is recognised by its name or its size, and believed by its hash alone (cache/adoption.py). What is whole in the
cache is not read again: so an import that was interrupted goes on where it was.
"""

import errno
import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.opening import make_cache, scope_of
from vbnfs.access.room import IMPORTING, check_room
from vbnfs.access.tree_files import Place
from vbnfs.cache.adoption import Adoption, Registration, SourceError
from vbnfs.cache.in_place import make_in_place
from vbnfs.cache.whole_file import Seal
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.found_files import FoundFile, Recognised, Recogniser, check_folder, find_files
from vbnfs.cli.import_exported import ExportedFolder, exported_folder, load_with, take_sets
from vbnfs.cli.import_findings import (
    NOT_KEPT,
    TAKEN,
    THERE,
    UNREADABLE,
    WRONG,
    Imported,
    Reports,
    other_bytes,
)
from vbnfs.cli.import_plan import Plan, open_source
from vbnfs.cli.partial_files import NO_RESERVE, take_blocks
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.steps import take_steps
from vbnfs.errors import CacheError
from vbnfs.host.mountinfo import absolute
from vbnfs.host.places import folder_at
from vbnfs.host.positioned import read_at
from vbnfs.objects import Content

_HASHED_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Ways:
    """How to import: with `dry_run` only what would be taken is found out; `in_place`: files are not copied."""

    dry_run: bool = False
    in_place: bool = False


def run(where: Place, folder: Path, *, ways: Ways, reports: Reports) -> Imported:
    """Take into the cache what a folder, or file, has of the dataset.

    Raises `DatasetError` for a folder that cannot be imported, `CacheError` where there is no room, or the disk takes
    no more. What was taken by then stays.
    """
    return run_to_the_end(partial(_import, where, folder, ways, reports))


async def _import(where: Place, folder: Path, ways: Ways, reports: Reports) -> Imported:
    top = check_folder(folder, cache_dir=where.config.cache_dir)
    async with open_dataset(where.config) as dataset:
        reading = partial(exported_folder, top, where.config)
        exported = await trio.to_thread.run_sync(reading, abandon_on_cancel=True)
        versions = await load_with(dataset, exported)
        await versions.learn_sizes(file for manifest in versions.release.manifests for file in manifest.files)
        leave_out = {absolute(where.config.cache_dir)} | (set() if exported is None else {exported.ours})
        find = partial(find_files, top, leave_out=leave_out)
        found = await trio.to_thread.run_sync(find, abandon_on_cancel=True)
        work = await trio.to_thread.run_sync(_Import, where, dataset, ways, reports)
        recogniser = await trio.to_thread.run_sync(Recogniser, versions)
        await trio.to_thread.run_sync(work.plan.sort, found, recogniser, abandon_on_cancel=True)
        if ways.dry_run:
            problem = await trio.to_thread.run_sync(work.plan.name_wanted)
            return Imported(tuple(work.findings.values()), problem)
        await trio.to_thread.run_sync(work.check_room)
        await work.take_all()
        await trio.to_thread.run_sync(work.check_again)
        if exported is not None:
            await trio.to_thread.run_sync(work.take_sets, exported)
        return Imported(tuple(work.findings.values()))


class _Import:
    """The files that are wanted, taken one after the other."""

    def __init__(self, where: Place, dataset: Dataset, ways: Ways, reports: Reports) -> None:
        self.findings: dict[Path, Finding] = {}
        self._where, self._reports = where, reports
        self._cache, self._verdicts = dataset.cache, dataset.verdicts
        self._is_in_place = ways.in_place
        if ways.in_place and not ways.dry_run:
            make_in_place(folder_at(where.config.cache_dir), scope_of(where.config))
            self._cache = make_cache(where.config, dataset.metrics, dataset.digests)
        self.plan: Final = Plan(where, self._cache, dataset.digests, self._note, is_in_place=ways.in_place)
        self._evictor, self._digests = dataset.make_evictor(), dataset.digests
        self._taken: dict[Path, list[Content]] = {}
        self._done = self._done_bytes = 0

    def check_room(self) -> None:
        """Raise `CacheError` if not all that is wanted can be kept."""
        needs = self.plan.needs()
        self._is_shared = needs.are_shared
        self._total_bytes = sum(one.size_bytes for one in needs.wanted)
        check_room(self._where, needs.total, IMPORTING)

    async def take_all(self) -> None:
        """Take the wanted files. Raises `CacheError` where the cache's disk takes no more."""
        for file, known in self.plan.wanted.items():
            with self._counted(file.size_bytes):
                self._note(file.path, *await self._take(file, known))
        for one in self.plan.partial:
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
                f" {len(self.plan.wanted) + len(self.plan.partial)} files are done: free some on that disk, and run"
                " it again"
            ) from error
        self._progress(count_bytes, count_bytes)
        self._done += 1
        self._done_bytes += count_bytes

    async def _go_on(self, steps: Generator[int], count_bytes: int) -> None:
        await take_steps(steps, lambda done_bytes: self._progress(done_bytes, count_bytes))

    async def _take(self, file: FoundFile, known: Recognised) -> tuple[str, int, str]:
        try:
            source = open_source(file.path)
            try:
                return await self._take_open(source, file, known)
            finally:
                os.close(source)
        except SourceError as error:
            return UNREADABLE, file.size_bytes, str(error)

    async def _take_open(self, source: int, file: FoundFile, known: Recognised) -> tuple[str, int, str]:
        before = os.fstat(source)
        if (refusal := self.plan.refusal(before, file)) is not None:
            return refusal
        right = await self._right_ones(source, known.candidates)
        if right and all(map(self.plan.is_there, right)):
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
            if not all(self.plan.has(content) for content in contents):
                self._note(path, NOT_KEPT, self.findings[path].size_bytes, "evicted since: allow the cache more room")

    def take_sets(self, exported: ExportedFolder) -> None:
        """Take what an exported folder has besides its files."""
        for finding in take_sets(exported, self._where.config):
            self._note(Path(finding.path), finding.outcome, finding.size_bytes, finding.detail)

    def _note(self, path: Path, outcome: str, size_bytes: int, detail: str = "") -> None:
        self.findings[path] = Finding(str(path), outcome, size_bytes, detail)
        self._reports.show(self.findings[path])


def _read_source(source: int, start: int) -> bytes:
    try:
        return read_at(source, _HASHED_BYTES, start)
    except OSError as error:
        raise SourceError(error.strerror) from error
