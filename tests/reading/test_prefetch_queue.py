"""Which prefetch is next."""

from tests.fakes.store import MemoryStore
from tests.reading.bench import add
from vbnfs.reading.prefetch_queue import PrefetchQueue, Rank


def test_ranks_go_one_after_the_other_each_in_order() -> None:
    """What is read ahead goes before structure, and that before what may be read some time."""
    content, queue = add(MemoryStore(), "a", b"a"), PrefetchQueue()
    assert not queue
    assert queue.rank is queue.last_rank is Rank.READ_AHEAD
    for number, rank in enumerate([Rank.LATER, Rank.STRUCTURE, Rank.READ_AHEAD, Rank.STRUCTURE, Rank.LATER]):
        queue.extend([(content, number)], rank)
    assert queue.last_rank is Rank.LATER
    order = []
    while queue:
        order.append((queue.first()[1], queue.rank))
        queue.drop_first()
    assert [number for number, _ in order] == [2, 1, 3, 0, 4]
    assert [rank for _, rank in order] == sorted(rank for _, rank in order)
