"""Requests that wait, and the signals that their programs get meanwhile (Linux, filesystems/fuse: interrupting).

The kernel sends INTERRUPT once for a request, for the first signal that comes, whichever it is. It does not say
which. EINTR ends the system call whatever the program asked for with SA_RESTART, and most programs do not expect it
of stat(2) or open(2). So the answer is EINTR for signals alone by which a program is to be ended. Timers, profilers
and runtimes send others, every few milliseconds: of these no call notices anything.

Where INTERRUPT came, the thread's pending signals are read, and again while it waits: the kernel says nothing of a
second signal. A thread that cannot be seen from here is believed to be meant to end.

A read is ended only with its program. EINTR for a page would be EIO or SIGBUS in a program that goes on.
"""

import signal
from types import TracebackType
from typing import Final

import trio

from vbnfs.host.processes import pending_signals

_ENDING: Final = frozenset({signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_LOOK_SECONDS: Final = 0.25


def is_to_end(pending: frozenset[int] | None, *, is_read: bool) -> bool:
    """Whether a request is given up, for the signals that its thread has pending; None: they cannot be read."""
    if is_read:
        return pending is not None and signal.SIGKILL in pending
    return pending is None or not _ENDING.isdisjoint(pending)


class Interruptible:
    """A request of the thread `pid` that waits: entered while it does. What is within may be given up."""

    def __init__(self, pid: int, *, is_read: bool) -> None:
        self._pid = pid
        self._is_read = is_read
        self._scope = trio.CancelScope()
        self._has_signal = False
        self._ended = trio.Event()

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._ended.set()
        return self._scope.__exit__(kind, error, trace)

    @property
    def is_interrupted(self) -> bool:
        """Whether it was given up."""
        return self._scope.cancelled_caught

    def notice(self) -> bool:
        """Its thread has got a signal. Whether that is the first."""
        is_first, self._has_signal = not self._has_signal, True
        return is_first

    async def watch(self) -> None:
        """Give it up as soon as its thread has a signal to end, unless it is answered before."""
        while not self._ended.is_set():
            if is_to_end(pending_signals(self._pid), is_read=self._is_read):
                self._scope.cancel()
                return
            with trio.move_on_after(_LOOK_SECONDS):
                await self._ended.wait()
