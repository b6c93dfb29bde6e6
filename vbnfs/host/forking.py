"""What is done around fork(2), and locks of which a child does not inherit the state. Windows has no fork."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final


def after_fork_in_child(function: Callable[[], None]) -> None:
    """Have a function called in each child of this process that is forked from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def around_fork(before: Callable[[], None], after_in_parent: Callable[[], None]) -> None:
    """Have functions called before each fork(2) of this process from now on, and after it in this process."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent)


class LockOfProcess:
    """A reentrant lock, of which each process has its own: `with lock(): ...`.

    A child of fork(2) has none of its parent's other threads. A plain lock that one of them holds at that moment
    stays locked in the child without end.
    """

    def __init__(self) -> None:
        self._locks: Final[dict[int, AbstractContextManager[object]]] = {}  # by process

    def __call__(self) -> AbstractContextManager[object]:
        """The lock of this process."""
        pid = os.getpid()
        return self._locks.get(pid) or self._locks.setdefault(pid, threading.RLock())
