"""The process that walks, as the daemon sees it, at its end."""

import socket
import subprocess
from typing import Any

import pytest

from vbnfs.reading import walker as module
from vbnfs.reading.walker import Walker


def test_closed_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that comes after its walker was closed is ended at once."""
    walker, started = Walker(), list[subprocess.Popen[Any]]()
    start = module._start

    def close_and_start(its: socket.socket) -> subprocess.Popen[Any]:
        walker.close()
        started.append(start(its))
        return started[0]

    monkeypatch.setattr(module, "_start", close_and_start)
    with pytest.raises(OSError, match="going away"):
        walker.start()
    assert walker.process is None
    assert started[0].returncode is not None
