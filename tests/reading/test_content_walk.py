"""The walk of a content for a program that waits for it: real blocks of a real file."""

import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.hdf5.running import ALL, WIDE, Waves, structured
from tests.reading.bench import bench
from vbnfs.hdf5.structure import Structure
from vbnfs.hdf5.walk import Walk
from vbnfs.reading.content_walk import walk_content

DATA = structured()
PATIENCE_SECONDS = 10.0


async def test_a_content_is_walked_to_its_end(tmp_path: Path) -> None:
    """It is the structure that a walk of a file in memory finds."""
    async with bench(tmp_path) as floor:
        walked = await walk_content(floor.cache, floor.source, floor.add("a", DATA), bounds=WIDE, wanted=ALL)
        assert walked.structure.objects == Waves(DATA).structure.objects
        assert walked.failure is None


async def test_nothing_of_it_is_waited_for_once_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the result is put together ends the program at once."""
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
    result_at_other_times = Walk.result

    def result(walk: Walk) -> Structure:
        begun.set()
        goes_on.wait(PATIENCE_SECONDS)
        ended.set()
        return result_at_other_times(walk)

    monkeypatch.setattr(Walk, "result", result)
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        async with trio.open_nursery() as nursery:
            work = partial(walk_content, floor.cache, floor.source, content, bounds=WIDE, wanted=ALL)
            nursery.start_soon(work)
            await trio.to_thread.run_sync(begun.wait, PATIENCE_SECONDS)
            nursery.cancel_scope.cancel()
        assert not ended.is_set()
        goes_on.set()
