"""Blocks that this machine has outside of the cache: looked for where the cache has none, before S3 is asked.

They are read, and never written, counted or evicted. What is there of a content that proved to be wrong is not used
by this process any more. All of it may go at any moment: then it is a miss, as in the cache. A place may hang, such
as a disk of another host. While it has not answered a question for some seconds, it is asked no other.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Final, Protocol

from vbnfs.objects import ByteRange, Content

_PATIENCE_SECONDS: Final = 2.0


class Blocks(Protocol):
    """A place that has blocks: see `BlockCache` for what its methods do."""

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`."""

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`."""

    def missing(self, content: Content, indices: Sequence[int]) -> list[int]:
        """See `BlockCache`."""

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """See `BlockCache`."""

    def records(self, content: Content) -> Iterator[bytes | None]:
        """See `BlockCache`."""

    def cached_bytes(self, content: Content) -> int:
        """See `BlockCache`."""

    def forget_deleted(self) -> None:
        """See `BlockCache`."""


class Behind:
    """Places behind a cache, asked in this order. Its methods may be called from any thread."""

    def __init__(self, places: Sequence[Blocks] = ()) -> None:
        self._places = tuple(places)
        self._refused: set[str] = set()
        self._lock = threading.Lock()  # of what follows
        self._asked: dict[object, tuple[Blocks, float]] = {}  # questions without an answer yet, and since when

    def __bool__(self) -> bool:
        return bool(self._places)

    def refuse(self, content: Content) -> None:
        """Do not use what is there of a content: it is wrong."""
        if self._places:
            self._refused.add(content.content_id)

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """Raises `trio.WouldBlock` where the first place that may have the range has to be waited for."""
        found = (place.read_nowait(content, byte_range) for place in self._of(content))
        return next((data for data in found if data is not None), None)

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """The range, verified, if one place has all of it."""
        for place in self._of(content):
            with self._asking(place):
                data = place.read(content, byte_range)
            if data is not None:
                return data
        return None

    def missing(self, content: Content, indices: Sequence[int]) -> list[int]:
        """Those of the blocks that no place has."""
        left = list(indices)
        for place in self._of(content):
            with self._asking(place):
                left = place.missing(content, left) if left else left
        return left

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """A block that is checked now."""
        for place in self._of(content):
            with self._asking(place):
                data = place.checked_block(content, index)
            if data is not None:
                return data
        return None

    def records(self, content: Content, own: Iterator[bytes | None]) -> Iterator[bytes | None]:
        """The checksums of `own`, and of the first place that has it where there is none."""
        for place in self._of(content):
            with self._asking(place):
                others = list(place.records(content))
            own = (record if record is not None else other for record, other in zip_longest(own, others))
        return own

    def cached_bytes(self, content: Content, own_bytes: int) -> int:
        """How many bytes of a content are known to be here, of which the cache has `own_bytes`.

        Those of one place: what several have together is not worth looking at every block for.
        """
        for place in self._of(content):
            with self._asking(place):
                own_bytes = max(own_bytes, place.cached_bytes(content))
        return own_bytes

    def forget_deleted(self) -> None:
        """Close what is deleted. Who makes room in the cache does not wait for a place that hangs."""
        for place in self._that_answer():
            closing = threading.Thread(target=self._forget_deleted_of, args=(place,), daemon=True)
            closing.start()
            closing.join(_PATIENCE_SECONDS)

    def _forget_deleted_of(self, place: Blocks) -> None:
        with self._asking(place):
            place.forget_deleted()

    def _of(self, content: Content) -> Sequence[Blocks]:
        return () if content.content_id in self._refused else self._that_answer()

    def _that_answer(self) -> Sequence[Blocks]:
        now = time.monotonic()
        with self._lock:
            hanging = [place for place, since in self._asked.values() if now - since >= _PATIENCE_SECONDS]
        return [place for place in self._places if place not in hanging]

    @contextmanager
    def _asking(self, place: Blocks) -> Iterator[None]:
        question = object()
        with self._lock:
            self._asked[question] = place, time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._asked[question]
