"""A screen of a terminal that is drawn again and again; what was there before comes back at the end."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vbnfs.cli.render import Span


class Screen:
    """A screen while it is there."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    def lines(self, lines: Sequence[Sequence[Span]]) -> None:
        """Show these lines, which fit, and nothing else."""
        self._live.update(text_of(lines), refresh=True)


def text_of(lines: Sequence[Sequence[Span]]) -> Text:
    """Lines of which none is continued on another one: what is too wide in cells of a terminal is cut off."""
    newline = Text("\n", no_wrap=True, overflow="crop")
    return newline.join(Text.assemble(*spans) for spans in lines)


@contextmanager
def screen() -> Iterator[Screen]:
    """While entered, standard output is such a screen."""
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Screen(live)


@contextmanager
def leaving_at_sigterm() -> Iterator[None]:
    """While entered, SIGTERM ends this process by `SystemExit`, so that what is inside restores the terminal."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
