"""Blocks that the disk lacks: each is fetched once, handed on at once, and kept."""

import gc
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.fakes.client import Failure, MemoryClient, Request
from tests.fakes.store import MemoryStore
from tests.reading.bench import MIB, Bench, bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import DATA as DATA_FILE
from vbnfs.cache.content_folder import FORMAT
from vbnfs.errors import BadReplyError, ObjectGoneError, SilenceError, StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, Piece, RangeRequest, Receive
from vbnfs.reading import block_source
from vbnfs.reading.fetches import Block

DATA = random.Random(5).randbytes(100 * BLOCK_BYTES + 999)


def block(index: int) -> bytes:
    return DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]


def blocks(indices: range) -> ByteRange:
    return ByteRange(indices[0] * BLOCK_BYTES, min(indices[-1] * BLOCK_BYTES + BLOCK_BYTES, len(DATA)))


class Answers:
    """What tasks that call `get` were answered with, in the order of the answers."""

    def __init__(self, floor: Bench, content: Content) -> None:
        self._floor = floor
        self._content = content
        self.got: list[dict[int, bytes | memoryview]] = []
        self.errors: list[StorageError] = []

    async def get(self, *indices: int) -> None:
        try:
            self.got.append(await self._floor.source.get(self._content, indices))
        except StorageError as error:
            self.errors.append(error)


# One GET


async def test_many_readers_of_a_block_are_one_get(tmp_path: Path) -> None:
    """Ten ask while it is on its way: one request serves all."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            for _ in range(10):
                readers.start_soon(answers.get, 3)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert answers.got == [{3: block(3)}] * 10
        assert floor.client.ranges() == [blocks(range(3, 4))]


async def test_adjacent_blocks_are_one_get_and_what_is_on_its_way_is_not_asked_for_again(tmp_path: Path) -> None:
    """A second reader's blocks that overlap a GET in flight: only the rest is fetched."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 2, 3, 4)
            await gate.wait_arrived()
            readers.start_soon(answers.get, 1, 3, 4, 5, 6)
            await gate.wait_arrived(3)
            gate.open()
        assert [sorted(found) for found in answers.got] == [[2, 3, 4], [1, 3, 4, 5, 6]]
        assert all(data == block(index) for found in answers.got for index, data in found.items())
        asked = sorted(floor.client.ranges(), key=lambda one: one.start)
        assert asked == [blocks(range(1, 2)), blocks(range(2, 5)), blocks(range(5, 7))]


async def test_the_last_short_block(tmp_path: Path) -> None:
    """The range ends where the object ends."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        assert await floor.source.get(content, [99, 100]) == {99: block(99), 100: DATA[-999:]}
        assert floor.client.ranges() == [ByteRange(99 * BLOCK_BYTES, len(DATA))]


@pytest.mark.parametrize("piece_bytes", [1000, BLOCK_BYTES, 3 * BLOCK_BYTES, 10 * BLOCK_BYTES])
async def test_pieces_of_any_length_make_the_same_blocks(tmp_path: Path, piece_bytes: int) -> None:
    """The blocks do not depend on how the network cuts a body."""
    client = MemoryClient(MemoryStore(), piece_bytes=piece_bytes)
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        wanted = range(94, 101)
        assert await floor.source.get(content, wanted) == {index: block(index) for index in wanted}


async def test_a_block_is_handed_on_before_its_get_ends(tmp_path: Path) -> None:
    """As soon as its own bytes have come: the first reader is away while the second still waits."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold(after_bytes=BLOCK_BYTES)
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 0, 1)
            await gate.wait_arrived()
            assert await floor.source.get(content, [0]) == {0: block(0)}
            assert answers.got == []
            gate.open()
        assert answers.got == [{0: block(0), 1: block(1)}]
        assert floor.client.count() == 1


async def test_what_came_last_is_in_memory(tmp_path: Path) -> None:
    """A reader that asked the disk just before the block was there does not fetch it again."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        await floor.source.get(content, [1])
        await floor.settled()
        assert await floor.source.get(content, [1]) == {1: block(1)}
        assert floor.client.count() == 1


# Giving up


async def test_a_reader_that_gives_up_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """The GET that it began goes on for the reader that waits for it."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            with trio.CancelScope() as impatient:
                async with trio.open_nursery() as first:
                    first.start_soon(answers.get, 0)
                    await gate.wait_arrived()
                    readers.start_soon(answers.get, 0)
                    await trio.testing.wait_all_tasks_blocked()
                    impatient.cancel()
            gate.open()
        assert answers.got == [{0: block(0)}]
        assert floor.client.count() == 1


async def test_a_block_that_nobody_waits_for_any_more_is_kept(tmp_path: Path) -> None:
    """Also when the only reader gave up, the bytes are not thrown away."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        with trio.move_on_after(0) as scope:
            await floor.source.get(content, [0])
        assert scope.cancelled_caught
        gate.open()
        await floor.settled()
        assert floor.cache.missing(content, [0]) == []


# Failure


async def test_a_failure_reaches_all_who_wait_each_with_an_exception_of_its_own(tmp_path: Path) -> None:
    """Of the same kind and text; and the next read tries again."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        floor.client.fail(ObjectGoneError("gone for good"))
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            for _ in range(5):
                readers.start_soon(answers.get, 7)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert len({id(error) for error in answers.errors}) == 5
        assert {(type(error), str(error)) for error in answers.errors} == {(ObjectGoneError, "gone for good")}
        assert not floor.source.is_busy
        assert await floor.source.get(content, [7]) == {7: block(7)}


async def test_what_came_before_a_failure_is_good(tmp_path: Path) -> None:
    """A GET of three blocks that breaks off in the second: the first is served and kept, two fail."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        floor.client.fail(Failure(TransportError("torn"), after_bytes=BLOCK_BYTES + 5))
        with pytest.raises(TransportError, match="torn"):
            await floor.source.get(content, [0, 1, 2])
        assert await floor.source.get(content, [0]) == {0: block(0)}
        assert floor.client.count() == 1
        assert await floor.source.get(content, [1, 2]) == {1: block(1), 2: block(2)}
        await floor.settled()
        assert floor.cache.cached_bytes(content) == 3 * BLOCK_BYTES


class _OddClient(MemoryClient):
    """Breaks its promise about ranges as `odd` says."""

    def __init__(self, odd: object) -> None:
        super().__init__(MemoryStore())
        self.odd = odd

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        if isinstance(self.odd, Exception):
            raise self.odd
        if isinstance(self.odd, bytes):
            await receive(Piece(0, self.odd))


@pytest.mark.parametrize(
    ("odd", "error", "text"),
    [
        (b"short", BadReplyError, "fewer bytes"),
        (bytes(BLOCK_BYTES + 1), BadReplyError, "more bytes"),
        (None, BadReplyError, "fewer bytes"),
        (ZeroDivisionError("a defect"), StorageError, "a defect"),
    ],
    ids=["short", "long", "nothing", "defect"],
)
async def test_a_client_that_breaks_its_promise_fails_the_read_and_nothing_else(
    tmp_path: Path, odd: object, error: type[StorageError], text: str
) -> None:
    """No reader waits without end for a block that will not come, and no loop runs without end on bytes too many."""
    client = _OddClient(odd)
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        wanted = [101 - 1] if text == "more bytes" else [0]
        with trio.fail_after(60), pytest.raises(error, match=text):
            await floor.source.get(content, [*wanted, 1] if text == "nothing" else wanted)
        await floor.settled()


async def test_a_defect_in_writing_costs_a_block_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads go on when a block cannot be kept because of a defect; the next ones are kept."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        put = floor.cache.put

        def fail_once(*_: object) -> int:
            monkeypatch.setattr(floor.cache, "put", put)
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(floor.cache, "put", fail_once)
        with capture_logs() as lines:
            assert await floor.source.get(content, [0]) == {0: block(0)}
            await floor.settled()
            assert await floor.source.get(content, [1]) == {1: block(1)}
            await floor.settled()
        assert [line["event"] for line in lines] == ["unexpected failure of a write"]
        assert floor.cache.missing(content, [0, 1]) == [0]


async def test_without_threads_nothing_is_kept_and_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system grants no thread (ulimit -u), GETs go on; keeping and reading ahead wait for better times."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        with monkeypatch.context() as patch:
            patch.setattr("trio._threads.start_thread_soon", refuse)
            floor.prefetcher.advise(content, blocks_of(ByteRange(0, len(DATA))))
            assert await floor.source.get(content, [0]) == {0: block(0)}
            await floor.settled()
        assert floor.cache.missing(content, [0]) == [0]
        await floor.source.writer.keep_again()
        assert floor.cache.missing(content, [0]) == []


async def test_a_reader_that_waits_when_the_mount_goes_away_gets_an_error(tmp_path: Path) -> None:
    """The GET's task is cancelled; a waiter outside of its nursery gets an error, not silence."""
    async with trio.open_nursery() as readers, bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        readers.start_soon(answers.get, 0)
        await gate.wait_arrived()
    assert [str(error) for error in answers.errors] == [f"{content.source}: the mount is going away"]


# Ahead of readers


async def test_prefetches_leave_connections_to_readers(tmp_path: Path) -> None:
    """Two at a time, however many wait; a reader's GET begins at once beside them."""
    async with bench(tmp_path, prefetch_gets=2) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        floor.source.prefetch(content, [*range(0, 60, 2)])
        await trio.testing.wait_all_tasks_blocked()
        assert floor.client.in_flight == 2
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 99)
            await gate.wait_arrived(3)
            assert floor.client.in_flight == 3
            gate.open()
        await floor.settled()
        assert floor.client.most_in_flight == 3
        assert floor.cache.missing(content, range(0, 60, 2)) == []
        assert floor.client.count() == 31


async def test_a_connection_kept_for_readers_is_lent_to_short_gets(tmp_path: Path) -> None:
    """While no reader comes, one of four GETs has 512 KiB, far from 16 MiB; after a reader came none is lent."""
    async with bench(tmp_path, prefetch_gets=3, gets=4) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        floor.source.prefetch(content, range(100))
        await gate.wait_arrived(4)
        assert sorted(len(byte_range) // BLOCK_BYTES for byte_range in floor.client.ranges()) == [2, 26, 26, 26]
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [100])
            await gate.wait_arrived(5)
            gate.open()
        await floor.settled()
        count, gate = floor.client.count(), floor.client.hold()
        floor.source.prefetch(floor.add("b", DATA), range(100))
        await gate.wait_arrived(3)
        await trio.testing.wait_all_tasks_blocked()
        assert floor.client.count() == count + 3
        gate.open()


async def test_where_readers_come_unexpected_prefetches_leave_them_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no other reader is there, nearly all connections may prefetch; after a reader came beside them, fewer."""
    monkeypatch.setattr(block_source, "_DEMAND_SECONDS", 1e9)
    async with bench(tmp_path, prefetch_gets=3, shared_gets=1) as floor:
        content = floor.add("a", DATA)
        gate = floor.client.hold()
        floor.source.prefetch(content, [0, 10, 20, 30])
        await gate.wait_arrived(3)
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [50])
            await gate.wait_arrived(4)
            gate.open()
        await floor.settled()
        gate = floor.client.hold()
        floor.source.prefetch(content, [60, 70, 80])
        await gate.wait_arrived(1)
        await trio.testing.wait_all_tasks_blocked()
        assert floor.client.in_flight == 1
        gate.open()


async def test_a_waiting_prefetch_that_a_reader_wants_is_begun_at_once(tmp_path: Path) -> None:
    """It leaves the queue for a connection of the readers', is not sent twice, and those behind it follow."""
    async with bench(tmp_path, prefetch_gets=1) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        floor.source.prefetch(content, [0, 10, 20, 21, 30])
        await gate.wait_arrived()
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 21)
            await gate.wait_arrived(2)
            assert floor.client.ranges() == [blocks(range(1)), blocks(range(20, 22))]
            gate.open()
        await floor.settled()
        assert answers.got == [{21: block(21)}]
        assert sorted(byte_range.start // BLOCK_BYTES for byte_range in floor.client.ranges()) == [0, 10, 20, 30]


def starts_and_lengths(ranges: Sequence[ByteRange]) -> list[tuple[int, int]]:
    """In blocks, by place: GETs that begin together come in any order."""
    return sorted((one.start // BLOCK_BYTES, len(one) // BLOCK_BYTES) for one in ranges)


async def test_what_is_fetched_ahead_is_shared_out_evenly(tmp_path: Path) -> None:
    """However it was advised, all connections have as much to bring; what is advised meanwhile is shared out, too."""
    async with bench(tmp_path, prefetch_gets=4) as floor:
        content, gate = floor.add("a", bytes(64 * MIB)), floor.client.hold()
        floor.source.prefetch(content, range(32))
        await gate.wait_arrived(4)
        assert starts_and_lengths(floor.client.ranges()) == [(0, 8), (8, 8), (16, 8), (24, 8)]
        for start in range(32, 192, 8):
            floor.source.prefetch(content, range(start, start + 8))
        gate.open()
        await floor.settled()
        later = starts_and_lengths(floor.client.ranges()[4:])
        assert sum(length for _, length in later) == 160
        assert max(length for _, length in later) <= 48  # a quarter of the 192 that were to come
        assert len(later) <= 8
        assert floor.cache.missing(content, range(192)) == []


@pytest.mark.parametrize(("window_blocks", "lengths"), [(64, [8, 8]), (0, [4] * 4)])
async def test_where_most_of_a_window_has_come_gets_are_long(
    tmp_path: Path, window_blocks: int, lengths: list[int]
) -> None:
    """Half an even share of the window, though connections are idle; at its end all of them have what is left."""
    async with bench(tmp_path, prefetch_gets=4) as floor:
        content = floor.add("a", bytes(64 * MIB))
        floor.source.prefetch(content, range(16), window_blocks=window_blocks)
        await floor.settled()
        assert [length for _, length in starts_and_lengths(floor.client.ranges())] == lengths


async def test_a_reader_that_overtakes_the_queue_has_adjacent_blocks_brought_along(tmp_path: Path) -> None:
    """The GET that is begun for it is a share of what is to come, from where it is; nothing is asked for twice."""
    async with bench(tmp_path, prefetch_gets=2) as floor:
        content, gate = floor.add("a", bytes(64 * MIB)), floor.client.hold()
        floor.source.prefetch(content, [0, 10, *range(20, 52)])
        await gate.wait_arrived(2)
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [24])
            await gate.wait_arrived(3)
            assert floor.client.ranges()[2] == blocks(range(24, 42))
            gate.open()
        await floor.settled()
        asked = [index for one in floor.client.ranges() for index in blocks_of(one)]
        assert sorted(asked) == [0, 10, *range(20, 52)]


async def test_neither_the_queue_nor_a_fetch_under_way_keeps_what_the_disk_has(tmp_path: Path) -> None:
    """What is brought along stays in the queue by name alone; what has come of a fetch is no longer the fetch's."""
    client = MemoryClient(MemoryStore(), piece_bytes=BLOCK_BYTES)
    async with bench(tmp_path, client=client, prefetch_gets=1) as floor:
        content = floor.add("a", bytes(64 * MIB))
        gates = [
            client.hold(lambda request: request.byte_range == blocks(range(2))),
            client.hold(lambda request: request.byte_range == blocks(range(10, 42)), after_bytes=20 * BLOCK_BYTES),
        ]
        floor.source.prefetch(content, [0, 1, *range(10, 42)])
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [10])
            for gate in gates:
                await gate.wait_arrived()
            readers.cancel_scope.cancel()
        while floor.cache.missing(content, range(10, 30)):
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        gc.collect()
        alive = sorted(one.key.number for one in gc.get_objects() if isinstance(one, Block))
        assert alive == [0, 1, *range(30, 42)]
        for gate in gates:
            gate.open()


async def test_a_get_is_not_lengthened_beyond_the_room_in_memory(tmp_path: Path) -> None:
    """A reader that can be served within it is, though much is queued behind what it wants."""
    async with bench(tmp_path, prefetch_gets=1, memory_bytes=16 * MIB) as floor:
        content = floor.add("a", bytes(64 * MIB))
        gate = floor.client.hold(lambda request: request.byte_range is not None and request.byte_range.start == 0)
        floor.source.prefetch(content, range(64))
        await gate.wait_arrived()
        floor.source.prefetch(content, range(100, 164))
        with trio.fail_after(60):
            assert await floor.source.get(content, [100]) == {100: bytes(BLOCK_BYTES)}
        gate.open()
        await floor.settled()


async def test_gets_are_so_long_that_one_on_each_connection_has_room(tmp_path: Path) -> None:
    """Room for 40 blocks on their way, and four connections: ten for each, one of them for what is put together."""
    async with bench(tmp_path, prefetch_gets=4, memory_bytes=16 * MIB) as floor:
        content, gate = floor.add("a", bytes(64 * MIB)), floor.client.hold()
        floor.source.prefetch(content, range(160))
        await gate.wait_arrived(3)
        gate.open()
        await floor.settled()
        assert max(length for _, length in starts_and_lengths(floor.client.ranges())) <= 9


async def test_contents_share_the_connections(tmp_path: Path) -> None:
    """A short window is spread over as many as a long one beside it."""
    async with bench(tmp_path, prefetch_gets=8) as floor:
        bulk, short = floor.add("bulk", bytes(64 * MIB)), floor.add("short", bytes(16 * MIB))
        gate = floor.client.hold()
        floor.source.prefetch(bulk, range(200))
        await gate.wait_arrived(8)
        floor.source.prefetch(short, range(16))
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, short, [0])
            await gate.wait_arrived(9)
            assert floor.client.ranges()[-1] == blocks(range(4))
            gate.open()
        await floor.settled()


async def test_what_is_on_its_way_or_came_just_now_is_not_prefetched(tmp_path: Path) -> None:
    """Advice is given freely: it costs nothing where it comes late."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        await floor.source.get(content, [0])
        gate = floor.client.hold()
        floor.source.prefetch(content, [0, 1, 2])
        floor.source.prefetch(content, [0, 1, 2])
        await gate.wait_arrived()
        gate.open()
        await floor.settled()
        assert floor.client.ranges() == [blocks(range(1)), blocks(range(1, 3))]


async def test_a_prefetch_that_fails_frees_its_place(tmp_path: Path) -> None:
    """The next ones run, nothing is left behind, and readers may ask for the block themselves."""
    async with bench(tmp_path, prefetch_gets=1) as floor:
        content = floor.add("a", DATA)
        floor.client.fail(TransportError("no"), TransportError("no"))
        floor.source.prefetch(content, [0, 10, 20])
        await floor.settled()
        assert floor.cache.missing(content, [0, 10, 20]) == [0, 10]
        assert await floor.source.get(content, [0]) == {0: block(0)}


# The disk


async def test_what_was_fetched_is_on_the_disk_in_the_end(tmp_path: Path) -> None:
    """Closing waits for the blocks that are queued: another mount finds all of them."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        await floor.source.get(content, range(101))
    again = BlockCache(tmp_path, scope="test", metrics=Metrics())
    assert again.read(content, ByteRange(0, len(DATA))) == DATA


async def test_what_a_slow_disk_holds_up_is_kept_in_the_end(tmp_path: Path) -> None:
    """Blocks that readers have, but for which there is no room in the queue, survive the end of the mount."""
    async with bench(tmp_path, keeps_blocks=False) as floor:
        content = floor.add("a", DATA)
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, range(101))
            await trio.testing.wait_all_tasks_blocked()
            readers.cancel_scope.cancel()
        floor.start_keeping()  # it begins when the GETs are cancelled
    again = BlockCache(tmp_path, scope="test", metrics=Metrics())
    the_queue_holds = 64
    assert 101 - len(again.missing(content, range(101))) > the_queue_holds


async def test_waiting_for_the_disk_waits_for_what_has_come(tmp_path: Path) -> None:
    """`written` returns when the blocks that have arrived are on the disk, and does not wait for others."""
    async with bench(tmp_path, keeps_blocks=False) as floor:
        content, other = floor.add("a", DATA), floor.add("b", DATA)
        await floor.source.writer.written(content)
        await floor.source.get(content, [0])
        await floor.source.get(other, [0])
        gate = floor.client.hold()
        floor.source.prefetch(content, [50])
        await gate.wait_arrived()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(floor.source.writer.written, content)
            await trio.testing.wait_all_tasks_blocked()
            assert floor.cache.missing(content, [0]) == [0]
            floor.start_keeping()
        assert floor.cache.missing(content, [0]) == []
        gate.open()


async def test_a_disk_that_hangs_holds_back_gets_and_no_block_is_lost(tmp_path: Path) -> None:
    """Blocks that wait for the disk take up the memory for them, 10 MiB of 16; when it is back GETs go on."""
    async with bench(tmp_path, keeps_blocks=False, memory_bytes=16 * MIB) as floor:
        content = floor.add("a", DATA)
        floor.source.prefetch(content, range(101))
        await trio.testing.wait_all_tasks_blocked()
        assert 20 * BLOCK_BYTES <= floor.client.sent_bytes <= 40 * BLOCK_BYTES == floor.memory.blocks.limit_bytes
        floor.start_keeping()
        await floor.settled()
        assert floor.client.sent_bytes == len(DATA)
        assert floor.cache.cached_bytes(content) == len(DATA)


async def test_a_reader_is_answered_while_the_disk_hangs(tmp_path: Path) -> None:
    """The block that it waits for is handed on before it is queued."""
    async with bench(tmp_path, keeps_blocks=False) as floor:
        content = floor.add("a", DATA)
        floor.source.prefetch(content, range(90))
        await trio.testing.wait_all_tasks_blocked()
        assert await floor.source.get(content, [95]) == {95: block(95)}
        floor.start_keeping()


async def test_room_ahead_follows_the_cache_and_the_disk(tmp_path: Path) -> None:
    """Half of the room, at first a quarter of the limit; what memory holds, if the disk takes nothing or little."""
    async with bench(tmp_path / "small", limit_bytes=MIB) as floor:
        assert floor.source.room_bytes == 16 * MIB
    async with bench(tmp_path / "large", limit_bytes=1000 * MIB) as floor:
        content = floor.add("a", DATA)
        assert floor.source.room_bytes == 250 * MIB
        in_the_way = tmp_path / "large" / FORMAT / "test" / "partial"  # where the content would stand
        in_the_way.touch()
        await floor.source.get(content, [0])
        await floor.settled()
        assert floor.source.room_bytes == 16 * MIB
        in_the_way.unlink()
        await floor.source.get(content, [1])
        await floor.settled()
        assert 249 * MIB < floor.source.room_bytes < 250 * MIB


async def test_memory_of_what_came_last_is_bounded(tmp_path: Path) -> None:
    """32 MiB, not the whole file: older blocks are the disk's, and would be fetched again without it."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        big = floor.add("b", bytes(32 * MIB))
        await floor.source.get(content, [0])
        for start in range(0, big.size_bytes // BLOCK_BYTES, 16):
            await floor.source.get(big, range(start, start + 16))
        await floor.settled()
        count = floor.client.count()
        await floor.source.get(content, [0])
        assert floor.client.count() == count + 1


async def test_evicted_contents_are_closed_while_blocks_are_kept(tmp_path: Path) -> None:
    """A full cache of 2 MiB: reading 26 MB leaves it within its size, and the deleted files' space is free."""
    async with bench(tmp_path, limit_bytes=2 * MIB) as floor:
        content = floor.add("a", DATA)
        await floor.source.get(content, range(101))
        await floor.settled()
        assert floor.metrics.evicted_contents > 5
        kept = list(tmp_path.rglob(DATA_FILE))
        assert sum(path.stat().st_blocks * 512 for path in kept) <= 2 * MIB


# A fetch that brings nothing


async def test_nobody_joins_a_fetch_that_was_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A reader's time runs out: the next one begins another fetch, of all that the first had not brought."""
    async with bench(tmp_path) as floor:
        content, held = floor.add("a", DATA), []

        def is_first(request: Request) -> bool:
            held.append(request)
            return request is held[0]

        gate = floor.client.hold(is_first)
        with trio.move_on_after(5) as time:
            await floor.source.get(content, range(2, 6))
        assert time.cancelled_caught
        assert await floor.source.get(content, [4]) == {4: block(4)}
        assert floor.client.ranges() == [blocks(range(2, 6)), blocks(range(4, 5))]
        gate.open()
        await floor.settled()
        assert await floor.source.get(content, range(2, 6)) == {index: block(index) for index in range(2, 6)}
        assert floor.client.count() == 2  # what was given up has come all the same
        assert len(floor.source._backlogs) == 0
        assert floor.memory.blocks.held_bytes == 0


async def test_a_fetch_is_joined_after_a_reader_was_interrupted(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A program that ends says nothing of the fetch: the next reader joins it."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 3)
            await trio.sleep(20)
            readers.cancel_scope.cancel()
        async with trio.open_nursery() as readers:
            readers.start_soon(answers.get, 3)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert answers.got == [{3: block(3)}]
        assert floor.client.count() == 1


async def test_silence_before_a_reader_came_is_not_its_own(tmp_path: Path) -> None:
    """Who joins a fetch that fails for silence asks once more by itself; who began it gets the failure."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        answers = Answers(floor, content)
        floor.client.fail(SilenceError("no byte"))
        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(answers.get, 3)
                await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert [type(error) for error in answers.errors] == [SilenceError]
        assert answers.got == [{3: block(3)}] * 2
        assert floor.client.count() == 2
