"""What another process on the same cache is fetching is waited for, not fetched again.

A fetch goes in rounds. In each round it claims those of its blocks that no other process has claimed. Claimed blocks
that have meanwhile come to the disk are read from there; the others are the caller's to fetch. Then the rest is tried
again, until nothing is left: the process that had claimed it has brought it, or has died, or has taken so long that
it is not waited for any more.
"""

import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.host_claims import PULSE_SECONDS, HostClaims, Pulse
from vbnfs.cache.stored_blocks import block_range
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.planner import plan_gets

_PATIENCE_SECONDS: Final = 2.0  # then one of the processes that wait fetches as well ...
_MOST_PATIENCE_SECONDS: Final = 6.0  # ... and then all of them
_HOSTS_SECONDS: Final = 10.0  # ... but for one on another host, perhaps, that is seen to be at work
_FIRST_WAIT_SECONDS: Final = 0.005
_LONGEST_WAIT_SECONDS: Final = 0.05
_LOOKS: Final = 4  # at a pulse, until patience ends
_GIVING_BACK_SECONDS: Final = 1.0  # how long a fetch that has been cancelled waits for a file system that hangs


@dataclass(frozen=True, slots=True)
class Round:
    """Blocks that were found on the disk, and runs of blocks to fetch now."""

    found: dict[int, bytes]
    runs: tuple[range, ...]


@dataclass(slots=True)
class _Wait:
    """For a process that has claimed blocks; seconds."""

    began: float = field(default_factory=trio.current_time)
    patience: float = 0.0  # so much of it was needed since the process was seen to be at work
    next_seconds: float = _FIRST_WAIT_SECONDS
    looks_at: float = 0.0  # with so much patience needed, its pulse is looked at
    seen: Pulse | None = None


class SharedFetches:
    """Fetches that are shared with the other processes on the same cache, by `claims`.

    `may_wait`: a lock may wait for the network; the event loop then asks for none. `patience`: how many times as long
    as usual others are waited for.
    """

    def __init__(
        self,
        claims: Claims | HostClaims,
        cache: BlockCache,
        *,
        may_wait: bool,
        metrics: Metrics,
        patience: float = 1.0,
    ) -> None:
        self._claims = claims
        self._cache = cache
        self._metrics = metrics
        self._may_wait = may_wait
        self._patience = patience
        self._silent: dict[str, float] = {}  # processes that were waited for too long, and when they were seen last
        self._owed: list[tuple[Content, Sequence[int]]] = []  # to be given back as soon as there is a thread

    async def rounds(self, content: Content, indices: range) -> AsyncGenerator[Round]:
        """What to do about adjacent blocks: each of them is in one of the rounds.

        Their claims are given back by `drop` when they are on the disk, or by `drop_all` when they will not come
        to the writer.
        """
        if not self._may_wait and self._claims.is_alone:
            self._claims.take(content.content_id, indices)
            yield Round({}, (indices,))
            return
        left, wait = list(indices), _Wait()
        while left:
            taken = await self._take(content, left, wait.patience / self._patience)
            if taken:
                left = [index for index in left if index not in taken]
                wait = _Wait()  # a process that brings one block after the other is not slow, however many there are
                yield await self._round(content, taken)
            if left and (found := await self._come_meanwhile(content, left)):
                left = [index for index in left if index not in found]
                yield Round(found, ())
            if left:
                await self._wait(content, left[0], wait)

    async def _wait(self, content: Content, index: int, wait: "_Wait") -> None:
        """Sleep, between two looks at what another process has claimed."""
        await trio.sleep(wait.next_seconds)
        # Not what the disk took to answer: where it keeps this process waiting, it may others.
        wait.patience += wait.next_seconds
        wait.next_seconds = min(2 * wait.next_seconds, _LONGEST_WAIT_SECONDS)
        if isinstance(self._claims, HostClaims) and wait.patience >= wait.looks_at:
            self._note(await self._pulse(content, index), wait)
            wait.looks_at = wait.patience + _PATIENCE_SECONDS / _LOOKS

    def _note(self, pulse: Pulse | None, wait: "_Wait") -> None:
        """A pulse that changes is of a process at work. One that was given up before is not waited for again."""
        if pulse is None:
            return
        name, at = pulse
        most = _PATIENCE_SECONDS * self._patience
        if self._silent.get(name) == at:
            wait.patience = max(wait.patience, most + _LONGEST_WAIT_SECONDS)
        elif pulse != wait.seen:
            wait.seen = pulse
            if trio.current_time() - wait.began < _HOSTS_SECONDS * self._patience:
                wait.patience = 0.0
        elif wait.patience > most:
            self._silent[name] = at

    async def show_pulse(self) -> None:
        """Show the processes of other hosts that this one is at work, as long as it has claimed something.

        One task runs this. So a process whose event loop hangs shows nothing, nor does one whose disk does.
        """
        claims = self._claims
        if not isinstance(claims, HostClaims):
            return
        while True:
            if claims.are_held:
                with suppress(RuntimeError):  # no thread to be had
                    await trio.to_thread.run_sync(claims.show_pulse, abandon_on_cancel=True)
            await trio.sleep(PULSE_SECONDS)

    def drop(self, content: Content, indices: Sequence[int]) -> None:
        """Give claims back. To be called from a thread, where locks may wait."""
        while self._owed:
            with suppress(IndexError):  # another thread has just taken the last
                self._drop(*self._owed.pop())
        self._drop(content, indices)

    def drop_without_thread(self, content: Content, indices: Sequence[int]) -> None:
        """Give claims back where no thread can be had; where locks may wait, as soon as there is a thread again."""
        if self._may_wait:
            self._owed.append((content, indices))
        else:
            self._drop(content, indices)

    async def drop_all(self, content: Content, indices: Sequence[int]) -> None:
        """Give the claims on blocks back that the writer will not get, also when being cancelled."""
        if not self._may_wait or not indices:
            self.drop_without_thread(content, indices)
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GIVING_BACK_SECONDS):
            try:
                await trio.to_thread.run_sync(self.drop, content, indices, abandon_on_cancel=True)
            except RuntimeError:  # no thread to be had
                self.drop_without_thread(content, indices)

    def _drop(self, content: Content, indices: Sequence[int]) -> None:
        for run in plan_gets(indices):
            self._claims.drop(content.content_id, run)

    async def _pulse(self, content: Content, index: int) -> Pulse | None:
        """By which the process that has claimed a block shows that it is slow, and does not hang; None if by nothing.

        Its disk may be slow, or the way to S3: then fetching the same costs more than waiting.
        """
        if not isinstance(self._claims, HostClaims):
            return None
        return await trio.to_thread.run_sync(self._claims.pulse, content.content_id, index, abandon_on_cancel=True)

    async def _take(self, content: Content, left: list[int], waited: float) -> list[int]:
        if waited > _MOST_PATIENCE_SECONDS:
            return left
        lane = int(waited > _PATIENCE_SECONDS)
        if not self._may_wait:
            return self._claim(content, left, lane)
        is_wanted = threading.Event()
        is_wanted.set()

        def claim() -> list[int]:
            self.drop(content, ())
            taken = self._claim(content, left, lane)
            if not is_wanted.is_set():
                self.drop(content, taken)
            return taken

        try:
            return await trio.to_thread.run_sync(claim, abandon_on_cancel=True)
        finally:
            is_wanted.clear()

    def _claim(self, content: Content, left: list[int], lane: int) -> list[int]:
        taken: list[int] = []
        for run in plan_gets(left):
            taken += self._claims.take(content.content_id, run)
            if lane:
                rest = [index for index in run if index not in taken]
                for part in plan_gets(rest):
                    taken += self._claims.take(content.content_id, part, lane=lane)
        return sorted(taken)

    async def _round(self, content: Content, taken: list[int]) -> Round:
        """Check the disk again: a process that had claimed them may have brought them before it gave them back."""
        found = await trio.to_thread.run_sync(self._take_over, content, taken, abandon_on_cancel=True)
        self._metrics.shared_blocks += len(found)
        return Round(found, tuple(plan_gets([index for index in taken if index not in found])))

    async def _come_meanwhile(self, content: Content, left: list[int]) -> dict[int, bytes]:
        """What another host has stored by now of blocks that are claimed: it may have claimed others beside them."""
        if not isinstance(self._claims, HostClaims):
            return {}
        found = await trio.to_thread.run_sync(self._on_disk, content, left, abandon_on_cancel=True)
        self._metrics.shared_blocks += len(found)
        return found

    def _take_over(self, content: Content, indices: list[int]) -> dict[int, bytes]:
        found = self._on_disk(content, indices)
        lacking = [index for index in indices if index not in found]
        if lacking and isinstance(self._claims, HostClaims):
            # Pages that were on their way here may show what was before the claim. What this host writes to the same
            # page is not waited for: that may take as long as the lease of a host that is dead.
            found |= self._on_disk(content, lacking)
        self.drop(content, list(found))
        return found

    def stored(self, content: Content, indices: Sequence[int]) -> dict[int, bytes]:
        """Those of the blocks that the disk has, where others have stored all of them. To be called from a thread."""
        found = self._on_disk(content, indices)
        if len(found) < len(indices):  # a file that is open here may have been evicted, and made anew
            self._cache.forget_deleted()
            found |= self._on_disk(content, [index for index in indices if index not in found])
        return found

    def _on_disk(self, content: Content, indices: Sequence[int]) -> dict[int, bytes]:
        self._cache.refresh(content)
        lacking = set(self._cache.missing(content, indices))
        found: dict[int, bytes] = {}
        for index in indices:
            data = None if index in lacking else self._cache.read(content, block_range(content, index))
            if data is not None:
                # A copy: the file of a view could be cut short before all readers have the bytes.
                found[index] = bytes(data)
        return found
