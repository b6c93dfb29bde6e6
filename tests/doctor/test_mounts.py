"""Mounts that a trial has left behind, or that are one."""

from pathlib import Path

import trio

from vbnfs.daemon.trial import SOURCE
from vbnfs.doctor.mounts import ask_mounts, ours
from vbnfs.fuse.empty import EmptyFolder
from vbnfs.fuse.engines import NATIVE, load


async def test_trials(mountpoint: Path) -> None:
    """A trial that is under way is nothing to see to; one whose process is dead is a dead mount like any other."""
    options = ["subtype=vbnfs", f"fsname={SOURCE}"]
    connection = load(NATIVE)(mountpoint, options, EmptyFolder(), is_busy=lambda: False)
    [entry] = [entry for entry in ours() if entry.mountpoint == mountpoint]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.serve)
        assert await ask_mounts([entry]) == ()
        nursery.cancel_scope.cancel()
    connection.close()
    [dead] = await ask_mounts([entry])
    assert "its daemon is gone" in str(dead.failure)
