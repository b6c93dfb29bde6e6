"""Having the disk, or a server, take what was written."""

import os
from pathlib import Path

import pytest

from vbnfs.host import syncing
from vbnfs.host.syncing import push_data


def test_pushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sync_file_range(2) takes a part of a file; where it is lacking, or refuses, the file is synced."""
    synced: list[int] = []
    monkeypatch.setattr(syncing, "sync_data", synced.append)
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(10_000))
    push_data(descriptor, 4096, 100)
    assert synced == []
    reading, writing = os.pipe()  # which it refuses: ESPIPE
    push_data(reading, 0, 1)
    monkeypatch.setattr(syncing, "_sync_file_range", lambda: None)
    push_data(descriptor, 0, 1)
    assert synced == [reading, descriptor]
    for one in (descriptor, reading, writing):
        os.close(one)
