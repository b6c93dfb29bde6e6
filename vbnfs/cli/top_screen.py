"""A screen of a terminal that is drawn again and again; what was there before comes back at the end."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
        text = Text("\n").join(Text.assemble(*spans) for spans in lines)
        self._live.update(text, refresh=True)


@contextmanager
def screen() -> Iterator[Screen]:
    """While entered, standard output is such a screen."""
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Screen(live)
