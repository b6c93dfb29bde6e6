"""The blocks that came last, as far as memory has room: what programs have read leaves before what they have not.

So a program that rests finds what was fetched ahead of it, however much others read meanwhile.
"""

from typing import Final

from vbnfs.objects import BlockKey
from vbnfs.reading.fetches import Bytes

_READ_PART: Final = 8  # what was read takes an eighth at least: nothing may ever read what was fetched ahead


class Recent:
    """Blocks of at most `limit_bytes` together; each is as long as that at the most.

    Those that were read leave in the order in which they were read, and the others in the order in which they came:
    blocks that came in one piece share its memory, and leave it together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes: Final = limit_bytes
        self._unread: dict[BlockKey, Bytes] = {}
        self._read: dict[BlockKey, Bytes] = {}
        self._unread_bytes = self._read_bytes = 0

    def __len__(self) -> int:
        return len(self._unread) + len(self._read)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._unread or key in self._read

    def get(self, key: BlockKey) -> Bytes | None:
        """The bytes of a block, if they are here."""
        data = self._unread.get(key)
        return self._read.get(key) if data is None else data

    def add(self, key: BlockKey, data: Bytes) -> None:
        """A block has come, which nothing has read; others leave for it."""
        self._drop(key)
        self._unread[key] = data
        self._unread_bytes += len(data)
        while self._unread_bytes + self._read_bytes > self.limit_bytes:
            is_read = self._read_bytes > self.limit_bytes // _READ_PART or len(self._unread) == 1
            self._drop(next(iter(self._read if is_read else self._unread)))

    def note_read(self, key: BlockKey) -> None:
        """A program has read a block to its end."""
        data = self._unread.pop(key, None)
        if data is not None:
            self._unread_bytes -= len(data)
            self._read[key] = data
            self._read_bytes += len(data)

    def forget(self, content_id: str) -> None:
        """Drop all blocks of a content."""
        for key in [key for key in (*self._unread, *self._read) if key.content_id == content_id]:
            self._drop(key)

    def _drop(self, key: BlockKey) -> None:
        self._unread_bytes -= len(self._unread.pop(key, b""))
        self._read_bytes -= len(self._read.pop(key, b""))
