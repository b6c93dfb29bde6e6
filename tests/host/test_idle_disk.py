"""Reading the disk behind all others."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from vbnfs.host.idle_disk import disk_priority, reading_idly

IDLE = 3 << 13


@pytest.mark.skipif(disk_priority() < 0, reason="this architecture's number of the system call is not known")
def test_one_thread_reads_idly() -> None:
    """The class is that of the thread which asked, for as long as it asked; others keep theirs."""
    before = disk_priority()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(disk_priority).result() == before
        with reading_idly():
            assert disk_priority() == IDLE
            assert other.submit(disk_priority).result() == before
    assert disk_priority() == before


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the number of the system call is not known, reading goes on as ever."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "pdp11")))
    with reading_idly():
        assert disk_priority() == -1
