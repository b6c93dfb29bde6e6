"""Reads that are answered without the event loop, as they are put together for its advice."""

import sys
import threading
from types import FrameType
from typing import Any

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.objects import ByteRange
from vbnfs.reading.local_reads import AnsweredReads


def test_reads_on_one_page_or_the_next_are_one() -> None:
    """A run that comes to another block says so; what is elsewhere is one of its own; the oldest are forgotten."""
    reads = AnsweredReads()
    assert not reads.add(100, 200)
    assert not reads.add(4200, 4300)
    assert reads.add(4300, BLOCK_BYTES + 1)
    assert not reads.add(4300, 4400)  # once more
    assert not reads.add(0, 50)
    assert reads.take() == [ByteRange(100, BLOCK_BYTES + 1), ByteRange(0, 50)]
    assert reads.take() == []
    for number in range(40):
        reads.add(number * 10_000, number * 10_000 + 1)
    assert [run.start for run in reads.take()] == [number * 10_000 for number in range(8, 40)]


def test_a_read_within_a_read() -> None:
    """A signal handler that reads, whichever line of a read it interrupts, waits for nothing, and no read is lost."""
    reads, stops = AnsweredReads(), list[int]()

    def handler(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            sys.settrace(None)
            stops.append(1_000_000 * (len(stops) + 1))
            reads.add(stops[-1] - 5, stops[-1])
            sys.settrace(begin)
        return handler

    def begin(frame: FrameType, event: str, argument: Any) -> Any:
        return handler if frame.f_code is AnsweredReads.add.__code__ else None

    def read() -> None:
        sys.settrace(begin)
        for start in (0, 100, 50_000):
            reads.add(start, start + 10)
        sys.settrace(None)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    bytes_read = {byte for run in reads.take() for byte in (run.start, run.stop - 1)}
    assert len(stops) >= 6
    assert bytes_read >= {0, 109, 50_000, 50_009} | {stop - 1 for stop in stops}
