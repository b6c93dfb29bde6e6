"""What goes on in the background: it outlives its failures, and ends when the mount does."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from vbnfs.access.restarting import restart_on_failure


async def test_a_failure_is_logged_and_the_task_begins_anew(autojump_clock: MockClock) -> None:
    """A defect in a background task is logged with its traceback; some seconds later the task runs again."""
    begun: list[float] = []

    async def task() -> None:
        begun.append(trio.current_time())
        if len(begun) < 3:
            raise RuntimeError("a defect")

    with capture_logs() as lines:
        await restart_on_failure("housekeeping", task)
    assert [seconds - begun[0] for seconds in begun] == [0, 5, 10]
    assert [(line["event"], line["what"]) for line in lines] == [("failed, and begins anew", "housekeeping")] * 2
    assert "a defect" in str(lines[0]["exc_info"].exceptions)


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_a_failure_does_not_get_in_the_way_of_the_end(in_a_group: bool) -> None:
    """What fails while it is cancelled, alone or beside tasks of its own, is logged; the mount ends in order."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("a defect while cleaning up")

    async def task() -> None:
        if not in_a_group:
            await fail()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    with capture_logs() as lines:
        async with trio.open_nursery() as services:
            services.start_soon(restart_on_failure, "housekeeping", task)
            await trio.testing.wait_all_tasks_blocked()
            services.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["failed, and begins anew"]
