"""Cyclic garbage is left to a program's own threads: those that serve them collect none.

A thread that reads by h5py holds h5py's lock while it waits for bytes of a file object, and h5py's objects take that
lock when they are deleted (h5py's manual, "Python file-like objects"). Where Python happens to collect garbage in the
thread that is to bring the bytes, and h5py's objects are in it, as pynwb leaves them, each would wait for the
other without end.

Python asks nobody where to collect. But it calls `gc.callbacks` before and after, in the same thread; what is frozen
meanwhile (`gc.freeze`, some pointers are changed) is looked at by a later collection, in a thread of the program.
"""

import gc
import sys
import threading
from types import FrameType
from typing import Any, Final

_SERVING: Final = ("vbnfs.", "trio._core._thread_cache")  # modules in which threads begin that serve others

_own = threading.local()


def leave_garbage_to_others() -> None:
    """From now on threads of vbnfs, and those in which trio waits for disks, collect no garbage."""
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


def _on_collection(phase: str, info: dict[str, Any]) -> None:
    """See `gc.callbacks`: in the thread that collects, before it begins and when it has ended."""
    if phase == "start" and _is_serving():
        _own.has_frozen = True
        gc.freeze()
    elif phase == "stop" and getattr(_own, "has_frozen", False):
        _own.has_frozen = False
        gc.unfreeze()


def _is_serving() -> bool:
    """Whether this thread serves others: by where it began, which is found out once for each."""
    known: bool | None = getattr(_own, "is_serving", None)
    if known is None:
        known = _own.is_serving = _begins_in().startswith(_SERVING)
    return known


def _begins_in() -> str:
    """The module in which this thread begins, besides `threading`; nothing for the main thread."""
    if threading.get_ident() == threading.main_thread().ident:
        return ""
    found = ""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        found = found if name == "threading" else name
        frame = frame.f_back
    return found
