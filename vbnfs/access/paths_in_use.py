"""Whole files that this process has open by their paths, as HDF5's library has them.

While they are shown, no process evicts them: that would gain no room. It is advice. A file that is deleted all the
same can be read on by the process that has it open (unlink(2)).
"""

import itertools
import threading
from pathlib import Path
from typing import Final

from vbnfs.cache.holdings import Held, Holdings
from vbnfs.host.places import folder_at


class PathsInUse:
    """Of one process, in the cache `directory`. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._holdings: Final = Holdings(folder_at(directory))
        self._publishing = threading.Lock()
        self._numbers = itertools.count()
        self._held: dict[int, Held] = {}

    def hold(self, held: Held) -> int:
        """One more is about to be opened. Returns by which number it is let go. Waits for the disk."""
        number = next(self._numbers)
        self._held[number] = held
        self.publish()
        return number

    def let_go(self, number: int) -> None:
        """It is closed; the next `publish` shows it. Also for destructors: it takes no lock."""
        self._held.pop(number, None)

    def publish(self) -> None:
        """Show what is in use now. Waits for the disk."""
        with self._publishing:
            self._holdings.publish(list(self._held.values()))
