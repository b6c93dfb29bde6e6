"""Waiting for what another process or thread does: a condition, not a time."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

_LONGEST_PAUSE_SECONDS: Final = 0.02


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Ask again and again until a condition holds; fail if it never does.

    Pauses grow with the wait, to a twentieth of it: what is waited for needs the processor more than the asking.
    """
    began = monotonic()
    while not condition():
        waited = monotonic() - began
        assert waited < seconds, "it never came true"
        sleep(min(waited / 20, _LONGEST_PAUSE_SECONDS))
