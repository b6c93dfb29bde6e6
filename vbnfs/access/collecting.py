"""Cyclic garbage is collected in a program's own threads, or in one that nothing waits for: not in those that serve.

A thread that reads by h5py holds h5py's lock while it waits for bytes of a file object, and h5py's objects take that
lock when they are deleted (h5py's manual, "Python file-like objects"). Where Python happens to collect garbage in the
thread that is to bring the bytes, and h5py's objects are in it, as pynwb leaves them, each would wait for the
other without end.

A program cannot say in which thread Python is to collect. But Python calls `gc.callbacks` before and after, in the
same thread. What is referred to meanwhile is no garbage: so a list of the objects that a collection goes through
keeps it from finding any. Where it is to go through all objects, and none is frozen, they are frozen meanwhile
(`gc.freeze`), which takes no time: then it goes through none. A thread of its own lets go of them, and collects what
was left. It can wait for h5py's lock: no bytes are brought by it.

Python notes for the whole process that it collects. A child that is forked meanwhile inherits that note, and never
collects. So a fork waits for that thread, but not long: what is deleted there may wait for a lock that the forking
thread has.
"""

import gc
import sys
import threading
from itertools import chain, compress, repeat
from operator import not_
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final

from vbnfs.host.forking import after_fork_in_child, around_fork

_SERVING: Final = ("vbnfs.", "trio._core._thread_cache")  # modules in which threads begin that serve others
# Of the first releases of Python 3.14, which have no third threshold, generation 1 has a part of the oldest with it.
_INCREMENTAL: Final = sys.version_info >= (3, 14) and gc.get_threshold()[2] == 0
_OLDEST: Final = 2  # a collection of this generation goes through all objects
_FORK_WAITS_SECONDS: Final = 1.0  # at the most
_BUILT_IN_PLACE: Final = frozenset({id(tuple), id(frozenset)})

_own = threading.local()


class _Collector:
    """A thread that collects what the serving ones left."""

    def __init__(self) -> None:
        # It can be put to in the midst of anything, also of itself: a collection begins wherever memory is asked for.
        self.left: Final = SimpleQueue[tuple[int, list[Any]]]()
        self.collects: Final = threading.RLock()  # what is deleted may fork, too
        threading.Thread(target=self._run, name="vbnfs-garbage", daemon=True).start()

    def _run(self) -> None:
        _own.is_serving = False
        while True:
            generation, kept = self.left.get()
            kept.clear()
            with self.collects:
                gc.collect(generation)


_collector: _Collector | None = None


def leave_garbage_to_others() -> None:
    """From now on threads of vbnfs, and those in which trio waits for disks, collect no garbage in this process."""
    global _collector  # noqa: PLW0603 - one a process
    if _collector is None:
        _collector = _Collector()
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


def _wait_for_the_collection() -> None:
    """Before fork(2): the child is to find no collection under way."""
    if _collector is not None and _collector.collects.acquire(timeout=_FORK_WAITS_SECONDS):
        _own.held = _collector.collects


def _let_it_collect() -> None:
    """After fork(2), in the parent."""
    held = _own.__dict__.pop("held", None)
    if held is not None:
        held.release()


def _forget() -> None:
    """In a child of fork(2) there is no such thread, and none that serves."""
    global _collector  # noqa: PLW0603 - one a process
    _collector = None
    _own.__dict__.pop("held", None)


around_fork(_wait_for_the_collection, _let_it_collect)
after_fork_in_child(_forget)


def _on_collection(phase: str, info: dict[str, Any]) -> None:
    """See `gc.callbacks`: in the thread that collects, before it begins and when it has ended."""
    if _collector is None or not _is_serving():
        return
    generation = info["generation"]
    if phase == "start":
        _own.are_frozen = generation == _OLDEST and gc.get_freeze_count() == 0
        if _own.are_frozen:
            gc.freeze()
        else:
            _own.kept = _gone_through(generation)
        return
    kept = _own.__dict__.pop("kept", [])
    if _own.__dict__.pop("are_frozen", None):
        gc.unfreeze()
    _collector.left.put((generation, kept))


def _gone_through(generation: int) -> list[Any]:
    """The objects that a collection goes through, last first, but for tuples and frozen sets; no code of theirs runs.

    C enlarges a new tuple or frozen set only while it alone refers to it (`_PyTuple_Resize`, `PySet_Add`). Each cycle
    has other objects in it, which keep these. The list is made in one call of C, during which no other thread runs.

    The collector visits a list from its end, and goes on in the order in which it came to things: so what is garbage
    is deleted in the order in which it was made, as without this.
    """
    oldest = _OLDEST if generation and _INCREMENTAL else generation
    found = chain.from_iterable(map(gc.get_objects, range(oldest, -1, -1)))
    on_its_way = dict[None, Any]()  # the object of which the type is asked for next, and nothing at the end
    objects = map(on_its_way.setdefault, repeat(None), found)
    types = map(id, map(type, map(on_its_way.pop, repeat(None))))
    kept = list(compress(objects, map(not_, map(_BUILT_IN_PLACE.__contains__, types))))
    kept.reverse()
    return kept


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
