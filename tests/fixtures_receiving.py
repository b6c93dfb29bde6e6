"""What receives ranges in a test: a thread, or a process of its own, which a test waits for."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, Self

import pytest
import trio

from tests.waiting import until
from vbnfs.s3.client import S3Client
from vbnfs.s3.receivers import ReceiverTransport

PROGRAM: Final = (sys.executable, "-P", "-m", "vbnfs.access.receiver_program")

_chosen: dict[str, Sequence[str] | None] = {"program": None}


@pytest.fixture(params=["thread", "process"])
def receiving(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both, one after the other: what `chosen` gives during a test."""
    monkeypatch.setitem(_chosen, "program", PROGRAM if request.param == "process" else None)


def chosen() -> Sequence[str] | None:
    """The command of the process that receives in this test; None: a thread does."""
    return _chosen["program"]


async def until_ready(transport: object) -> None:
    """Return when what receives is the process, if there is to be one."""
    if isinstance(transport, ReceiverTransport):
        keeper = transport._keeper
        await trio.to_thread.run_sync(until, lambda: keeper.is_ready)


def process_of(transport: object) -> int:
    """The id of the process that receives."""
    assert isinstance(transport, ReceiverTransport)
    life = transport._keeper._life
    assert life is not None
    return life._process.pid


class ReadyClient(S3Client):
    """A client that is entered once what receives is ready."""

    def __init__(self, **more: Any) -> None:
        super().__init__(receiver=chosen(), environ=os.environ, **more)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await until_ready(self._ranges)
        return self
