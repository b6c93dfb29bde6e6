"""The last failure of each file, until it is read well again: `user.vbnfs.last_error`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio
from cachetools import LRUCache

from vbnfs.errors import DeadlineError, VbnfsError, told

_MOST_FILES: Final = 4096


class Failures:
    """Failures of one mount by inode. What takes longer than `io_timeout_seconds` is one, too."""

    def __init__(self, *, io_timeout_seconds: float) -> None:
        self._io_timeout_seconds = io_timeout_seconds
        self._by_inode: LRUCache[int, str] = LRUCache(_MOST_FILES)

    @contextmanager
    def noted(self, inode: int, *, is_read: bool = True) -> Iterator[None]:
        """For whatever can wait for the network: it has a deadline (`DeadlineError`), and a failure is noted.

        Only with `is_read` does it end the failures before: looking at what happened does not mend it.
        """
        try:
            with trio.fail_after(self._io_timeout_seconds):
                yield
        except trio.TooSlowError:
            error = DeadlineError(f"no answer within {self._io_timeout_seconds:g} s (--io-timeout)")
            self._by_inode[inode] = told(error)
            raise error from None
        except VbnfsError as error:
            self._by_inode[inode] = told(error)
            raise
        if is_read:
            self.clear(inode)

    def clear(self, inode: int) -> None:
        """It was read well."""
        if self._by_inode:
            self._by_inode.pop(inode, None)

    def of(self, inode: int) -> str | None:
        """What happened when it was read last, and what to do about it; None if it went well."""
        return self._by_inode.get(inode)
