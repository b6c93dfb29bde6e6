"""The servers that are asked before the dataset's bucket: a mirror, and site caches (mirror.py has one of them).

Of several site caches each content has an order, by rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping
Scheme for Rendezvous", 1996): all clients with the same list ask the same one for it first, and when one is away, its
contents alone go to others.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet, KnownDigests
from vbnfs.cache.verdict import Verdict
from vbnfs.objects import Content
from vbnfs.reading.mirror import Keep, Mirror, Work


class Mirrors:
    """`copies` of the bucket are asked first, then the site caches."""

    def __init__(self, copies: Sequence[Mirror], site_caches: Sequence[Mirror] = ()) -> None:
        self.all: Final = (*copies, *site_caches)
        self._copies = copies
        self._site_caches = site_caches

    @property
    def caches(self) -> list[BlockCache]:
        """Where the blocks are that they sent, and nothing has proven."""
        return [each.cache for each in self.all]

    def to_ask(self, content: Content, known: KnownDigests | None) -> Iterator[Mirror]:
        """Those that may have a content when their turn comes, the best first. `known` are the content's digests."""
        site_caches = sorted(self._site_caches, key=partial(_weight, content.content_id), reverse=True)
        yield from (each for each in (*self._copies, *site_caches) if each.may_have(content, known))

    def site_caches_report(self) -> list[dict[str, str | int | bool | None]]:
        """Of each its URL, how many blocks came from it, and why it failed (None: it has served since).

        `is_asked`: it does not rest now.
        """
        return [
            {"url": each.name, "blocks": each.blocks, "problem": each.problem, "is_asked": not each.is_resting}
            for each in self._site_caches
        ]

    async def refresh(self) -> set[str]:
        """The ids of contents that other processes have found wrong in one of them."""
        found = set[str]()
        for each in self.all:
            found |= await trio.to_thread.run_sync(each.verdicts.refresh)
        return found

    def reject(self, content: Content, found: Verdict) -> bool:
        """See `Mirror.reject`. False if nothing came from any of them. Call it from a thread."""
        rejected = [each.reject(content, found) for each in self.all]
        return any(rejected)

    async def hand_over(
        self, content: Content, digests: DigestSet, *, cache: BlockCache, keep: Keep, work: Work
    ) -> None:
        """See `Mirror.hand_over`."""
        for each in self.all:
            await each.hand_over(content, digests, cache=cache, keep=keep, work=work)


def _weight(content_id: str, server: Mirror) -> bytes:
    """How well a server suits a content: the greatest counts."""
    return blake2b(f"{server.name} {content_id}".encode(), digest_size=8).digest()
