"""Having the kernel drop pages: which files are opened, and what becomes of those that cannot be."""

from pathlib import Path

import structlog
import trio
import trio.testing

from vbnfs.daemon.pages import Pages


async def test_files_are_opened_until_they_were(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """A file's pages are stale until it was opened twice; one that cannot be opened stays so, and a warning tells."""
    pages = Pages(tmp_path)
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pages.run)
            pages.drop(1, "file")
            pages.drop(2, "absent")
            while pages.are_stale(1) or not logs:  # noqa: ASYNC110 - there is no event, and no time passes
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert (pages.are_stale(1), pages.are_stale(2), pages.are_stale(3)) == (False, True, False)
    assert [(entry["log_level"], entry["path"]) for entry in logs] == [("warning", "absent")]
