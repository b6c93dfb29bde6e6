"""Which signals end a request that waits, and which do not."""

import os
import signal

import pytest
import trio
from trio.testing import MockClock

from vbnfs.fuse import interrupted
from vbnfs.fuse.interrupted import Interruptible, is_to_end

# What timers, profilers, runtimes and shells send.
HARMLESS = [
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGURG, signal.SIGCHLD, signal.SIGWINCH),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO, signal.SIGTSTP, signal.SIGCONT, signal.SIGPIPE),
    *(signal.SIGRTMIN, signal.SIGRTMAX),
]
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("number", HARMLESS)
def test_signals_that_break_nothing(number: int, is_read: bool) -> None:
    """Signals by which no program is asked to end break neither a read nor anything else."""
    assert not is_to_end(frozenset({number}), is_read=is_read)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_suspend_breaks_nothing(is_read: bool) -> None:
    """What a suspend or a debugger sends, without a signal that the thread would get, gives up nothing."""
    assert not is_to_end(frozenset(), is_read=is_read)


@pytest.mark.parametrize("number", ENDING)
def test_signals_to_end(number: int) -> None:
    """Signals by which a program is asked to end give up names and sizes, beside others, too; but no read."""
    assert is_to_end(frozenset({signal.SIGALRM, number}), is_read=False)
    assert not is_to_end(frozenset({number}), is_read=True)


def test_a_program_that_ends() -> None:
    """With a program that ends all is given up, reads too."""
    assert is_to_end(frozenset({signal.SIGKILL}), is_read=True)
    assert is_to_end(frozenset({signal.SIGKILL}), is_read=False)


def test_a_program_that_cannot_be_seen() -> None:
    """One of another PID namespace is believed to be meant to end, but for its reads."""
    assert is_to_end(None, is_read=False)
    assert not is_to_end(None, is_read=True)


async def test_a_second_signal_is_noticed(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request waits, its thread's signals are read again: one to end counts when it comes."""
    began = trio.current_time()
    monkeypatch.setattr(
        interrupted,
        "pending_signals",
        lambda thread: frozenset({signal.SIGALRM, *([signal.SIGINT] if trio.current_time() - began >= 3 else [])}),
    )
    waiting = Interruptible(os.getpid(), is_read=False)
    assert waiting.notice()
    assert not waiting.notice()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.watch)
        with waiting:
            await trio.sleep_forever()
    assert waiting.is_interrupted
    assert trio.current_time() - began == pytest.approx(3, abs=0.3)
