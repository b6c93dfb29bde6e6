"""Time limits that do not count the time for which readers are held back."""

import pytest
import trio
from trio.testing import MockClock

from vbnfs.reading.deadlines import Deadlines


async def test_without_a_limit_it_is_trios(autojump_clock: MockClock) -> None:
    """Nothing is held back: it ends when the time is over."""
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError), Deadlines().fail_after(5):
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(5)


async def test_what_is_held_back_does_not_count(autojump_clock: MockClock) -> None:
    """The limit of what waits for fetches ends so much later; one that begins afterwards does not."""
    deadlines, began = Deadlines(), trio.current_time()

    async def wait() -> None:
        with deadlines.waiting_for_fetches():
            await trio.sleep(4)
            deadlines.extend(10)
            await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError), deadlines.fail_after(5):
        await wait()
    assert trio.current_time() - began == pytest.approx(15)
    assert deadlines.held_seconds == 10
    with pytest.raises(trio.TooSlowError), deadlines.fail_after(5):
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(20)


async def test_the_kernels_own_limit_stays(autojump_clock: MockClock) -> None:
    """Where the kernel waits for no longer than so long, no limit is extended beyond."""
    deadlines, began = Deadlines(most_seconds=8), trio.current_time()

    async def wait() -> None:
        with deadlines.waiting_for_fetches():
            deadlines.extend(10)
            await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError), deadlines.fail_after(5):
        await wait()
    assert trio.current_time() - began == pytest.approx(8)


async def test_what_waits_for_anything_else_has_no_more_time(autojump_clock: MockClock) -> None:
    """A disk that hangs ends a read in its time, though others are held back; so does what comes behind a fetch."""
    deadlines, began = Deadlines(), trio.current_time()

    async def wait() -> None:
        with deadlines.waiting_for_fetches():
            await trio.sleep(1)
            deadlines.extend(2)
        deadlines.extend(100)
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError), deadlines.fail_after(5):
        await wait()
    assert trio.current_time() - began == pytest.approx(7)
