"""What to fetch for a read, and what to fetch ahead of it (pure arithmetic on values)."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.link import Link
from vbnfs.objects import ByteRange

LONG_GET_BLOCKS: Final = (
    64  # 16 MiB: long enough, unless the first byte takes so long that longer ones are worthwhile
)
LONGEST_GET_BLOCKS: Final = 128
SHORT_GET_BLOCKS: Final = 2  # far away, a short window comes sooner by many GETs than by few
# Windows move on in steps, not for each read: each costs a check of the disk, in a thread.
_SHORT_STEP_BLOCKS: Final = 4
_STEPS: Final = 16  # the windows of all readers have so many together ...
_LEAST_STEPS: Final = 2  # ... and that of each so many
_NEAR_BLOCKS: Final = 4
# The kernel's readahead sends its requests side by side: they arrive out of order.
_NEAR_BYTES: Final = _NEAR_BLOCKS * BLOCK_BYTES
_LATE_BYTES: Final = 3 * _NEAR_BYTES  # so far behind its run one of them may come: the others are up to 1 MiB long
_SEQUENTIAL_BYTES: Final = 2 * BLOCK_BYTES  # read in a row before it counts as a pattern
_WINDOW_FACTOR: Final = 4  # fetched ahead at most so many times what was read: a reader that stops wastes no more
WIDE_WINDOW_BYTES: Final = 256 << 20  # of all readers together, unless long GETs are worthwhile ...
_WIDEST_WINDOW_BYTES: Final = 1 << 30  # ... and one reads alone: then this at the most
_SMALL_FILE_BYTES: Final = 16 << 20  # comes whole, when it is read in a row
# Ten seconds of an LFP channel are 5 MB in a row, with what the kernel reads ahead, and then the reader is elsewhere:
# until more than that was read, a short window will do.
_SHORT_RUN_BYTES: Final = 6 << 20
_SHORT_WINDOW_BYTES: Final = 4 << 20


def metadata_neighbourhood(lacking: range, earlier: Sequence[int]) -> range:
    """Blocks that are lacking, and one more on each side if one that was lacking before was within 1 MiB.

    HDF5 stores what describes its datasets in clusters. A reader that goes on right behind its last block is reading
    in a row, and not through such a cluster.
    """
    near = range(lacking.start - _NEAR_BLOCKS, lacking.stop + _NEAR_BLOCKS)
    is_near = any(index in near and index not in lacking for index in earlier)
    if not is_near or lacking.start == earlier[-1] + 1:
        return lacking
    return range(max(0, lacking.start - 1), lacking.stop + 1)


def tail_of(size_bytes: int) -> range:
    """A file's last whole block and what is behind it: what HDF5 stores at the end may begin in either."""
    return range(max(0, size_bytes // BLOCK_BYTES - 1), -(-size_bytes // BLOCK_BYTES))


def follows_structure(lacked: Set[int], led_to: Set[int], size_bytes: int) -> bool:
    """Whether a program follows a file's structure: it lacked a block to which that led.

    A file's first block and its end show nothing, for programs that find out what a file is read these of any file.
    """
    return bool((lacked & led_to) - {0, *tail_of(size_bytes)})


def step_blocks(window_bytes: int, *, readers: int) -> int:
    """The step in which the window of one of so many readers moves on; each step is a GET at least, so not tiny."""
    steps = max(_LEAST_STEPS, _STEPS // readers)
    return max(_SHORT_STEP_BLOCKS, min(window_bytes // BLOCK_BYTES // steps, LONG_GET_BLOCKS))


def fresh_advice(ahead: ByteRange, advised: int) -> ByteRange:
    """What of `ahead` to ask for now, if all before byte `advised` was: at most 16 MiB, for each block takes time."""
    return ByteRange(advised, max(advised, min(ahead.stop, advised + LONG_GET_BLOCKS * BLOCK_BYTES)))


def longest_get(link: Link) -> int:
    """How many blocks a GET may bring: 16 MiB, or as much as makes its first byte's time small, up to 32 MiB."""
    return max(LONG_GET_BLOCKS, min(link.worthwhile_bytes // BLOCK_BYTES, LONGEST_GET_BLOCKS))


def window_bytes(link: Link, *, connections: int, longest: int) -> int:
    """How much is wanted ahead of all readers together, at most, where GETs bring up to `longest` blocks.

    Twice what is under way when GETs are as long as is worthwhile: on average, half of what they bring has come.
    """
    get_bytes = min(link.worthwhile_bytes, longest * BLOCK_BYTES)
    return min(max(WIDE_WINDOW_BYTES, 2 * connections * get_bytes), _WIDEST_WINDOW_BYTES)


def lent_share(link: Link) -> int:
    """How many blocks a GET brings on a connection that is kept for readers.

    It is free again after three times the first byte's time: a reader that comes does not wait for long.
    """
    return max(SHORT_GET_BLOCKS, min(2 * link.first_byte_bytes // BLOCK_BYTES, LONG_GET_BLOCKS))


def even_share(
    coming_blocks: int, *, connections: int, window_blocks: int = 0, longest: int = LONG_GET_BLOCKS
) -> int:
    """How many blocks a GET brings: of all that are to come when it begins, an even share for each connection.

    So a short window comes in one round of all connections, and at the end of a file they are done at about the same
    time. In between GETs are as long as can be, up to `longest`: each costs a round trip, and milliseconds of
    processor time. Where most of a window has come already and more will be wanted behind it, the reader does not
    wait: then it is a share of half of the window. (A share of all of it would be too long: connections would wait
    for the reader, which waits for the first of them.)
    """
    blocks = max(coming_blocks, window_blocks // 2)
    return max(SHORT_GET_BLOCKS, min(-(-blocks // connections), longest))


def plan_gets(missing: Sequence[int], *, longest: int = LONG_GET_BLOCKS) -> Iterator[range]:
    """Ascending block numbers as runs of adjacent blocks: one GET each, at most `longest` blocks."""
    start = 0
    for position in range(1, len(missing) + 1):
        is_adjacent = position < len(missing) and missing[position] == missing[position - 1] + 1
        if not is_adjacent or position - start == longest:
            yield range(missing[start], missing[position - 1] + 1)
            start = position


def plan_wave(blocks: Sequence[int], *, gets: int, most_bridged: int) -> list[range]:
    """Ascending block numbers as at most `gets` GETs that are sent at the same time, if that can be.

    Where there are more runs of adjacent blocks, the narrowest gaps between them are bridged, and fetched too, of
    `most_bridged` blocks in all. Where there are fewer, long ones are cut, so that all connections have a part.
    """
    runs = list(plan_gets(blocks, longest=max(1, len(blocks))))
    while len(runs) > gets:
        place = min(range(1, len(runs)), key=lambda number: runs[number].start - runs[number - 1].stop)
        gap = runs[place].start - runs[place - 1].stop
        if gap > most_bridged:
            break
        most_bridged -= gap
        runs[place - 1 : place + 1] = [range(runs[place - 1].start, runs[place].stop)]
    while len(runs) < gets and (longest := max(runs, key=len, default=range(0))) and len(longest) > SHORT_GET_BLOCKS:
        place, middle = runs.index(longest), longest.start + len(longest) // 2
        runs[place : place + 1] = [range(longest.start, middle), range(middle, longest.stop)]
    return runs


@dataclass(frozen=True, slots=True)
class AccessPattern:
    """How a file is being read: where the current run of reads ends, how many bytes it has read, where it began."""

    position: int = 0
    run_bytes: int = 0
    began: int = 0

    def after(self, read: ByteRange) -> "AccessPattern":
        """The pattern after one more read. A read elsewhere begins a new run, one that comes late does not."""
        is_late = self.is_sequential and self.began <= read.start and 0 <= self.position - read.start <= _LATE_BYTES
        if abs(read.start - self.position) > _NEAR_BYTES and not is_late:
            return AccessPattern(read.stop, 0, read.start)
        began = min(self.began, read.start)
        return AccessPattern(max(self.position, read.stop), self.run_bytes + len(read), began)

    def passes(self, start: int) -> bool:
        """Whether the run has come to a byte from far before it, so that what begins there is no reason for it."""
        return start - self.began > _NEAR_BYTES

    def has_read(self, size_bytes: int) -> bool:
        """Whether the run has gone through a file: to its end, and through all but what the kernel may have had."""
        least_bytes = max(1, size_bytes // 2, size_bytes - BLOCK_BYTES)
        return self.position >= size_bytes and self.run_bytes >= least_bytes

    @property
    def is_elsewhere(self) -> bool:
        """Whether the last read began a new run."""
        return self.run_bytes == 0

    @property
    def is_sequential(self) -> bool:
        """Whether it is likely to go on as it did."""
        return self.run_bytes >= _SEQUENTIAL_BYTES

    @property
    def is_long(self) -> bool:
        """Whether so much was read in a row that a wide window is worth its bytes."""
        return self.run_bytes >= _SHORT_RUN_BYTES

    def readahead(
        self, size_bytes: int, *, room_bytes: int, window_bytes: int = WIDE_WINDOW_BYTES, readers: int = 1
    ) -> ByteRange:
        """The range that is worth having soon: nothing for random reads, a growing window for sequential ones.

        `room_bytes` is how much can be held until it is read. All `readers` share that, and `window_bytes`, of which
        they have no more than 256 MiB: what is ahead of readers that stop is wasted. A small file comes whole.
        """
        window = 0
        if self.is_sequential:
            wide = window_bytes if readers == 1 else min(window_bytes, WIDE_WINDOW_BYTES) // readers
            largest = wide if self.is_long else _SHORT_WINDOW_BYTES
            window = min(self.run_bytes * _WINDOW_FACTOR, largest)
            if size_bytes <= _SMALL_FILE_BYTES:
                window = size_bytes
        return ByteRange(self.position, self.position + min(window, room_bytes // readers)).clip(size_bytes)
