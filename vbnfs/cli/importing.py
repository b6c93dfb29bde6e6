"""What `vbnfs import` does: files of the dataset that are on this machine already come into the cache.

A file is recognised by its name or its size, and believed by its hash alone (cache/adoption.py). What is whole in the
cache is not read again: so an import that was interrupted goes on where it was.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from vbnfs.access.dataset import Dataset, open_dataset
from vbnfs.access.versions import load_versions
from vbnfs.cache.adoption import Adoption, SourceError, can_share
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.cli.asked import Place
from vbnfs.cli.found_files import Found, FoundFile, Recognised, Recogniser, find_files, without_repeats
from vbnfs.cli.render import size
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.cli.verify import IMPORTING, check_room
from vbnfs.errors import CacheError, DatasetError, NotVerifiedError
from vbnfs.host.mountinfo import absolute, list_mounts
from vbnfs.objects import Content

TAKEN: Final = "taken"
WOULD_TAKE: Final = "would take"  # by its name or size; only its hash will show what it is
THERE: Final = "there"  # the cache has it
WRONG: Final = "wrong"  # the name of a file of the dataset, and other bytes
NO_HASH: Final = "no hash"  # in the manifest
UNKNOWN: Final = "unknown"  # not of the dataset
UNREADABLE: Final = "unreadable"
NOT_KEPT: Final = "not kept"  # taken, and gone again

OF_INTEREST: Final = frozenset({WRONG, NO_HASH, UNREADABLE, NOT_KEPT, WOULD_TAKE})  # also to a person in a hurry
_BAD: Final = frozenset({WRONG, UNREADABLE, NOT_KEPT})
_HASHED_BYTES: Final = 4 << 20
_OPEN: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe that took the file's place holds nothing up
_REMEDY: Final = "it was cut short or changed: delete it, and read the file through vbnfs"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file. `outcome` is one of the words above, `detail` the reason where there is one."""

    path: str
    outcome: str
    size_bytes: int
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding with its fields' names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reports:
    """What is called on the way: `show` with each finding, `progress` with how many bytes are done and are to be."""

    show: Callable[[Finding], None]
    progress: Callable[[int, int], None]


def run(where: Place, folder: Path, *, dry_run: bool, reports: Reports) -> tuple[Finding, ...]:
    """Take into the cache what a folder, or file, has of the dataset; with `dry_run`, find out what that would be.

    Raises `DatasetError` for a folder that cannot be imported, `CacheError` where there is no room, or the disk takes
    no more. What was taken by then stays.
    """
    return run_to_the_end(partial(_import, where, folder, dry_run=dry_run, reports=reports))


async def _import(where: Place, folder: Path, *, dry_run: bool, reports: Reports) -> tuple[Finding, ...]:
    top = check_folder(folder, cache_dir=where.config.cache_dir)
    async with open_dataset(where.config) as dataset:
        versions = await load_versions(dataset)
        await versions.learn_sizes(file for manifest in versions.release.manifests for file in manifest.files)
        leave_out = absolute(where.config.cache_dir)
        found = await trio.to_thread.run_sync(partial(find_files, top, leave_out=leave_out))
        work = _Import(where, dataset, reports)
        recogniser = await trio.to_thread.run_sync(Recogniser, versions)
        await trio.to_thread.run_sync(work.sort, found, recogniser)
        if not dry_run:
            await trio.to_thread.run_sync(work.check_room)
            await work.take_all()
            await trio.to_thread.run_sync(work.check_again)
        else:
            work.name_wanted()
        return tuple(work.findings.values())


def check_folder(folder: Path, *, cache_dir: Path) -> Path:
    """The folder without links in its path. Raises `DatasetError` for one that nothing can be taken from."""
    top = absolute(folder)
    for entry in list_mounts():
        if top.is_relative_to(entry.mountpoint):
            raise DatasetError(
                f"{folder}: in the mount {entry.mountpoint}, which has its files from the cache;"
                f" 'vbnfs verify --fetch {folder}' completes them there"
            )
    if top.is_relative_to(absolute(cache_dir)):
        raise DatasetError(f"{folder}: the cache itself, of which nothing needs to be taken; name another folder")
    if not os.path.lexists(top):
        raise DatasetError(
            f"{folder}: no such folder; name one with files of the dataset, such as AllenSDK's cache_dir"
        )
    return top


class _Import:
    """The files that were found, sorted, and then taken one after the other."""

    def __init__(self, where: Place, dataset: Dataset, reports: Reports) -> None:
        self.findings: dict[Path, Finding] = {}
        self._where, self._reports = where, reports
        self._cache, self._verdicts = dataset.cache, dataset.verdicts
        limit_bytes = where.config.cache_size_bytes
        self._evictor = Evictor(where.config.cache_dir, limit_bytes=limit_bytes, metrics=dataset.metrics)
        self._wanted: dict[FoundFile, Recognised] = {}
        self._there: dict[str, Content] = {}
        self._taken: dict[Path, list[Content]] = {}
        self._done_bytes = 0

    def sort(self, found: Found, recogniser: Recogniser) -> None:
        """Which files are wanted, and which are not: without reading any."""
        for path, reason in found.unreadable:
            self._note(path, UNREADABLE, 0, reason)
        for file in found.files:
            known = recogniser.recognise(file)
            if known.candidates and not all(map(self._is_there, known.candidates)):
                self._wanted[file] = known
            else:
                self._note(file.path, *_unwanted(file, known))

    def name_wanted(self) -> None:
        """Say what would be taken."""
        for file in self._wanted:
            self._note(file.path, WOULD_TAKE, file.size_bytes)

    def check_room(self) -> None:
        """Raise `CacheError` if not all that is wanted can be kept."""
        chosen = without_repeats(self._wanted.values(), self._is_there)
        self._total_bytes = sum(file.size_bytes for file in self._wanted)
        if chosen:
            shared_bytes = sum(c.size_bytes for c in chosen.values()) if self._are_shared() else 0
            contents = (*chosen.values(), *self._there.values())
            check_room(self._where, self._cache, contents, purpose=IMPORTING, shared_bytes=shared_bytes)

    def _are_shared(self) -> bool:
        """Whether the cache can have the files by reflinks, as far as one of each file system shows."""
        samples: dict[int, Path] = {}
        for file in self._wanted:
            with suppress(OSError):
                samples.setdefault(file.path.stat().st_dev, file.path)
        return all(_can_share(self._cache, path) for path in samples.values())

    async def take_all(self) -> None:
        """Take the wanted files. Raises `CacheError` where the cache's disk takes no more."""
        for number, (file, known) in enumerate(self._wanted.items()):
            try:
                self._note(file.path, *await self._take(file, known))
            except OSError as error:
                raise CacheError(
                    f"{self._cache.directory.parent} takes no more: {error.strerror}; {number} of"
                    f" {len(self._wanted)} files are done: free some on that disk, and run it again"
                ) from error
            finally:
                self._progress(file.size_bytes, file.size_bytes)
                self._done_bytes += file.size_bytes

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
        right = await self._right_ones(source, known.candidates)
        if right and all(map(self._is_there, right)):
            return THERE, file.size_bytes, ""
        taken = await self._take_as(source, file, right)
        if taken:
            self._taken[file.path] = taken
            return TAKEN, file.size_bytes, ""
        if _times(os.fstat(source)) != _times(before) or before.st_size != file.size_bytes:
            return WRONG, file.size_bytes, "it changed while it was read: import it again when nothing writes to it"
        return _other_bytes(file, known)

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
            await trio.to_thread.run_sync(self._evictor.make_room, content.size_bytes)
            adoption = Adoption(self._cache, self._verdicts, content, source)
            steps = iter(adoption)
            try:
                while (done := await trio.to_thread.run_sync(next, steps, None)) is not None:
                    self._progress(done, file.size_bytes)
            finally:
                steps.close()
            if adoption.is_right:
                taken.append(content)
            else:
                self._evictor.not_written(content.size_bytes)
        return taken

    def _progress(self, done_bytes: int, most_bytes: int) -> None:
        self._reports.progress(self._done_bytes + min(done_bytes, most_bytes), self._total_bytes)

    def check_again(self) -> None:
        """Correct the findings of files that the cache has lost since: another process may have made it smaller."""
        for path, contents in self._taken.items():
            if not all(self._cache.is_whole(content) for content in contents):
                self._note(path, NOT_KEPT, self.findings[path].size_bytes, "evicted since: allow the cache more room")

    def _is_there(self, content: Content) -> bool:
        if content.content_id not in self._there and self._cache.is_whole(content):
            self._there[content.content_id] = content
        return content.content_id in self._there

    def _note(self, path: Path, outcome: str, size_bytes: int, detail: str = "") -> None:
        self.findings[path] = Finding(str(path), outcome, size_bytes, detail)
        self._reports.show(self.findings[path])


def _unwanted(file: FoundFile, known: Recognised) -> tuple[str, int, str]:
    if known.candidates:
        return THERE, file.size_bytes, ""
    if any(content.size_bytes == file.size_bytes for content in known.names):
        return NO_HASH, file.size_bytes, "the manifest has no hash of it, so nothing would prove it"
    return _other_bytes(file, known)


def _other_bytes(file: FoundFile, known: Recognised) -> tuple[str, int, str]:
    if not known.names:
        return UNKNOWN, file.size_bytes, ""
    sizes = sorted({content.size_bytes for content in known.names})
    if file.size_bytes in sizes:
        return WRONG, file.size_bytes, f"its bytes are not the released ones: {_REMEDY}"
    released = " or ".join(f"{size_bytes:,}" for size_bytes in sizes)
    return WRONG, file.size_bytes, f"{file.size_bytes:,} bytes, the released file has {released}: {_REMEDY}"


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


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


# The end


def summary(findings: Sequence[Finding]) -> str:
    """A line: how many files became what, and how many bytes those are."""
    counts = Counter(finding.outcome for finding in findings)
    parts = [f"{count} {outcome}{_bytes_of(findings, outcome)}" for outcome, count in sorted(counts.items())]
    return f"{len(findings)} files: {', '.join(parts) or 'none'}"


def _bytes_of(findings: Sequence[Finding], outcome: str) -> str:
    if outcome not in {TAKEN, WOULD_TAKE, THERE}:
        return ""
    return f" ({size(sum(one.size_bytes for one in findings if one.outcome == outcome))})"


def check_any(findings: Sequence[Finding], folder: Path) -> None:
    """Raise `DatasetError` where no file is of the dataset."""
    if all(finding.outcome == UNKNOWN for finding in findings):
        raise DatasetError(
            f"{folder}: none of its {len(findings)} files is of this dataset: name its dataset by --dataset"
        )


def check(findings: Sequence[Finding]) -> None:
    """Raise `NotVerifiedError` for files that should be in the cache and are not."""
    bad = [finding for finding in findings if finding.outcome in _BAD]
    if bad:
        raise NotVerifiedError(f"{len(bad)} of {len(findings)} files are not in the cache; each is named above")
