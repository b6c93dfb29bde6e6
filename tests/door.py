"""The thread in which the Python API works: a test module leaves none, and so no connections and open files."""

import gc
from collections.abc import Iterator

import pytest

from vbnfs.access import door


@pytest.fixture(scope="module", autouse=True)
def no_door_is_left() -> Iterator[None]:
    """End the thread that a module's tests have begun. What works in it is cancelled, as when a process ends."""
    yield
    thread, door._current = door._current, None
    if thread is not None:
        gc.collect()  # datasets that no test uses any more close in order, while it runs
        thread.soon(thread._nursery.cancel_scope.cancel)
        thread._thread.join(60)
        assert not thread._thread.is_alive()
