"""Which reads make a block worth having whole."""

import random

import pytest

from vbnfs.filesystem import small_reads as touches
from vbnfs.filesystem.small_reads import RepeatedSmallReads

KIB, BLOCK = 1 << 10, 256 << 10
INODE = 7


def asked(reads: list[tuple[int, int]]) -> list[bool]:
    """What is said of each of these reads of one file: offset and size."""
    seen = RepeatedSmallReads()
    return [seen.is_again(INODE, offset, size) for offset, size in reads]


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        ([(8 * KIB, 4 * KIB), (100 * KIB, 4 * KIB)], [False, True]),
        ([(100 * KIB, 4 * KIB), (8 * KIB, 4 * KIB)], [False, True]),
        ([(8 * KIB, 4 * KIB), (8 * KIB, 4 * KIB)], [False, True]),
        ([(8 * KIB, 4 * KIB), (BLOCK, 4 * KIB)], [False, False]),  # of another block
        ([(0, 4 * KIB), (4 * KIB, 4 * KIB), (8 * KIB, 4 * KIB)], [False, False, False]),  # in a row
        ([(0, 4 * KIB), (4 * KIB, 4 * KIB), (16 * KIB, 4 * KIB)], [False, False, True]),
        ([(0, 64 * KIB), (100 * KIB, 64 * KIB)], [False, False]),  # not so small
        ([(0, BLOCK), (BLOCK - 4 * KIB, 4 * KIB)], [False, False]),
        ([(0, 4 * KIB), (9 * KIB, 4 * KIB), (20 * KIB, 4 * KIB)], [False, True, False]),  # begins anew
    ],
)
def test_the_second_of_two_small_reads(reads: list[tuple[int, int]], said: list[bool]) -> None:
    """It is the second small read of a block that tells, unless it goes on where the first one ended."""
    assert asked(reads) == said


def test_reading_ahead() -> None:
    """As the kernel begins to read a file in order, in parts of 16, 32, 64, ... KiB, no block is named."""
    sizes = [size * KIB for size in (16, 32, 64, 128, *[512] * 20)]
    assert not any(asked([(sum(sizes[:number]), size) for number, size in enumerate(sizes)]))


def test_files_are_distinguished() -> None:
    """The same block of another file is another block."""
    seen = RepeatedSmallReads()
    assert not seen.is_again(1, 0, 4096)
    assert not seen.is_again(2, 8192, 4096)
    assert seen.is_again(1, 8192, 4096)


def test_what_was_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that was not a short while ago does not count."""
    monkeypatch.setattr(touches, "_SOON_SECONDS", 0.0)
    assert asked([(0, 4096), (8192, 4096), (20480, 4096)]) == [False, False, False]


def test_few_blocks_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many blocks those that were read last are remembered; reads all over a large file make none worth having."""
    monkeypatch.setattr(touches, "_MOST_BLOCKS", 3)
    once = [(block * BLOCK, 4096) for block in range(4)]
    assert asked([*once, (3 * BLOCK + 8192, 4096), (1 * BLOCK + 8192, 4096)]) == [False] * 4 + [True] * 2
    assert not asked([*once, (8192, 4096)])[-1]
    rng = random.Random(4)
    everywhere = [(rng.randrange(1 << 20) * BLOCK, 4096) for _ in range(1000)]
    assert not any(asked(everywhere))
