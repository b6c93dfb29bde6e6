"""What goes on in the background for as long as a mount: no failure of it, foreseen or not, ends the mount."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 5.0


async def restart_on_failure(what: str, task: Callable[[], Awaitable[None]]) -> None:
    """Do `task` to its end; after a failure it begins anew, and the log tells why.

    What fails while it is being cancelled is logged, too, and does not get in the way of the cancellation.
    """
    while True:
        try:
            return await task()
        except* Exception as failure:
            log.exception("failed, and begins anew", what=what, exc_info=failure)
        await trio.sleep(_PAUSE_SECONDS)
