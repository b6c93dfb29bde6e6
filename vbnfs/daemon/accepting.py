"""Taking connections at a socket of the mount's, so many at a time."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger()

_AGAIN_SECONDS: Final = 0.05


async def accept_each(
    listener: trio.SocketListener,
    places: trio.Semaphore,
    answer: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    what: str,
) -> None:
    """Have each connection answered in a task of its own, until cancelled. `what` it is for stands in the log.

    A connection takes one of `places`, which `answer` releases when another one may come.
    """
    async with trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:  # no descriptor left
                places.release()
                log.debug("no descriptor for a connection", what=what, reason=str(error))
                await trio.sleep(_AGAIN_SECONDS)
            else:
                nursery.start_soon(answer, stream)
