"""Whole contents of which this mount has checked every block since it began, and whose files are the same since.

The kernel checks nothing that it reads by itself. So a whole content is read once in the background, from the first
time that it is opened. Hashing it counts as well. What was checked is known by its seal, which is compared whenever
the kernel is to read it: at once where no disk has to be asked, else in a thread. The check reads behind all other
readers of the disk, one file at a time, and takes half of a processor at most.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
import trio

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdict import fingerprint_of
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cache.whole_file import Seal, WholeFile
from vbnfs.host.idle_disk import reading_idly
from vbnfs.host.syncing import sync_data
from vbnfs.metrics import Metrics
from vbnfs.objects import Content

log = structlog.get_logger()

_T = TypeVar("_T")

_CHECKED_BLOCKS: Final = 8  # at a time: 2 MiB, half a millisecond of computing


async def _in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Wait for work that waits for the disk; it is abandoned at the end of the mount."""
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


class CheckedFiles:
    """Of one mount. With `trusts_cache` a seal that is stored with a good verdict counts as a check.

    Such a seal is compared when a content is opened for the first time, and in the background from then on.
    """

    def __init__(
        self, cache: BlockCache, verdicts: Verdicts, metrics: Metrics, *, trusts_cache: bool = False
    ) -> None:
        self._cache = cache
        self._verdicts = verdicts
        self._metrics = metrics
        self._trusts_cache = trusts_cache
        self._checked: dict[str, Seal] = {}  # by content id
        self._compared: set[str] = set()  # the ids of contents that `open` was asked for
        self._noticed: dict[str, Content] = {}  # in the order in which they are checked
        self._has_noticed = trio.Event()

    def has(self, content: Content) -> bool:
        """Whether a content was checked, and nothing is known against it since."""
        return content.content_id in self._checked and self._verdicts.bad(content) is None

    def may_have(self, content: Content) -> bool:
        """Whether `open` may give a content's file: it was checked, or its stored seal is still to be compared."""
        is_new = self._trusts_cache and content.content_id not in self._compared
        return self.has(content) or (is_new and self._verdicts.bad(content) is None)

    def open(self, content: Content) -> WholeFile | None:
        """The file of a content that was checked; None if it is another one by now. Call it in a thread."""
        with suppress(OSError):
            file = self._open(content)
            if file is not None and self._is_as_checked(content, file.seal()):
                return file
        self.forget(content.content_id)
        self._compared.add(content.content_id)
        return None

    def open_at_once(self, content: Content) -> WholeFile | None:
        """Like `open`, without waiting for the disk; None wherever `open` might have more to do."""
        descriptor = self._cache.open_whole_at_once(content) if self.has(content) else None
        if descriptor is None:
            return None
        file = WholeFile(descriptor)
        with suppress(OSError):
            return file if file.seal() == self._checked.get(content.content_id) else None
        return None

    def _is_as_checked(self, content: Content, seal: Seal) -> bool:
        checked = self._checked.get(content.content_id)
        if checked is None and self.may_have(content) and self._is_stored(content, seal):
            self.add(content, seal)
            return True
        return seal == checked

    def notice(self, content: Content) -> None:
        """Check a content soon, if it is whole."""
        self._noticed[content.content_id] = content
        self._has_noticed.set()

    def add(self, content: Content, seal: Seal) -> None:
        """All of a content was read and was right, while its file had this seal."""
        self._checked[content.content_id] = seal

    def forget(self, content_id: str) -> None:
        """Something is known against a content."""
        self._checked.pop(content_id, None)

    async def run(self) -> None:
        """Check what is noticed, until cancelled."""
        while True:
            await self._has_noticed.wait()
            while self._noticed:
                content = self._noticed.pop(next(iter(self._noticed)))
                await self.check(content)
            self._has_noticed = trio.Event()

    async def check(self, content: Content) -> None:
        """Check a content now, if it is whole and was not checked; what keeps it from that is logged."""
        try:
            await self._check(content)
        except OSError as error:
            log.info("a whole file cannot be checked now", object=str(content.source), reason=str(error))

    async def _check(self, content: Content) -> None:
        if self.has(content) or self._verdicts.bad(content) is not None:
            return
        file = await _in_thread(self._open, content)
        if file is None:
            return
        # A page of another program's mapping that is dirty already could change again without a new time.
        await _in_thread(sync_data, file.descriptor)
        await trio.sleep(file.seal().settles_in_seconds)
        if self.has(content):  # it was hashed meanwhile
            return
        seal = file.seal()
        if self._trusts_cache and await _in_thread(self._is_stored, content, seal):
            self.add(content, seal)
            return
        records: Sequence[bytes | None] = await _in_thread(list, self._cache.records(content))
        if await self._is_as_recorded(content, file, records) and file.seal() == seal:
            await _in_thread(self._store, content, seal)
            self.add(content, seal)

    async def _is_as_recorded(self, content: Content, file: WholeFile, records: Sequence[bytes | None]) -> bool:
        for first in range(0, len(records), _CHECKED_BLOCKS):
            began = time.monotonic()
            window = range(first, min(first + _CHECKED_BLOCKS, len(records)))
            wrong = await _in_thread(self._wrong_block, content, file, records, window)
            if wrong is not None:  # the cache sees to it, as for any reader
                await _in_thread(self._cache.checked_block, content, wrong)
                return False
            await trio.sleep(time.monotonic() - began)
        return True

    def _wrong_block(
        self, content: Content, file: WholeFile, records: Sequence[bytes | None], window: range
    ) -> int | None:
        """The first block of some that is not as it is recorded."""
        with reading_idly():
            for index in window:
                data = file.read(index * BLOCK_BYTES, BLOCK_BYTES)
                self._metrics.checked_bytes += len(data)
                if self._cache.record_of(content, index, data) != records[index]:
                    return index
        return None

    def _open(self, content: Content) -> WholeFile | None:
        descriptor = self._cache.open_whole(content)
        return None if descriptor is None else WholeFile(descriptor)

    def _is_stored(self, content: Content, seal: Seal) -> bool:
        """Whether another mount, or command, has hashed the file as it is, and found it good."""
        good = self._verdicts.good(content)
        if good is None or good.seal != seal.text:
            return False
        return good.fingerprint == fingerprint_of(self._cache.records(content))

    def _store(self, content: Content, seal: Seal) -> None:
        """Keep the seal with the verdict on the same blocks, for those who trust it."""
        good = self._verdicts.good(content)
        if good is not None and good.fingerprint == fingerprint_of(self._cache.records(content)):
            self._verdicts.store_seal(content, good, seal.text)
