"""Single flight: several wait for one outcome."""

import pytest
import trio
import trio.testing

from vbnfs.errors import StorageError
from vbnfs.flight import Flight


async def test_all_that_wait_get_what_it_brings() -> None:
    """Those that came before it landed, and those that come afterwards."""
    flight, got = Flight[str](), list[str]()

    async def wait() -> None:
        got.append(await flight.outcome())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert (flight.value, got) == (None, [])
        flight.land("bytes")
    await wait()
    assert got == ["bytes"] * 4


async def test_each_that_waits_gets_a_failure_of_its_own() -> None:
    """A copy, caused by the one that it failed with: one object raised in several tasks would mix tracebacks."""
    flight, error = Flight[str](), StorageError("gone")
    flight.fail(error)
    raised: list[BaseException] = []
    for _ in range(2):
        with pytest.raises(StorageError, match="gone") as info:
            await flight.outcome()
        raised.append(info.value)
    assert len({id(one) for one in [error, *raised]}) == 3
    assert all(one.__cause__ is error for one in raised)
