"""Long work in steps, each in a thread: what interrupts it waits for one step at the most, and no disk that hangs."""

import threading
from collections.abc import Callable, Generator
from typing import Final

import trio

_LAST_STEP_SECONDS: Final = 2.0


async def take_steps(steps: Generator[int], progress: Callable[[int], None]) -> None:
    """Take all steps; `progress` gets what each gives. When that is interrupted, the generator is closed.

    It is not if its last step does not end in time, because a disk hangs.
    """
    is_idle = threading.Event()

    def step() -> int | None:
        try:
            return next(steps, None)
        finally:
            is_idle.set()

    try:
        while (done := await trio.to_thread.run_sync(step, abandon_on_cancel=True)) is not None:
            progress(done)
            is_idle.clear()
    finally:
        with trio.CancelScope(shield=True):
            if await trio.to_thread.run_sync(is_idle.wait, _LAST_STEP_SECONDS):
                steps.close()
