"""Ranges by libcurl: the `RangeTransport` whose bytes move in a thread of their own.

Reading gigabytes over TLS costs httpx 4 s of processor time a GB, much of it in Python on the event loop; libcurl
takes 1.1.

    event loop              a RangeGet -> Transfer; waits for its events         this module
    libcurl's thread        sockets, TLS, HTTP; pieces and runs               curl_thread.py, curl_transfer.py
    the storing thread      runs of whole blocks to the disk                  storing.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

import trio

from vbnfs.s3.arrivals import Arrivals
from vbnfs.s3.curl_options import Authorities, new_handle
from vbnfs.s3.curl_thread import CurlThread
from vbnfs.s3.curl_transfer import Transfer
from vbnfs.s3.generations import Generations
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import RangeGet
from vbnfs.s3.storing import StoringThread
from vbnfs.s3.trust import Trust


class CurlTransport:
    """See `RangeTransport`. Entered within a trio run; leaving ends the connections, and what is still on its way.

    At most `max_connections` GETs are under way; the others wait. `trust` has the certificates that are trusted,
    `proxy` leads to the server, `generations` says which connections are used again.
    """

    def __init__(
        self,
        *,
        trust: Trust,
        proxy: Proxy | None,
        max_connections: int,
        generations: Generations | None = None,
    ) -> None:
        self._authorities = Authorities(trust)
        self._proxy = proxy
        self._limiter = trio.CapacityLimiter(max_connections)
        self._thread = CurlThread(max_connections, generations or Generations())
        self._storing = StoringThread()

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._stop)

    @asynccontextmanager
    async def begin(self, get: RangeGet) -> AsyncIterator[Arrivals]:
        """See `RangeTransport`."""
        borrower = object()
        await self._limiter.acquire_on_behalf_of(borrower)
        try:
            arrivals, transfer = self._new_transfer(get)
            self._thread.call(partial(self._thread.begin, transfer))
            try:
                yield arrivals
            finally:
                arrivals.close()
                self._thread.call(partial(self._thread.remove, transfer))
        finally:
            self._limiter.release_on_behalf_of(borrower)

    def _new_transfer(self, get: RangeGet) -> tuple[Arrivals, Transfer]:
        handle = new_handle(get, self._authorities, self._proxy)
        resume = partial(self._thread.call, partial(self._thread.resume, handle))
        arrivals = Arrivals(resume)
        return arrivals, Transfer(get, handle, arrivals, self._storing, proxy=self._proxy)

    def _stop(self) -> None:
        self._thread.stop()
        self._storing.stop()
