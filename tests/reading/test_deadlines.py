"""Time limits that what is fetched moves, and that do not count the time for which readers are held back."""

import pytest
import trio
from trio.testing import MockClock

from vbnfs.reading.deadlines import MORE, STEP_BYTES, Deadlines, Progress


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


async def ended_after(deadlines: Deadlines, waits_for: Progress, comes: Progress, count_bytes: int) -> float:
    """After how many seconds a limit of 5 ends what waits for a fetch, while so many bytes a second come of one."""
    began = trio.current_time()

    async def come() -> None:
        while True:
            await trio.sleep(1)
            comes.note(count_bytes)

    async def wait() -> None:
        with deadlines.fail_after(5), deadlines.waiting_for_fetches([waits_for]) as is_over:
            try:
                await trio.sleep_forever()
            finally:
                assert is_over()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        with pytest.raises(trio.TooSlowError):
            await wait()
        nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def test_what_gets_on_has_more_time(autojump_clock: MockClock) -> None:
    """Each step that comes within the time begins it anew, up to some times as much; less than a step does not."""
    deadlines = Deadlines()
    for count_bytes, seconds in ((STEP_BYTES, 5 * MORE), (STEP_BYTES // 4, 5 * MORE), (STEP_BYTES // 8, 5)):
        fetch = Progress(deadlines)
        assert await ended_after(deadlines, fetch, fetch, count_bytes) == pytest.approx(seconds)


async def test_what_has_not_begun_waits_for_others(autojump_clock: MockClock) -> None:
    """Steps of another fetch count for a fetch of which nothing has come, and not for one that has brought some."""
    deadlines = Deadlines()
    queued, begun, other = (Progress(deadlines) for _ in range(3))
    begun.note(1)
    assert await ended_after(deadlines, queued, other, STEP_BYTES) == pytest.approx(5 * MORE)
    assert await ended_after(deadlines, begun, other, STEP_BYTES) == pytest.approx(5)


async def test_the_kernels_own_limit_stays_for_what_gets_on(autojump_clock: MockClock) -> None:
    """What gets on is answered before the kernel's time is over all the same."""
    deadlines = Deadlines(most_seconds=8)
    fetch = Progress(deadlines)
    assert await ended_after(deadlines, fetch, fetch, STEP_BYTES) == pytest.approx(8)


async def test_who_does_not_wait_any_more_has_time_left(autojump_clock: MockClock) -> None:
    """A program that ends is no fetch that takes too long, with a limit and without."""
    deadlines, found = Deadlines(), list[bool]()

    async def wait() -> None:
        with deadlines.waiting_for_fetches() as is_over:
            try:
                await trio.sleep_forever()
            finally:
                found.append(is_over())

    for seconds in (5, 50):
        with trio.move_on_after(10) as interrupted, deadlines.fail_after(50):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(seconds)
                if seconds == 5:
                    interrupted.cancel()
    with trio.move_on_after(2):
        await wait()
    assert found == [False, True, True]
