"""Waiting for what another process or thread does: a condition, not a time."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Ask again and again until a condition holds; fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
