"""Where else on this machine blocks are: looked for where the cache has none, before S3 is asked.

A place is a cache directory of others, what is noted of files that are read in place, or what a mirror sent and
nothing has proven yet. No block is added there by way of this module. What is there of a content that proved to be
wrong is dropped: a place of ours deletes it, and of another's this process uses it no more. All of it may go at any
moment: then it is a miss, as in the cache. A place may hang, such as a disk of another host. While it has not
answered a question for some seconds, it is asked no other.
"""

import threading
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import zip_longest
from typing import Final

from vbnfs.cache.stored_blocks import StoredBlocks
from vbnfs.objects import ByteRange, Content

_PATIENCE_SECONDS: Final = 2.0


class Behind:
    """Places behind a cache, asked in this order. Its methods may be called from any thread."""

    def __init__(self, places: Sequence[StoredBlocks] = ()) -> None:
        self._places = tuple(places)
        self._lock = threading.Lock()  # of what follows
        self._asked: dict[object, tuple[StoredBlocks, float]] = {}  # questions without an answer yet, and since when

    def __bool__(self) -> bool:
        return bool(self._places)

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """Raises `trio.WouldBlock` where the first place that may have the range has to be waited for."""
        places = (place for place in self._that_answer() if not place.is_known_absent(content))
        found = (place.read_nowait(content, byte_range) for place in places)
        return next((data for data in found if data is not None), None)

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """The range, verified, if one place has all of it."""
        for place in self._that_answer():
            with self._asking(place):
                data = place.read(content, byte_range)
            if data is not None:
                return data
        return None

    def missing(self, content: Content, indices: Sequence[int]) -> list[int]:
        """Those of the blocks that no place has."""
        left = list(indices)
        for place in self._that_answer():
            with self._asking(place):
                left = place.missing(content, left) if left else left
        return left

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """A block that is checked now."""
        for place in self._that_answer():
            with self._asking(place):
                data = place.checked_block(content, index)
            if data is not None:
                return data
        return None

    def records(self, content: Content, own: Iterator[bytes | None]) -> Iterator[bytes | None]:
        """The checksums of `own`, and of the first place that has it where there is none."""
        for place in self._that_answer():
            here = list(own)
            own = iter(here)
            if None not in here:
                break
            with self._asking(place):
                others = list(place.records(content))
            own = (record if record is not None else other for record, other in zip_longest(here, others))
        return own

    def recorded(self, content: Content) -> Set[int]:
        """The numbers of the blocks that any place has."""
        found: set[int] = set()
        for place in self._that_answer():
            with self._asking(place):
                found |= place.recorded(content)
        return found

    def drop(self, content: Content) -> None:
        """What is there of a content is wrong."""
        for place in self._places:
            place.drop(content)

    def flush(self) -> None:
        """Have the disk take what was put, into places of ours."""
        for place in self._places:
            place.flush()

    def note_uses(self) -> None:
        """Note what was used, in places of ours."""
        for place in self._places:
            place.note_uses()

    def forget_deleted(self) -> None:
        """Close what is deleted. Who makes room in the cache does not wait for a place that hangs."""
        for place in self._that_answer():
            question = self._begin(place)  # before the thread begins, which may take its time
            closing = threading.Thread(target=self._forget_deleted_of, args=(place, question), daemon=True)
            try:
                closing.start()
            except RuntimeError:  # no more threads
                self._end(question)
                raise
            closing.join(_PATIENCE_SECONDS)

    def _forget_deleted_of(self, place: StoredBlocks, question: object) -> None:
        try:
            place.forget_deleted()
        finally:
            self._end(question)

    def _that_answer(self) -> Sequence[StoredBlocks]:
        now = time.monotonic()
        with self._lock:
            hanging = [place for place, since in self._asked.values() if now - since >= _PATIENCE_SECONDS]
        return [place for place in self._places if place not in hanging]

    @contextmanager
    def _asking(self, place: StoredBlocks) -> Iterator[None]:
        question = self._begin(place)
        try:
            yield
        finally:
            self._end(question)

    def _begin(self, place: StoredBlocks) -> object:
        question = object()
        with self._lock:
            self._asked[question] = place, time.monotonic()
        return question

    def _end(self, question: object) -> None:
        with self._lock:
            del self._asked[question]
