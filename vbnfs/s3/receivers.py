"""Ranges by libcurl in a process of its own: the `RangeTransport` of `--receivers 1`.

    event loop              a RangeGet -> RemoteTransfer                     this module
    the keeper's thread     starts and hears the process                     receiver_keeper.py
    the process             libcurl's thread, the storing thread             receiver_child.py

The messages are those of the seam (ranges.py). Before the process is ready, while it is started again and once it is
given up, this process receives by itself (curl.py): no GET waits for it, and none fails because of it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

import trio

from vbnfs import __version__
from vbnfs.objects import OpenStore
from vbnfs.s3.curl import CurlTransport
from vbnfs.s3.generations import Generations
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import RangeGet, Transfer
from vbnfs.s3.receiver_keeper import Keeper
from vbnfs.s3.receiver_messages import Setup
from vbnfs.s3.trust import Trust

_PATIENCE_SECONDS: Final = 1.0  # with the disk, on which a content is opened
_OPENERS: Final = 4  # a disk that hangs must not take all threads


class ReceiverTransport:
    """See `RangeTransport`. `program` is the command of the process; `own` receives where that does not.

    At most `max_connections` GETs are under way, in both; the others wait. `trust` and `proxy`: see `CurlTransport`.
    `generations`: which connections are used again, in both.
    """

    def __init__(
        self,
        program: Sequence[str],
        own: CurlTransport,
        *,
        trust: Trust,
        proxy: Proxy | None,
        max_connections: int,
        generations: Generations,
    ) -> None:
        self._own = own
        setup = Setup(__version__, trust, proxy, max_connections)
        self._keeper = Keeper(program, setup, generations)
        self._limiter = trio.CapacityLimiter(max_connections)
        self._openers = trio.CapacityLimiter(_OPENERS)

    async def __aenter__(self) -> Self:
        await self._own.__aenter__()
        self._keeper.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._keeper.stop)
        await self._own.__aexit__(*exc_info)

    @asynccontextmanager
    async def begin(self, get: RangeGet) -> AsyncIterator[Transfer]:
        """See `RangeTransport`."""
        borrower, files = object(), _Files()
        await self._limiter.acquire_on_behalf_of(borrower)
        try:
            if self._keeper.is_ready:
                files.opened = await self._opened(get)
            transfer = self._keeper.begin(get, files.opened)
            if transfer is None:
                async with self._own.begin(get) as own:
                    yield own
                return
            try:
                yield transfer
            finally:
                self._keeper.end(transfer)
        finally:
            files.let_go()
            self._limiter.release_on_behalf_of(borrower)

    async def _opened(self, get: RangeGet) -> OpenStore | None:
        """The sink for the process; None if what comes is to come as bytes."""
        sink = get.request.sink
        if sink is None:
            return None
        with trio.move_on_after(_PATIENCE_SECONDS):
            try:
                return await trio.to_thread.run_sync(
                    sink.opened, get.request.byte_range, abandon_on_cancel=True, limiter=self._openers
                )
            except RuntimeError:  # no thread to be had
                return None
        return None


class _Files:
    """What is open for a GET. Who closes an evicted content last waits until its room is free: a thread does."""

    opened: OpenStore | None = None

    def let_go(self) -> None:
        """Close them, soon."""
        if self.opened is not None:
            with suppress(RuntimeError):  # no thread to be had: here, then
                trio.lowlevel.start_thread_soon(self._close, lambda _: None)

    def _close(self) -> None:
        self.opened = None
