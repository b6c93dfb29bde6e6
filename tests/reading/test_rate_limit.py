"""The limit of bytes a second: readers first, no time of a reader's counted. In exact seconds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes.store import Pattern
from tests.reading.bench import MIB, Bench, bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.shared_rate import SharedBucket, read_rate, set_rate
from vbnfs.errors import OfflineError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content
from vbnfs.rate import OFF, Bucket
from vbnfs.reading.rate_limit import Admission, RateLimit

KIB = 1 << 10
RATE = 1 * MIB  # four blocks a second
BLOCK_SECONDS = BLOCK_BYTES / RATE
MUCH_SECONDS = 10  # of a busy machine
FEW_GETS = 5  # of more than 20 that wait; a thread that is slow lets the clock of the run go on


def limit_of(rate: int = RATE, **more: Any) -> RateLimit:
    """A limit of this process alone, in the time of the run."""
    return RateLimit(rate=rate, clock=trio.current_time, **more)


async def fetch(
    limit: RateLimit, ended: list[str], name: str, *, is_wanted: bool, blocks: int = 1, content: str = "a"
) -> None:
    """What a fetch does, without its GET."""
    admission = Admission(content, blocks * BLOCK_BYTES, is_wanted=is_wanted)
    async with limit.admitted(admission):
        admission.came_bytes = admission.count_bytes
    ended.append(name)


async def test_readers_go_first(autojump_clock: MockClock) -> None:
    """Of what waits at the same time, readers go first, in their order; then the others in theirs."""
    limit, ended = limit_of(), list[str]()
    async with trio.open_nursery() as nursery:
        for name in ("ahead 1", "ahead 2", "reader 1", "reader 2", "ahead 3", "reader 3"):
            nursery.start_soon(partial(fetch, limit, ended, name, is_wanted=name.startswith("reader")))
            await trio.sleep(0.001)
    assert ended == ["reader 1", "reader 2", "reader 3", "ahead 1", "ahead 2", "ahead 3"]


async def test_files_take_turns(autojump_clock: MockClock) -> None:
    """A read of another file waits for one block of a file of which the kernel has asked for many, and no more."""
    limit, ended = limit_of(), list[str]()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(partial(fetch, limit, ended, f"long {number}", is_wanted=True, content="long"))
            await trio.sleep(0.001)
        for number in range(2):
            await trio.sleep(2 * BLOCK_SECONDS)
            nursery.start_soon(partial(fetch, limit, ended, f"short {number}", is_wanted=True, content="short"))
            before = len(ended)
            await trio.sleep(2 * BLOCK_SECONDS)
            assert f"short {number}" in ended[before : before + 2]
    assert [name for name in ended if name.startswith("long")] == [f"long {number}" for number in range(8)]


async def test_what_a_reader_comes_for_goes_with_readers(autojump_clock: MockClock) -> None:
    """A prefetch that waits goes at once when a reader comes for it: prefetches leave no debt."""
    limit = limit_of()
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(partial(fetch, limit, [], str(number), is_wanted=False))
        await trio.sleep(BLOCK_SECONDS * 2.5)
        wanted = Admission("a", BLOCK_BYTES, is_wanted=False)
        nursery.start_soon(_admit, limit, wanted)
        await trio.sleep(0.001)
        began = trio.current_time()
        wanted.want()
        with trio.fail_after(0.01):
            async with limit.admitted(Admission("a", 0, is_wanted=True)):  # behind it in the line of readers
                pass
        assert trio.current_time() - began < 0.01


async def _admit(limit: RateLimit, admission: Admission) -> None:
    async with limit.admitted(admission):
        admission.came_bytes = admission.count_bytes


async def test_off_ends_every_wait() -> None:
    """A rate so low that all would wait for minutes: when it is off, all go within a second, or little more."""
    rates = [16 * KIB]
    limit, ended = limit_of(16 * KIB, read_rate=lambda: rates[0]), list[str]()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as fetches:
            for number in range(20):
                fetches.start_soon(partial(fetch, limit, ended, str(number), is_wanted=number % 2 == 0))
            await wait_all_tasks_blocked()
            assert len(ended) == 1
            report = limit.report()
            assert (report["rate_bytes"], report["waiting_reads"], report["waiting_others"]) == (16 * KIB, 9, 10)
            rates[0] = OFF
            nursery.start_soon(limit.watch)
            began = trio.current_time()
        assert trio.current_time() - began < MUCH_SECONDS
        assert limit.report()["rate_bytes"] is None
        nursery.cancel_scope.cancel()


async def test_a_lower_rate_holds_soon() -> None:
    """What was not limited is, within a second of its being set, or little more."""
    rates: list[int | None] = [None]
    limit = limit_of(OFF, read_rate=lambda: rates[0])
    assert limit.most_blocks is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limit.watch)
        await wait_all_tasks_blocked()
        rates[0] = 64 * KIB
        with trio.fail_after(MUCH_SECONDS):
            while limit.rate == OFF:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert limit.most_blocks == 1
        nursery.cancel_scope.cancel()


async def test_the_time_of_readers_does_not_count(autojump_clock: MockClock) -> None:
    """While readers are held back no time limit goes on; while only prefetches are, it does."""
    limit = limit_of(16 * KIB)  # a block takes 16 s
    async with trio.open_nursery() as nursery:
        with limit.deadlines.fail_after(5), limit.deadlines.waiting_for_fetches():
            for number in range(4):
                nursery.start_soon(partial(fetch, limit, [], str(number), is_wanted=True))
            await trio.sleep(40)
        await trio.sleep(20)
        began = trio.current_time()
        for number in range(4):
            nursery.start_soon(partial(fetch, limit, [], str(number), is_wanted=False))
        with (
            pytest.raises(trio.TooSlowError),
            limit.deadlines.fail_after(5),
            limit.deadlines.waiting_for_fetches(),
        ):
            await trio.sleep_forever()
        assert trio.current_time() - began == pytest.approx(5)


async def test_what_did_not_come_is_given_back(autojump_clock: MockClock) -> None:
    """A fetch that found its blocks on the disk, or failed, costs nothing: the next ones go at once."""
    limit, began = limit_of(), trio.current_time()
    for _ in range(50):
        async with limit.admitted(Admission("a", BLOCK_BYTES, is_wanted=True)):
            pass
    assert trio.current_time() - began < 0.01


async def test_what_gives_up_waiting_leaves_the_line(autojump_clock: MockClock) -> None:
    """A fetch that is cancelled while it waits holds up none behind it."""
    limit, ended = limit_of(16 * KIB), list[str]()
    async with trio.open_nursery() as nursery:
        await fetch(limit, ended, "first", is_wanted=True)
        with trio.move_on_after(1):
            await fetch(limit, ended, "cancelled", is_wanted=True)
        nursery.start_soon(partial(fetch, limit, ended, "last", is_wanted=False))
    assert ended == ["first", "last"]
    assert limit.report()["waiting_reads"] == limit.report()["waiting_others"] == 0


async def test_lists_count(autojump_clock: MockClock) -> None:
    """What lists and manifests brought is paid for by what comes after them."""
    metrics = Metrics()
    limit = limit_of(metrics=metrics)
    metrics.listed_bytes += RATE // 2
    began = trio.current_time()
    await fetch(limit, [], "after a list", is_wanted=True)
    assert trio.current_time() - began == pytest.approx(0.5, abs=0.01)


async def test_held_fetches_are_counted(autojump_clock: MockClock) -> None:
    """Of three fetches the second and the third had to wait."""
    metrics = Metrics()
    limit = limit_of(metrics=metrics)
    for name in ("at once", "held", "held"):
        await fetch(limit, [], name, is_wanted=True)
    assert metrics.limited_fetches == 2


# With a bucket in a file


class Hanging(SharedBucket):
    """A bucket on a disk that does not answer."""

    def change(self, change: Callable[[Bucket], tuple[Bucket, Any]]) -> Any:
        raise TimeoutError("the disk hangs")


async def test_two_share_a_bucket(tmp_path: Path) -> None:
    """What one takes the other lacks."""
    one, other = (RateLimit(rate=64 * MIB, bucket=SharedBucket(tmp_path)) for _ in range(2))
    assert one.report()["is_shared"]
    await fetch(one, [], "one", is_wanted=True, blocks=64)
    began = trio.current_time()
    await fetch(other, [], "other", is_wanted=True)
    assert trio.current_time() - began >= 0.2


async def test_a_disk_that_fails(tmp_path: Path) -> None:
    """Where the bucket cannot be had, this process keeps to the rate by itself, and says so."""
    limit = RateLimit(rate=64 * MIB, bucket=Hanging(tmp_path))
    began = trio.current_time()
    await fetch(limit, [], "one", is_wanted=True, blocks=64)
    assert limit.report()["is_shared"] is False
    await fetch(limit, [], "another", is_wanted=True)
    assert trio.current_time() - began >= 0.2


async def test_the_rate_that_a_cache_has(tmp_path: Path) -> None:
    """A rate that is set counts; where none can be read, the one that was known stays."""
    limit = RateLimit(rate=5 * MIB, read_rate=lambda: read_rate(tmp_path).rate)
    await limit.learn()
    assert limit.rate == 5 * MIB
    set_rate(tmp_path, OFF)
    await limit.learn()
    assert limit.rate == OFF


# Fetches


async def test_a_read_keeps_to_the_rate(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A cold file of 6 MiB takes 6 s at 1 MiB a second, less what the bucket holds, in GETs of one block."""
    autojump_clock.autojump_threshold = 0.02
    limit = limit_of()
    async with bench(tmp_path, limit=limit) as floor:
        content = floor.add("a", data := Pattern(6 * MIB))
        reader, began, position = floor.open(content), trio.current_time(), 0
        while position < content.size_bytes:
            part = await reader.read(position, 128 * KIB)
            assert bytes(part) == data[position : position + len(part)]
            position += len(part)
        assert 5.5 <= trio.current_time() - began <= 12
        assert max(map(len, floor.client.ranges())) == BLOCK_BYTES
        assert floor.client.sent_bytes == content.size_bytes
        assert floor.metrics.limited_fetches == 0  # it has counters of its own


async def gets_until_read(floor: Bench, content: Content, offset: int) -> int:
    """How many GETs begin until a small read has its bytes, its own included."""
    before = len(floor.client.ranges())
    await floor.open(content, advises=False).read(offset, 4 * KIB)
    return len(floor.client.ranges()) - before


async def test_a_small_read_beside_prefetches(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While 16 MiB are fetched ahead, a block that a reader wants is the next one, or the one behind that."""
    autojump_clock.autojump_threshold = 0.02
    async with bench(tmp_path, limit=limit_of(), prefetch_gets=24) as floor:
        ahead, other = floor.add("ahead", Pattern(16 * MIB)), floor.add("other", Pattern(16 * MIB))
        floor.prefetcher.advise(ahead, blocks_of(ByteRange(0, 16 * MIB)))
        await trio.sleep(2)
        for number in range(4):
            assert await gets_until_read(floor, other, number * 2 * MIB) <= FEW_GETS
            await trio.sleep(1)
        floor.services.cancel_scope.cancel()


async def test_a_block_that_waits_as_a_prefetch_is_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A reader that comes for a block far behind in the line of prefetches does not wait for those before it."""
    autojump_clock.autojump_threshold = 0.02
    async with bench(tmp_path, limit=limit_of(), prefetch_gets=24) as floor:
        content = floor.add("a", Pattern(6 * MIB))
        floor.prefetcher.advise(content, blocks_of(ByteRange(0, 6 * MIB)))
        await trio.sleep(0.1)
        assert await gets_until_read(floor, content, 22 * BLOCK_BYTES) <= FEW_GETS
        floor.services.cancel_scope.cancel()


async def test_hashing_waits_behind_readers(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While a file is fetched to be hashed, a reader's block is the next one, or the one behind that."""
    autojump_clock.autojump_threshold = 0.02
    async with bench(tmp_path, limit=limit_of(), prefetch_gets=24) as floor:
        hashed = floor.add("hashed", Pattern(16 * MIB), file_hash="0" * 128)
        other = floor.add("other", Pattern(4 * MIB))
        floor.services.start_soon(partial(floor.verifier.verify, hashed, fetch=True))
        await trio.sleep(2)
        for number in range(4):
            assert await gets_until_read(floor, other, number * MIB) <= FEW_GETS
        assert floor.client.sent_bytes > 4 * BLOCK_BYTES
        floor.services.cancel_scope.cancel()


async def test_what_fails_at_once_is_not_held_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Without a network reads fail at once under a limit, too: nothing came, and nothing is paid for."""
    autojump_clock.autojump_threshold = 0.02
    async with bench(tmp_path, limit=limit_of()) as floor:
        content, began = floor.add("a", Pattern(16 * MIB)), trio.current_time()
        floor.client.fail_when(lambda request: OfflineError("offline"))
        for number in range(20):
            with pytest.raises(OfflineError):
                await floor.open(content, advises=False).read(number * BLOCK_BYTES, KIB)
        assert trio.current_time() - began < 4 * BLOCK_SECONDS  # 20 GETs


async def test_a_window_of_ten_seconds(tmp_path: Path, autojump_clock: MockClock) -> None:
    """No more is fetched ahead of a reader than ten seconds bring."""
    async with bench(tmp_path, limit=limit_of()) as floor:
        assert floor.source.window_bytes == 10 * RATE
    async with bench(tmp_path) as floor:
        assert floor.source.window_bytes == 256 * MIB


async def test_a_held_reader_does_not_give_its_fetch_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One that is interrupted when its time would be over without the limit leaves its fetch to others: one GET."""
    autojump_clock.autojump_threshold = 0.02
    limit = limit_of(16 * KIB)
    async with bench(tmp_path, limit=limit) as floor:
        content = floor.add("a", Pattern(MIB))
        await floor.open(content, advises=False).read(0, KIB)
        with trio.move_on_after(12) as interrupted, limit.deadlines.fail_after(5):
            await floor.open(content, advises=False).read(MIB // 2, KIB)
        assert interrupted.cancelled_caught
        await floor.open(content, advises=False).read(MIB // 2, KIB)
        assert floor.client.count("get_range") == 2
