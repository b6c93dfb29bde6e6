"""Background tasks of what goes on for long: no failure of one ends that, foreseen or not."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 5.0


async def restart_on_failure(what: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run `task` to its end; after a failure, which is logged, it begins anew.

    A failure while it is being cancelled is logged, too, and does not hinder the cancellation.
    """
    while True:
        try:
            return await task()
        except* Exception as failure:
            log.exception("failed, and begins anew", what=what, exc_info=failure)
        await trio.sleep(_PAUSE_SECONDS)
