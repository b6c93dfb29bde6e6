"""What is said of the cache's disk when it takes nothing."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

BLOCK = bytes(range(256)) * (BLOCK_BYTES // 256)
CONTENT = Content("aa11", 8 * BLOCK_BYTES, ObjectVersion("key", "v1"))


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the disk take no data any more, for the reason with this number."""

    def refused(*arguments: Any) -> Any:
        raise OSError(number, os.strerror(number))

    for name in ("pwritev", "pwrite", "posix_fallocate"):
        monkeypatch.setattr(os, name, refused)


def test_a_quota_that_the_disk_does_not_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a user's quota is used up, nothing is kept or deleted, and the remedy is named, until there is room."""
    metrics = Metrics()
    cache = BlockCache(tmp_path, scope="aws", metrics=metrics)
    evictor = Evictor(tmp_path, limit_bytes=1 << 30, metrics=metrics)
    disk = CacheDisk(cache, evictor)
    assert cache.put(CONTENT, 0, BLOCK)
    with monkeypatch.context() as patched:
        refuse(patched, errno.EDQUOT)
        assert evictor.make_room(BLOCK_BYTES)
        assert not cache.put(CONTENT, 1, BLOCK)
        disk.check_now()
        assert disk.problem is not None
        assert "takes no more: Disk quota exceeded; reads go on from S3: free some on that disk" in disk.problem
        assert cache.read(CONTENT, ByteRange(0, BLOCK_BYTES)) == BLOCK
    assert (metrics.evicted_contents, metrics.cache_write_errors) == (0, 1)
    disk.check_now()
    assert disk.problem is None
    assert cache.put(CONTENT, 1, BLOCK)
    assert cache.missing(CONTENT, range(8)) == [2, 3, 4, 5, 6, 7]
