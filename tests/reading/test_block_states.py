"""The life of a block: the table, and that nothing in the source and the writer leaves it."""

import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.fakes.client import Failure, Gate
from tests.fakes.store import MemoryStore
from tests.fakes.storing import StoringClient
from tests.reading.bench import MIB, Bench, add, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.content_folder import FORMAT
from vbnfs.errors import NotKeptError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading import block_states
from vbnfs.reading.block_states import FIRST, TRANSITIONS, BlockState, TransitionError
from vbnfs.reading.fetches import Block

BLOCKS = 6
DATA = random.Random(13).randbytes((BLOCKS - 1) * BLOCK_BYTES + 99)
ENDS = {BlockState.STORED, BlockState.FORGOTTEN, BlockState.FAILED}
ROWS = {(before, after) for before, states in TRANSITIONS.items() for after in states}
CONTENT = Content("a", len(DATA), ObjectVersion("a", None))


def block(index: int) -> bytes:
    return DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]


# The table


def test_the_docstring_is_the_table() -> None:
    """What is written for people is what the code goes by: each state, and where it may go."""
    lines = (block_states.__doc__ or "").splitlines()
    [column] = [line.index("to", line.index("moved on by")) for line in lines if "moved on by" in line]
    names = set(BlockState.__members__)
    written = {
        words[0]: set(line[column:].split()) for line in lines if (words := line.split()) and words[0] in names
    }
    assert written == {state.name: {to.name for to in states} for state, states in TRANSITIONS.items()}


def test_every_life_begins_in_one_state_and_can_end() -> None:
    """All states can be reached from the first one, and three of them are an end; none leads back to the first."""
    reached, todo = {FIRST}, [FIRST]
    while todo:
        new = TRANSITIONS[todo.pop()] - reached
        reached |= new
        todo += new
    assert reached == set(BlockState) == set(TRANSITIONS)
    assert {state for state, ways in TRANSITIONS.items() if not ways} == ENDS
    assert all(FIRST not in ways for ways in TRANSITIONS.values())


@pytest.mark.parametrize(("before", "after"), list(product(BlockState, BlockState)))
def test_what_is_not_in_the_table_is_refused(before: BlockState, after: BlockState) -> None:
    """A block moves along rows, and stays as it is where there is none."""
    if (before, after) in ROWS:
        assert block_states.moved(before, after) is after
    else:
        with pytest.raises(TransitionError, match=f"from {before.name} to {after.name}"):
            block_states.moved(before, after)


async def test_a_block_that_was_refused_a_way_stays_as_it_was() -> None:
    """Bytes for a block that no fetch has are a defect; no reader gets them."""
    one = Block(CONTENT, 0, range(1))
    with pytest.raises(TransitionError):
        one.bring(BlockState.ARRIVED, b"data")
    assert one.state is FIRST
    assert one.data is None


# The lives of blocks


@dataclass
class Lives:
    """All blocks that there were, with the states that each was in."""

    of: dict[Block, list[BlockState]] = field(default_factory=dict)
    refused: list[TransitionError] = field(default_factory=list)

    @property
    def ways(self) -> set[tuple[BlockState, BlockState]]:
        """From where to where any of them went."""
        return {way for states in self.of.values() for way in pairwise(states)}

    def count(self, state: BlockState) -> int:
        """How many are in a state now."""
        return sum(states[-1] is state for states in self.of.values())


@contextmanager
def watched() -> Iterator[Lives]:
    """Take note of every move of every block."""
    lives, begin, move = Lives(), Block.__init__, Block.move

    def begin_and_note(one: Block, *arguments: Any) -> None:
        begin(one, *arguments)
        lives.of[one] = [one.state]

    def move_and_note(one: Block, state: BlockState) -> None:
        try:
            move(one, state)
        except TransitionError as error:
            lives.refused.append(error)
            raise
        lives.of[one].append(one.state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "__init__", begin_and_note)
        patch.setattr(Block, "move", move_and_note)
        yield lives


class Disk:
    """A disk that takes blocks, or is full, or fails by a defect, or hangs until it is asked not to."""

    def __init__(self, cache: BlockCache) -> None:
        self.is_full = False
        self.fails = False
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._put = cache.put
        cache.put = self.put  # type: ignore[method-assign]

    def put(self, content: Content, index: int, *blocks: bytes | memoryview) -> int:
        self.goes_on.wait(30)
        if self.fails:
            raise ZeroDivisionError("a defect")
        return 0 if self.is_full else self._put(content, index, *blocks)


class Player:
    """Does to a source and a writer what may happen to them; readers are tasks of `nursery`."""

    def __init__(self, floor: Bench, client: StoringClient, directory: Path, nursery: trio.Nursery) -> None:
        self._floor = floor
        self._client = client
        client.stores = lambda index: False
        self._nursery = nursery
        self._content = add(floor.client.store, "a", DATA)
        self._disk = Disk(floor.cache)
        self._gates: list[Gate] = []
        self._readers: list[trio.CancelScope] = []
        self._claims = Claims(directory / FORMAT / "test")
        self._other = BlockCache(directory, scope="test", metrics=Metrics())

    def step(self, what: str, first: int, count: int) -> None:
        indices = range(first, min(first + count, BLOCKS))
        steps: dict[str, Callable[[], object]] = {
            "get": lambda: self._nursery.start_soon(self._get, indices),
            "prefetch": lambda: self._floor.source.prefetch(self._content, indices, window_blocks=count),
            "give up": lambda: self._readers and self._readers.pop().cancel(),
            "hold S3": lambda: self._gates.append(self._floor.client.hold(after_bytes=first * BLOCK_BYTES // 2)),
            "S3 goes on": self._open,
            "S3 fails": lambda: self._floor.client.fail(Failure(TransportError("no"), first * BLOCK_BYTES // 2)),
            "full": lambda: setattr(self._disk, "is_full", True),
            "defect": lambda: setattr(self._disk, "fails", True),
            "disk hangs": self._disk.goes_on.clear,
            "disk goes on": self._mend,
            "offered again": lambda: self._nursery.start_soon(self._floor.source.writer.keep_again),
            "forgotten": lambda: self._floor.source.forget(self._content.content_id),
            "deleted": lambda: self._floor.cache.drop(self._content),
            "claimed": lambda: self._claims.take(self._content.content_id, indices),
            "brought": lambda: self._bring(indices),
            "stores as it comes": lambda: setattr(self._client, "stores", indices.__contains__),
            "says it has stored": lambda: setattr(self._client, "lies", count),
        }
        steps[what]()

    def end(self) -> None:
        """Nothing holds anything up any more."""
        self._open()
        self._mend()
        self._floor.client.heal()
        self._claims.drop(self._content.content_id, range(BLOCKS))

    async def _get(self, indices: range) -> None:
        with trio.CancelScope() as scope:
            self._readers.append(scope)
            with suppress(TransportError, NotKeptError):  # S3 was made to fail, or blocks to be lost
                got = await self._floor.source.get(self._content, indices)
                assert got == {index: block(index) for index in indices}

    def _bring(self, indices: range) -> None:
        """By another process, which has claimed them before."""
        self._other.put(self._content, indices[0], *map(block, indices))
        self._claims.drop(self._content.content_id, indices)

    def _open(self) -> None:
        for gate in self._gates:
            gate.open()

    def _mend(self) -> None:
        self._disk.is_full = self._disk.fails = False
        self._disk.goes_on.set()


STEPS = (
    *(
        "get",
        "get",
        "get",
        "get",
        "get",
        "prefetch",
        "prefetch",
        "give up",
        "hold S3",
        "S3 goes on",
        "S3 fails",
        "S3 fails",
    ),
    *("full", "full", "full", "defect", "disk hangs", "disk goes on", "offered again", "offered again", "forgotten"),
    *("deleted", "claimed", "brought", "stores as it comes", "stores as it comes", "says it has stored"),
)
steps = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, BLOCKS - 1), st.integers(1, 4), st.booleans()), max_size=30
)


def check(floor: Bench, lives: Lives) -> None:
    """What the table promises of states, at any moment."""
    assert lives.refused == []
    assert lives.ways <= ROWS
    held = {BlockState.QUEUED, BlockState.UNDER_WAY, BlockState.ARRIVED}
    on_their_way = [one for one, states in lives.of.items() if states[-1] in held]
    assert {one.key: one for one in on_their_way} == floor.source._live._blocks
    assert len(on_their_way) == len(floor.source._live)
    assert floor.memory.blocks.held_bytes >= lives.count(BlockState.ARRIVED) * BLOCK_BYTES


async def play(directory: Path, steps: list[tuple[str, int, int, bool]], lives: Lives) -> None:
    cache = BlockCache(directory, scope="test", metrics=Metrics())
    client = StoringClient(MemoryStore(), cache, piece_bytes=BLOCK_BYTES // 2)
    async with bench(directory, client=client, prefetch_gets=2, memory_bytes=2 * MIB) as floor:
        async with trio.open_nursery() as nursery:
            player = Player(floor, client, directory, nursery)
            for what, first, count, settles in steps:
                player.step(what, first, count)
                if settles:
                    await trio.testing.wait_all_tasks_blocked()
                check(floor, lives)
            player.end()
        await floor.settled()
        check(floor, lives)
        assert floor.memory.blocks.held_bytes == 0
        assert len(floor.source._backlogs) == 0
        assert {states[-1] for states in lives.of.values()} <= {*ENDS, BlockState.UNSTORED}


@settings(max_examples=60, deadline=None)
@given(steps)
def test_blocks_move_along_rows_whatever_happens(steps: list[tuple[str, int, int, bool]]) -> None:
    """Readers, failures, other processes, a disk that fails, blocks stored as they come, lies: each move is a row."""
    with tempfile.TemporaryDirectory() as directory, watched() as lives, capture_logs():
        trio.run(play, Path(directory), steps, lives)


async def test_every_row_of_the_table_is_gone_along(tmp_path: Path) -> None:
    """A fetch, one that fails, one that another process makes, a disk that is full, and memory that forgets."""
    with watched() as lives:
        async with bench(tmp_path, memory_bytes=2 * MIB) as floor:
            content, disk = floor.add("a", DATA), Disk(floor.cache)

            async def fetch(index: int) -> None:
                await floor.source.get(content, [index])
                await floor.settled()

            await fetch(0)
            floor.client.fail(TransportError("no"))
            with pytest.raises(TransportError):
                await fetch(1)
            other = BlockCache(tmp_path, scope="test", metrics=Metrics())
            other.put(content, 2, block(2))
            claims = Claims(tmp_path / FORMAT / "test")  # not alone any more: the disk is asked once more
            await fetch(2)
            disk.is_full = True
            for index in (3, 4):  # memory remembers one block
                await fetch(index)
            disk.is_full = False
            await floor.source.writer.keep_again()
            await floor.source.writer.keep_again()
            assert floor.cache.missing(content, range(5)) == [1, 3]
            del claims
    assert lives.refused == []
    assert lives.ways == {row for row in ROWS if BlockState.GIVEN_UP not in row}


async def test_the_rows_of_fetches_that_are_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A reader's time runs out: the fetch goes on, and ends as others do."""
    cache = BlockCache(tmp_path, scope="test", metrics=Metrics())
    client = StoringClient(MemoryStore(), cache, piece_bytes=BLOCK_BYTES)
    client.stores = lambda index: index == 2
    with watched() as lives:
        async with bench(tmp_path, client=client) as floor:
            content = floor.add("a", DATA)
            for index, failure in ((0, None), (1, TransportError("no")), (2, None)):
                gate = client.hold()
                client.fail(failure)
                with trio.move_on_after(30):
                    await floor.source.get(content, [index])
                gate.open()
                await floor.settled()
    assert lives.refused == []
    assert {row for row in ROWS if BlockState.GIVEN_UP in row} <= lives.ways
