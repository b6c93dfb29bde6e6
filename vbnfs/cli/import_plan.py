"""What an import is to take: the files that were found, sorted without reading any, and the room that they need."""

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.access.other_caches import trusted_uids
from vbnfs.access.room import IMPORTING, Need, Room, need_of, need_of_blocks
from vbnfs.access.tree_files import Place
from vbnfs.cache.adoption import SourceError, can_share
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.in_place import why_not_believed
from vbnfs.cli.found_files import Found, FoundFile, Recognised, Recogniser, without_repeats
from vbnfs.cli.import_findings import LEFT_OUT, NO_ROOM, REFUSED, THERE, UNREADABLE, WOULD_TAKE, unwanted
from vbnfs.cli.partial_files import PartialFile, partial_files
from vbnfs.errors import CacheError
from vbnfs.host.folders import flags_of
from vbnfs.objects import Content

_OPEN: Final = os.O_RDONLY | flags_of("NONBLOCK", "BINARY")  # a pipe that took the file's place holds nothing up

Note = Callable[[Path, str, int, str], None]  # a file, what became of it, its size and the reason


@dataclass(frozen=True, slots=True)
class Needs:
    """The room for what is `wanted`, beside what is `there` already of the same dataset."""

    there: Need
    wanted: Mapping[FoundFile | PartialFile, Need]
    are_shared: bool

    @property
    def total(self) -> Need:
        """That of all of it."""
        return sum(self.wanted.values(), self.there)


class Plan:
    """The files that are `wanted`, and those of which blocks are. `note` gets each other file, as it is found."""

    def __init__(
        self, where: Place, cache: BlockCache, digests: DigestStore, note: Note, *, is_in_place: bool
    ) -> None:
        self.wanted: Final[dict[FoundFile, Recognised]] = {}
        self.partial: Final[list[PartialFile]] = []
        self.owners: Final = trusted_uids(where.config)
        self._where, self._cache, self._digests, self._note = where, cache, digests, note
        self._is_in_place = is_in_place
        self._there: dict[str, Content] = {}

    def sort(self, found: Found, recogniser: Recogniser) -> None:
        """Which files are wanted, and which are not."""
        for path, reason in found.unreadable:
            self._note(path, UNREADABLE, 0, reason)
        for file in found.files:
            known = recogniser.recognise(file)
            if known.candidates and not all(map(self.is_there, known.candidates)):
                self.wanted[file] = known
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
            self.partial.append(one)
        else:
            self._note(one.path, THERE, 0, "")

    def name_wanted(self) -> str | None:
        """Note what would be taken, and what has no room. Returns why nothing would be, if there is too little."""
        room, needs = Room.of(self._where), self.needs()
        kept = needs.there
        for one, need in needs.wanted.items():
            has_room = room.why_not(kept + need, IMPORTING) is None
            kept = kept + need if has_room else kept
            refusal = self._refusal(one) if isinstance(one, FoundFile) else None
            self._note(one.path, *(refusal or (WOULD_TAKE if has_room else NO_ROOM, one.size_bytes, "")))
        return room.why_not(needs.total, IMPORTING)

    def _refusal(self, file: FoundFile) -> tuple[str, int, str] | None:
        """What becomes of a file that would be refused before it is read; None if it would not be."""
        try:
            source = open_source(file.path)
        except SourceError as error:
            return UNREADABLE, file.size_bytes, str(error)
        try:
            return self.refusal(os.fstat(source), file)
        finally:
            os.close(source)

    def refusal(self, status: os.stat_result, file: FoundFile) -> tuple[str, int, str] | None:
        """What becomes of a file that is not to be read in place, though that is wanted; None for any other."""
        reason = why_not_believed(status, self.owners) if self._is_in_place else None
        return None if reason is None else (REFUSED, file.size_bytes, reason)

    def needs(self) -> Needs:
        """The room for all of it. Files that are read in place need none."""
        are_shared, there = self._are_shared(), Need()
        wanted: dict[FoundFile | PartialFile, Need] = dict.fromkeys(self.wanted, there)
        if not self._is_in_place:
            for file, content in without_repeats(self.wanted, self.is_there).items():
                wanted[file] = need_of(self._cache, [content], are_shared=are_shared)
            there = need_of(self._cache, self._there.values())
        wanted |= {one: need_of_blocks(one.size_bytes) for one in self.partial}
        return Needs(there, wanted, are_shared)

    def _are_shared(self) -> bool:
        """Whether the cache can have the files by reflinks, as far as one of each file system shows."""
        samples: dict[int, Path] = {}
        for file in self.wanted:
            with suppress(OSError):
                samples.setdefault(file.path.stat().st_dev, file.path)
        return all(_can_share(self._cache, path) for path in samples.values())

    def is_there(self, content: Content) -> bool:
        """Whether the cache has all of a content."""
        if content.content_id not in self._there and self.has(content):
            self._there[content.content_id] = content
        return content.content_id in self._there

    def has(self, content: Content) -> bool:
        """The same, as it is now."""
        is_there = self._cache.is_whole(content)
        return is_there or (self._is_in_place and self._cache.cached_bytes(content) == content.size_bytes)


def open_source(path: Path) -> int:
    """A descriptor of a file that may be taken, which the caller closes. Raises `SourceError`."""
    try:
        source = os.open(path, _OPEN)
    except OSError as error:
        raise SourceError(error.strerror) from error
    if stat.S_ISREG(os.fstat(source).st_mode):
        return source
    os.close(source)
    raise SourceError("not a regular file")


def _can_share(cache: BlockCache, path: Path) -> bool:
    """True also for what cannot be read: it is not taken at all."""
    try:
        source = open_source(path)
    except SourceError:
        return True
    try:
        return can_share(cache, source)
    finally:
        os.close(source)
