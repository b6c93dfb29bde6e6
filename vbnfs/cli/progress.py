"""How far a fetch is: a bar on a terminal, else a line at times. Both on standard error.

What is to be shown is a `Progress` (access/filling.py), which others change.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from vbnfs.cli import render, streams
from vbnfs.figures import Fill

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from vbnfs.access.filling import Progress

_REFRESH_SECONDS: Final = 0.25
_LINE_SECONDS: Final = 10.0


class Bar:
    """Shows how far a fetch is while `run` goes on. `is_hidden`: not at all. `done` is what becomes of bytes."""

    def __init__(self, verb: str = "fetching", *, done: str = "fetched", is_hidden: bool = False) -> None:
        self._verb, self._done = verb, done
        self._is_hidden = is_hidden
        self._drawn: RichProgress | None = None

    async def run(self, progress: "Progress") -> None:
        """Show it until cancelled."""
        with self.shown(progress) as show:
            while True:
                show()
                await trio.sleep(_REFRESH_SECONDS)

    @contextmanager
    def shown(self, progress: "Progress") -> Iterator[Callable[[], None]]:
        """While entered, it is shown. Gives what shows it as it is then, to be called some times a second."""
        if self._is_hidden:
            yield lambda: None
        elif sys.stderr.isatty():
            with self._drawing(progress) as draw:
                yield draw
        else:
            yield self._writing(progress)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While entered the bar is not there: something else is written to the terminal."""
        drawn = self._drawn
        if drawn is None:
            yield
            return
        drawn.stop()
        try:
            yield
        finally:
            drawn.start()

    @contextmanager
    def _drawing(self, progress: "Progress") -> Iterator[Callable[[], None]]:
        self._drawn = drawn = _rich()
        task = drawn.add_task(self._verb, total=max(1, progress.count_bytes), text="")

        def draw() -> None:
            is_fetched = progress.done_bytes >= progress.count_bytes
            verb = "checking" if is_fetched else f"{self._verb}{_by(progress)}"
            text = _short_line(progress, drawn.tasks[0].speed)
            drawn.update(task, completed=progress.done_bytes, description=verb, text=text, refresh=True)

        drawn.start()
        try:
            yield draw
        finally:
            self._drawn = None
            drawn.stop()

    def _writing(self, progress: "Progress") -> Callable[[], None]:
        last = time.monotonic()

        def write() -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_SECONDS:
                last = time.monotonic()
                streams.say(f"vbnfs: {line_of(progress, last - progress.began, self._done)}")

        return write


@contextmanager
def going_on_later(*, is_fetch: bool = True) -> Iterator[None]:
    """Where Ctrl-C ends a fetch, say how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if is_fetch:
            streams.say("vbnfs: what was fetched is kept: run the same command again, and it goes on from here")
        raise


def line_of(progress: "Progress", seconds: float, done: str = "fetched") -> str:
    """How far a fetch is that began so many seconds ago."""
    rate = progress.done_bytes / seconds if seconds > 0 else 0.0
    return fill_text(progress.fill(), rate, f" {done}") + _by(progress)


def fill_text(fill: Fill, rate: float, done: str = "") -> str:
    """How far a fetch is that goes on at so many bytes a second; `done` stands behind the bytes."""
    left_bytes = max(0, fill.count_bytes - fill.done_bytes)
    text = f"{fill.done_files:,} of {render.files(fill.files)}, {render.size(fill.done_bytes)}"
    text += f" of {render.size(fill.count_bytes)}{done}"
    return (
        f"{text}, {render.size(int(rate))}/s, {time_text(left_bytes / rate)} left"
        if left_bytes and rate > 0
        else text
    )


def _short_line(progress: "Progress", rate: float | None) -> str:
    """The same beside a bar; at a `rate` of so many bytes a second, where it is known."""
    done, every = render.size(progress.done_bytes), render.size(progress.count_bytes)
    text = f"{progress.done_files:,}/{render.files(progress.files)} {done}/{every}"
    left_bytes = progress.count_bytes - progress.done_bytes
    if left_bytes > 0 and rate:
        text += f" {render.size(int(rate))}/s {time_text(left_bytes / rate)}"
    return text


def _by(progress: "Progress") -> str:
    return "" if progress.by is None else f" by {render.escape(str(progress.by.mountpoint))}"


def time_text(seconds: float) -> str:
    """A time in words, as exact as an estimate is: 40 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _rich() -> "RichProgress":
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - takes time; only on a terminal

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}"))
    return Progress(*columns, console=render.error_console(), transient=True, auto_refresh=False)
