"""What contents take on the disk, without asking the disk: as the last scan found it, and what was put since."""

import threading
from collections import Counter
from collections.abc import Sequence, Set

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.inventory import CachedContent
from vbnfs.objects import Content


class Stock:
    """Of the contents in these scopes of a cache directory, together. Methods may be called from any thread."""

    def __init__(self, scopes: Set[str]) -> None:
        self._scopes = scopes
        self._lock = threading.Lock()  # of what follows
        self._allocated: Counter[str] = Counter()  # bytes, by content id
        self._changed: set[str] = set()

    def add(self, content: Content, count_bytes: int) -> None:
        """So much of a content was put."""
        with self._lock:
            self._allocated[content.content_id] += count_bytes
            self._changed.add(content.content_id)

    def take(self, found: Sequence[CachedContent]) -> None:
        """Take note of the contents that there are: see `Evictor`."""
        allocated: Counter[str] = Counter()
        for one in found:
            if one.scope in self._scopes and one.path.startswith(f"{FORMAT}/"):
                allocated[one.content_id] += one.allocated_bytes
        with self._lock:
            before, self._allocated = self._allocated, allocated.copy()
        changed = {name for name in before.keys() | allocated.keys() if before[name] != allocated[name]}
        with self._lock:
            self._changed |= changed

    def allocated_bytes(self, content: Content) -> int:
        """What a content takes."""
        return self._allocated[content.content_id]

    def take_changed(self) -> set[str]:
        """The ids of the contents for which `allocated_bytes` has changed since this was asked last."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed
