"""How long a server near the machine may bring nothing, by a clock that jumps."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from vbnfs.reading.deadlines import STEP_BYTES
from vbnfs.reading.patience import MORE, Patience, Waiting

SECONDS = 5.0


class Server:
    """One that may answer for itself, or hang; `asked` is when it was asked whether it is there."""

    def __init__(self, *, answers: bool = True, hangs: bool = False) -> None:
        self.asked: list[float] = []
        self._began, self._answers, self._hangs = trio.current_time(), answers, hangs

    async def is_there(self) -> bool:
        self.asked.append(trio.current_time() - self._began)
        await trio.sleep(1e6 if self._hangs else 0.01)
        return self._answers


async def ended_after(patience: Patience, *meanwhile: Callable[[], Awaitable[None]], waiting: Waiting) -> float:
    """After how many seconds a GET is ended, while this is done."""
    began = trio.current_time()
    async with trio.open_nursery() as everything:
        for one in meanwhile:
            everything.start_soon(one)
        with trio.CancelScope() as scope:
            await patience.end(waiting, scope)
        took = trio.current_time() - began
        everything.cancel_scope.cancel()
    assert waiting.ended is not None
    return took


async def test_a_silent_server_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """One that is asked nothing has its time. One that does not answer has half of it, and its time to answer."""
    assert await ended_after(Patience(SECONDS), waiting=Waiting(trio.current_time())) == pytest.approx(SECONDS)
    for how in ({"answers": False}, {"hangs": True}):
        server = Server(**how)
        took = await ended_after(Patience(SECONDS, server.is_there), waiting=Waiting(trio.current_time()))
        assert took <= 1.5 * SECONDS + 0.1
        assert server.asked == pytest.approx([SECONDS / 2])


async def test_a_server_that_answers_has_more_time(autojump_clock: trio.testing.MockClock) -> None:
    """It waits for another one, as a site cache does for S3; but not without end."""
    server = Server()
    took = await ended_after(Patience(SECONDS, server.is_there), waiting=Waiting(trio.current_time()))
    assert took == pytest.approx(MORE * SECONDS)
    assert len(server.asked) == pytest.approx(2 * MORE, abs=1)


@pytest.mark.parametrize("how", [{"hangs": True}, {"answers": True}])
async def test_all_of_a_read_have_the_time_of_one(
    autojump_clock: trio.testing.MockClock, how: dict[str, bool]
) -> None:
    """Servers that are asked one after the other, and bring nothing, take no longer than one may: S3 has the rest."""
    began, asked = trio.current_time(), 0
    for server in (Server(**how) for _ in range(10)):
        patience = Patience(SECONDS, server.is_there)
        if not patience.has_time(began):
            break
        await ended_after(patience, waiting=Waiting(began))
        asked += 1
    assert trio.current_time() - began == pytest.approx(MORE * SECONDS, abs=0.1)
    assert asked == (3 if "hangs" in how else 1)


async def test_a_byte_for_one_is_patience_for_all(autojump_clock: trio.testing.MockClock) -> None:
    """Bytes for another GET begin the time anew; so does what the receiver takes of it."""
    patience, waiting = Patience(SECONDS), Waiting(trio.current_time())

    async def hear() -> None:
        for _ in range(4):
            await trio.sleep(SECONDS - 1)
            patience.heard()
        with waiting.receiving(STEP_BYTES):
            await trio.sleep(3 * SECONDS)
            patience.heard()

    took = await ended_after(patience, hear, waiting=waiting)
    assert took == pytest.approx(4 * (SECONDS - 1) + 3 * SECONDS + SECONDS)


@pytest.mark.parametrize("every_second", [1, STEP_BYTES // 20])
async def test_a_get_that_trickles_is_given_up(autojump_clock: trio.testing.MockClock, every_second: int) -> None:
    """One that gets on stays; one that has begun has as much time for each step as a server that answers."""
    patience, waiting = Patience(SECONDS), Waiting(trio.current_time())
    steps = 10 * MORE

    async def arrive() -> None:
        for count in [STEP_BYTES] * steps + [every_second] * 20 * MORE:
            await trio.sleep(SECONDS / 5)
            patience.heard()
            with waiting.receiving(count):
                pass

    took = await ended_after(patience, arrive, waiting=waiting)
    assert took == pytest.approx(steps * SECONDS / 5 + MORE * SECONDS)
    assert waiting.ended == "less than 16,384 bytes in 15 s"


async def test_a_receivers_time_is_not_the_servers(autojump_clock: trio.testing.MockClock) -> None:
    """What takes a piece of a step long makes no GET one that trickles."""
    patience, waiting = Patience(SECONDS), Waiting(trio.current_time())

    async def arrive() -> None:
        for _ in range(2):
            await trio.sleep(1)
            patience.heard()
            with waiting.receiving(1):
                await trio.sleep(4 * MORE * SECONDS)
            patience.heard()

    took = await ended_after(patience, arrive, waiting=waiting)
    assert took == pytest.approx(2 + 2 * 4 * MORE * SECONDS + SECONDS)


async def test_all_that_wait_ask_once(autojump_clock: trio.testing.MockClock) -> None:
    """Many GETs that wait for one server ask it no more often than one does."""
    server = Server()
    patience = Patience(SECONDS, server.is_there)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(patience.end, Waiting(trio.current_time()), trio.CancelScope())
    assert len(server.asked) == pytest.approx(2 * MORE, abs=1)
