"""The room that files need in the cache, and what there is: found out before anything is fetched or copied.

Figures of files leave out what the disk takes of them besides, such as their checksums.
"""

import os
import shlex
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.access.tree_files import Place
from vbnfs.amounts import size
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import Shape
from vbnfs.cache.eviction import DEFAULT_BYTES, stored_size
from vbnfs.cache.holdings import all_held
from vbnfs.cache.inventory import scan
from vbnfs.cache.pins import pinned_sizes
from vbnfs.cache.reserve import Reserve, space_of
from vbnfs.config.settings import GIB, MIB, Config
from vbnfs.errors import CacheError
from vbnfs.host.places import folder_at
from vbnfs.objects import Content

_ROUNDED_UP_BYTES: Final = 3 * 4096  # of a content: what the disk rounds up of its two files and its folder


@dataclass(frozen=True, slots=True)
class Purpose:
    """What contents are to come into the cache for: words of messages, and what else a user can do."""

    done: str
    brought: str
    otherwise: str


FETCHING: Final = Purpose("kept", "fetched", "name fewer files")
VERIFYING: Final = Purpose("verified", "fetched", "name fewer files")
IMPORTING: Final = Purpose("taken", "copied", "read them where they lie (--in-place)")


@dataclass(frozen=True, slots=True)
class Need:
    """What contents that are to be in the cache together take, in bytes.

    The cache lacks `missing_bytes` of them. Of those the disk has `shared_bytes` already, in files that the cache can
    share. `besides_bytes` are what the disk takes besides.
    """

    whole_bytes: int = 0
    missing_bytes: int = 0
    shared_bytes: int = 0
    besides_bytes: int = 0

    def __add__(self, other: "Need") -> "Need":
        return Need(
            self.whole_bytes + other.whole_bytes,
            self.missing_bytes + other.missing_bytes,
            self.shared_bytes + other.shared_bytes,
            self.besides_bytes + other.besides_bytes,
        )


def need_of(cache: BlockCache, contents: Iterable[Content], *, are_shared: bool = False) -> Need:
    """What whole contents need in a cache. `are_shared`: the disk has them in files that the cache can share."""
    contents, total = list(contents), Need()
    here = cache.cached_bytes_of(contents)
    for content in contents:
        total += Need(
            content.size_bytes,
            content.size_bytes - here[content.content_id],
            content.size_bytes if are_shared else 0,
            Shape(content.size_bytes).checksums_bytes + _ROUNDED_UP_BYTES,
        )
    return total


def need_of_blocks(count_bytes: int) -> Need:
    """What so many bytes of blocks need that the cache lacks."""
    return Need(count_bytes, count_bytes)


@dataclass(frozen=True, slots=True)
class Room:
    """What a cache takes and may take, and what its disk has free, `reserve_bytes` of it for others.

    `held_bytes` of the cache are for what is never deleted, whatever comes: what other things are pinned, and what
    other processes are just fetching. `is_pinned`: pins hold all that is wanted already.
    """

    where: Place
    limit_bytes: int
    usage_bytes: int
    free_bytes: int
    reserve_bytes: int
    held_bytes: int = 0
    is_pinned: bool = False
    is_read_only: bool = False

    @classmethod
    def of(cls, where: Place, wanted: Set[str] = frozenset()) -> "Room":
        """As it is now, for contents with the `wanted` ids. Raises `OSError`, and `PinError` for pins."""
        directory = folder_at(where.config.cache_dir)
        space, usage_bytes = space_of(directory), sum(one.allocated_bytes for one in scan(directory))
        reserve_bytes = Reserve(directory, where.config.cache_reserve_bytes).bytes_of(space)
        fetched = {one.content_id: one.allocated_bytes for one in all_held(directory) if one.is_fetched}
        pinned = pinned_sizes(directory)
        held_bytes = sum(size for one, size in (fetched | pinned).items() if one not in wanted)
        limit_bytes, is_pinned = limit_of(where.config), wanted <= pinned.keys()
        is_read_only = space.is_read_only or not os.access(where.config.cache_dir, os.W_OK)
        return cls(
            where, limit_bytes, usage_bytes, space.free_bytes, reserve_bytes, held_bytes, is_pinned, is_read_only
        )

    @property
    def left_bytes(self) -> int:
        """What the cache may take besides what is held."""
        return max(0, self.limit_bytes - self.held_bytes)

    def more_bytes(self, there_bytes: int) -> int:
        """How much of contents can come and be kept, of which so many bytes are there."""
        free_bytes = max(0, self.free_bytes - self.reserve_bytes)
        if self.reserve_bytes:  # for which anything else is evicted
            free_bytes += max(0, self.usage_bytes - there_bytes - self.held_bytes)
        elif free_bytes >= max(0, self.limit_bytes - self.usage_bytes):  # the rest is what eviction frees
            free_bytes = self.limit_bytes
        return max(0, min(free_bytes, self.left_bytes - there_bytes))

    def why_not(self, need: Need, purpose: Purpose, *, is_pin: bool = False) -> str | None:
        """Why not all of it can be kept, and the remedy; None if it can. `is_pin`: it is to be pinned."""
        is_more = need.missing_bytes or (is_pin and not self.is_pinned)  # than what is there and held
        where = self.where.config.cache_dir
        if is_more and self.is_read_only:
            return (
                f"{size(need.missing_bytes)} are to be {purpose.brought}, but {where} cannot be written: allow"
                " writing there, or choose another --cache-dir"
            )
        if is_more and need.whole_bytes > self.left_bytes:
            wanted_bytes = need.whole_bytes + need.besides_bytes + self.held_bytes
            remedy = self.where.remedy_for_size.format(_rounded_up(wanted_bytes))
            held = f", of which {size(self.held_bytes)} are pinned or being fetched" if self.held_bytes else ""
            return (
                f"{size(need.whole_bytes)} of files are to be {purpose.done}, but the cache in"
                f" {where} may take {size(self.limit_bytes)}{held}: {remedy}, or"
                f" {purpose.otherwise}"
            )
        free_bytes = max(0, self.free_bytes - self.reserve_bytes)
        if self._to_find_bytes(need) - need.shared_bytes > free_bytes:
            beside = f" besides the reserve of {size(self.reserve_bytes)}" if self.reserve_bytes else ""
            return (
                f"{size(need.missing_bytes)} are to be {purpose.brought}, but the disk of"
                f" {where} has {size(free_bytes)} free{beside}: free some, choose another"
                f" --cache-dir, or {purpose.otherwise}"
            )
        return None

    def _to_find_bytes(self, need: Need) -> int:
        """How much of the disk has to be free, but for what eviction frees."""
        if self.reserve_bytes:  # for which anything else is evicted
            there_bytes = need.whole_bytes - need.missing_bytes
            return need.missing_bytes - max(0, self.usage_bytes - there_bytes - self.held_bytes)
        return min(need.missing_bytes, max(0, self.limit_bytes - self.usage_bytes))


def check_room(where: Place, need: Need, purpose: Purpose, wanted: Set[str] = frozenset()) -> None:
    """Raise `CacheError` where not all of it can be kept, of contents with the `wanted` ids."""
    if (reason := Room.of(where, wanted).why_not(need, purpose)) is not None:
        raise CacheError(f"{reason}; nothing was {purpose.brought}")


def limit_of(config: Config) -> int:
    """What the cache may take."""
    return config.cache_size_bytes or stored_size(config.cache_dir, DEFAULT_BYTES)


def _rounded_up(size_bytes: int) -> str:
    """As `--cache-size` takes it."""
    unit, suffix = (MIB, "M") if size_bytes < 10 * GIB else (GIB, "G")
    return f"{-(-size_bytes // unit)}{suffix}"


def raise_the_size_of(cache_dir: Path) -> str:
    """How to let a cache be of size `{}`, if its stored size holds."""
    folder = shlex.quote(str(cache_dir)).replace("{", "{{").replace("}", "}}")
    return f"'vbnfs clean --cache-size {{}} --cache-dir {folder}' lets it take more"
