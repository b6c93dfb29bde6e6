"""The memory that reading may take: never more than its limit, never a deadlock."""

import random
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.reading.bench import MIB, bench
from vbnfs.reading.memory import Budget, Memory


async def test_who_comes_first_is_served_first() -> None:
    """A small wish waits behind a large one that came before, though it had room; then both are granted."""
    budget, served = Budget(100), list[int]()

    async def take(count: int) -> None:
        await budget.take(count)
        served.append(count)

    await budget.take(60)
    async with trio.open_nursery() as nursery:
        for count in (70, 10):
            nursery.start_soon(take, count)
            await trio.testing.wait_all_tasks_blocked()
        assert served == []
        assert not budget.try_take(1, leave_bytes=0)
        budget.give_back(60)
    assert sorted(served) == [10, 70]
    assert budget.held_bytes == 80


async def test_who_goes_on_comes_before_those_who_begin() -> None:
    """A GET under way needs little to go on, and gives back what others wait for."""
    budget, served = Budget(10), list[int]()

    async def take(count: int, *, goes_on: bool) -> None:
        await budget.take(count, goes_on=goes_on)
        served.append(count)

    await budget.take(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(take, 7, goes_on=False))
        await trio.testing.wait_all_tasks_blocked()
        await take(2, goes_on=True)
        nursery.start_soon(partial(take, 1, goes_on=True))
        await trio.testing.wait_all_tasks_blocked()
        budget.give_back(1)
        await trio.testing.wait_all_tasks_blocked()
        assert served == [2, 1]
        budget.give_back(7)
    assert served == [2, 1, 7]


async def test_of_those_who_go_on_the_first_is_served_first() -> None:
    """The GET that has waited longest is the one whose blocks a reader waits for."""
    budget, served = Budget(10), list[int]()

    async def go_on(number: int) -> None:
        await budget.take(1, goes_on=True)
        served.append(number)

    await budget.take(10)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(go_on, number)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            budget.give_back(1)
            await trio.testing.wait_all_tasks_blocked()
    assert served == [0, 1, 2]


@pytest.mark.parametrize("memory_bytes", [2 * MIB, 16 * MIB, 64 * MIB])
async def test_gets_longer_than_memory_wait_for_the_disk_and_for_nothing_else(
    tmp_path: Path, memory_bytes: int
) -> None:
    """However long GETs are, memory holds what is in transit and what the disk has not taken: nothing more comes."""
    data = random.Random(2).randbytes(80 * MIB)
    async with bench(tmp_path, memory_bytes=memory_bytes, keeps_blocks=False, prefetch_gets=8) as floor:
        content, room = floor.add("a", data), floor.memory.blocks
        floor.source.prefetch(content, range(320))
        await trio.testing.wait_all_tasks_blocked()
        assert room.held_bytes <= room.limit_bytes
        assert floor.client.sent_bytes <= room.limit_bytes + 8 * MIB
        floor.start_keeping()
        await floor.settled()
        assert room.held_bytes == 0
        assert room.most_bytes <= room.limit_bytes
        assert floor.cache.cached_bytes(content) == len(data) == floor.client.sent_bytes


async def test_more_than_the_limit_is_granted_to_one_alone() -> None:
    """A task that needs more than the limit gets it when no other holds anything."""
    budget = Budget(10)
    await budget.take(50)
    with pytest.raises(trio.TooSlowError), trio.fail_after(0):
        await budget.take(1)
    budget.give_back(50)
    async with budget.holding(1):
        assert budget.held_bytes == 1
    assert budget.held_bytes == 0


async def test_being_cancelled_takes_nothing_and_lets_others_pass() -> None:
    """A task that is cancelled in the moment in which it is served gives back, too."""
    budget = Budget(10)
    await budget.take(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.take, 8)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        budget.give_back(5)
    assert budget.held_bytes == 0
    await budget.take(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.take, 8)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert budget.try_take(5, leave_bytes=0)


async def test_who_has_room_to_spare_learns_that_it_is_lacking() -> None:
    """As soon as a task waits for room; and that none does any more."""
    budget, learned = Budget(10), list[bool]()

    async def learn() -> None:
        await budget.lacks()
        learned.append(budget.is_lacking)

    await budget.take(6)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(learn)
        await trio.testing.wait_all_tasks_blocked()
        assert (budget.is_lacking, learned) == (False, [])
        nursery.start_soon(budget.take, 6)
        await trio.testing.wait_all_tasks_blocked()
        assert learned == [True]
        budget.give_back(6)
        assert not budget.is_lacking


@pytest.mark.parametrize("memory_bytes", [2 * MIB, 16 * MIB, 256 * MIB])
async def test_64_readers_keep_within_the_limit(tmp_path: Path, memory_bytes: int) -> None:
    """Blocks and answers of 64 readers, in a row and at random, are within the limit, and all is given back."""
    data = random.Random(1).randbytes(24 * MIB)
    async with bench(tmp_path, memory_bytes=memory_bytes) as floor:
        content = floor.add("a", data)

        async def read(seed: int) -> None:
            order, reader = random.Random(seed), floor.open(content)
            for step in range(6):
                at = step * MIB if seed % 2 else order.randrange(len(data))
                assert await reader.read(at, MIB) == data[at : at + MIB]

        async with trio.open_nursery() as nursery:
            for seed in range(64):
                nursery.start_soon(read, seed)
        await floor.settled()
        for budget in (floor.memory.blocks, floor.memory.answers):
            assert budget.held_bytes == 0
            assert budget.most_bytes <= max(budget.limit_bytes, 6 * MIB)  # one answer alone may be more


def test_the_parts_are_the_whole() -> None:
    """What is divided adds up to the limit."""
    memory = Memory(256 * MIB)
    assert memory.recent.limit_bytes == 32 * MIB
    assert memory.recent.limit_bytes + memory.answers.limit_bytes + memory.blocks.limit_bytes == 256 * MIB
