"""The file system of one empty folder, mounted."""

import os
from errno import ENODATA
from pathlib import Path

import pytest
import trio

from vbnfs.fuse.empty import EmptyFolder
from vbnfs.fuse.engines import NATIVE, load


async def test_an_empty_folder(mountpoint: Path) -> None:
    """It can be listed and asked for its state, and there is nothing in it."""

    def look() -> None:
        assert os.listdir(mountpoint) == []
        assert mountpoint.stat().st_mode & 0o777 == 0o500
        assert os.statvfs(mountpoint).f_blocks == 0
        assert os.listxattr(mountpoint) == []
        with pytest.raises(FileNotFoundError):
            (mountpoint / "file").open()
        with pytest.raises(OSError, match="No data") as caught:
            os.getxattr(mountpoint, "user.any")
        assert caught.value.errno == ENODATA

    connection = load(NATIVE)(mountpoint, ["subtype=vbnfs"], EmptyFolder(), is_busy=lambda: False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.serve)
        await trio.to_thread.run_sync(look)
        nursery.cancel_scope.cancel()
    connection.close()
