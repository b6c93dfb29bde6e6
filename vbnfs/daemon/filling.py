"""What a mount does for a command that wants files in the cache, or portions: it brings them, behind its readers.

What is complete then is hashed. The asking end is access/mount_filling.py, which has the format. What the mount does
not know is passed over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import trio

from vbnfs.access.mount_filling import blocks_wanted
from vbnfs.blocks import Portion
from vbnfs.cache.block_cache import BlockCache
from vbnfs.daemon.control import Report
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.tree import DataNode, Tree
from vbnfs.errors import StorageError
from vbnfs.figures import Fill
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.filling import Filler
from vbnfs.reading.verification import Verifier

_REPORT_SECONDS: Final = 0.25
_MOST: Final = 4  # such works at a time: they share what readers leave


class Filling:
    """Such works, of the files of the tree that `tree` gives."""

    def __init__(
        self,
        cache: BlockCache,
        source: BlockSource,
        verifier: Verifier,
        catalog: Catalog,
        *,
        tree: Callable[[], Tree],
    ) -> None:
        self._cache, self._source, self._verifier, self._catalog = cache, source, verifier, catalog
        self._tree = tree
        self._works: list[_Done] = []

    async def fill(self, question: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
        """Bring the contents that a question names, and report how far it is. Raises `ValueError` where it cannot."""
        wanted = question.get("contents")
        if not isinstance(wanted, list) or len(self._works) >= _MOST:
            raise ValueError("no contents are named, or too many such works go on already")
        self._works.append(done := _Done())
        try:
            return await self._fill(dict(map(blocks_wanted, wanted)), done, report)
        finally:
            self._works.remove(done)

    def rows(self) -> list[Fill]:
        """How far each of these works is."""
        return [Fill(one.files, one.done_files, one.count_bytes, one.done_bytes) for one in self._works]

    async def _fill(
        self, wanted: Mapping[str, Sequence[int] | None], done: "_Done", report: Report
    ) -> Mapping[str, Any]:
        named = await trio.to_thread.run_sync(lambda: dict(_named(self._tree(), frozenset(wanted))))
        found = [await self._portion(named[one], blocks) for one, blocks in wanted.items() if one in named]
        portions = [one for one in found if one is not None]
        done.files = len(portions)
        done.count_bytes = await trio.to_thread.run_sync(self._missing_bytes, portions, abandon_on_cancel=True)
        async with trio.open_nursery() as reporting:
            reporting.start_soon(_report_at_times, done, report)
            async with trio.open_nursery() as judging:
                filler = Filler(
                    self._cache,
                    self._source,
                    on_came=done.add,
                    on_filled=lambda content: judging.start_soon(self._judge, done, content),
                )
                await filler.fill(portions)
            reporting.cancel_scope.cancel()
        return {"is_over": True, **done.taken()}

    async def _judge(self, done: "_Done", content: Content) -> None:
        await self._verifier.judged(content)
        done.note_filled(content.content_id)

    def _missing_bytes(self, portions: Iterable[Portion]) -> int:
        missing = (Portion(one.content, self._cache.missing(one.content, one.blocks)) for one in portions)
        return sum(one.count_bytes for one in missing)

    async def _portion(self, named: NamedContent, blocks: Sequence[int] | None) -> Portion | None:
        """None where its size cannot be had."""
        try:
            whole = Portion.whole(named.with_attributes(await self._catalog.sizes.fetch(named)))
        except StorageError:
            return None
        if blocks is None:
            return whole
        return Portion(whole.content, [one for one in blocks if one < len(whole.blocks)])


class _Done:
    """What has come of a work, in all and since it was reported last; of so many files and missing bytes."""

    def __init__(self) -> None:
        self.files = self.count_bytes = self.done_files = self.done_bytes = 0
        self.came_bytes = 0
        self.filled: list[str] = []

    def add(self, count_bytes: int) -> None:
        """So many bytes have come."""
        self.came_bytes += count_bytes
        self.done_bytes += count_bytes

    def note_filled(self, content_id: str) -> None:
        """A content is done with."""
        self.filled.append(content_id)
        self.done_files += 1

    def taken(self) -> dict[str, Any]:
        """It, as it is reported; nothing of it is reported again."""
        found = {"came_bytes": self.came_bytes, "filled": self.filled}
        self.came_bytes, self.filled = 0, []
        return found


async def _report_at_times(done: _Done, report: Report) -> None:
    while True:
        await report(done.taken())
        await trio.sleep(_REPORT_SECONDS)


def _named(tree: Tree, wanted: frozenset[str]) -> Iterator[tuple[str, NamedContent]]:
    for node in tree.nodes.values():
        if isinstance(node, DataNode) and node.content.content_id in wanted:
            yield node.content.content_id, node.content
