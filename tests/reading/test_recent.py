"""The blocks that came last: what was read leaves first."""

from collections.abc import Iterable

from vbnfs.objects import BlockKey
from vbnfs.reading.recent import Recent

SIZE = 10


def keys(content_id: str, indices: Iterable[int]) -> list[BlockKey]:
    return [BlockKey(content_id, index) for index in indices]


def add(recent: Recent, content_id: str, indices: Iterable[int]) -> None:
    for key in keys(content_id, indices):
        recent.add(key, bytes(SIZE))


def there(recent: Recent, content_id: str) -> list[int]:
    """The numbers of a content's blocks that are there."""
    found = [index for index in range(100) if BlockKey(content_id, index) in recent]
    assert found == [index for index in range(100) if recent.get(BlockKey(content_id, index)) is not None]
    return found


def test_what_came_first_leaves_first() -> None:
    """As long as nothing is read."""
    recent = Recent(8 * SIZE)
    add(recent, "a", range(10))
    assert there(recent, "a") == [*range(2, 10)]
    assert len(recent) == 8


def test_what_was_read_leaves_before_what_was_not() -> None:
    """In the order in which it was read: what lies ahead of a program that rests stays, as others read on and on."""
    recent = Recent(16 * SIZE)
    add(recent, "rests", range(8))
    for index in range(50):
        add(recent, "goes on", [index])
        recent.note_read(BlockKey("goes on", index))
    assert there(recent, "rests") == [*range(8)]
    assert there(recent, "goes on") == [*range(42, 50)]


def test_what_was_read_keeps_an_eighth() -> None:
    """What nothing reads any more leaves for it, the oldest first."""
    recent = Recent(16 * SIZE)
    add(recent, "given up", range(16))
    for index in range(50):
        add(recent, "goes on", [index])
        recent.note_read(BlockKey("goes on", index))
    assert there(recent, "given up") == [*range(3, 16)]
    assert there(recent, "goes on") == [*range(47, 50)]  # two of 16, and the one that came last


def test_a_block_that_comes_again() -> None:
    """It is there once, and unread; and one that was read is counted once, however often it is read."""
    recent = Recent(4 * SIZE)
    add(recent, "a", [0, 1, 2, 3])
    for _ in range(2):
        recent.note_read(BlockKey("a", 0))
    add(recent, "a", [0])
    assert len(recent) == 4
    add(recent, "a", [4])
    assert there(recent, "a") == [0, 2, 3, 4]


def test_short_blocks() -> None:
    """The end of a file that was read is no reason to drop the block that has just come."""
    recent = Recent(SIZE)
    recent.add(BlockKey("a", 0), b"end")
    recent.note_read(BlockKey("a", 0))
    recent.add(BlockKey("b", 0), bytes(1))
    add(recent, "c", [0])
    assert (there(recent, "a"), there(recent, "b"), there(recent, "c")) == ([], [], [0])


def test_forgetting_a_content() -> None:
    """What of it was read, and what was not, is gone and leaves its room; others stay."""
    recent = Recent(4 * SIZE)
    add(recent, "wrong", [0, 1])
    recent.note_read(BlockKey("wrong", 0))
    add(recent, "right", [0, 1])
    recent.forget("wrong")
    add(recent, "right", [2, 3])
    assert (there(recent, "wrong"), there(recent, "right")) == ([], [0, 1, 2, 3])
    recent.note_read(BlockKey("wrong", 0))
    assert len(recent) == 4
