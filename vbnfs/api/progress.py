"""How far a fetch is, for people: a line in a notebook or on a terminal, which changes; nothing elsewhere."""

import importlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import trio

from vbnfs.access.filling import Progress
from vbnfs.amounts import files, size

__all__ = ["Progress", "ShowProgress", "Showing"]

ShowProgress: TypeAlias = bool | Callable[[Progress], object] | None


class Showing:
    """Shows how far some work is while entered: as a user wants it.

    `how` None: where a person sees it. False: never. A function gets the `Progress` some times a second, in the
    thread that waits for the work, and when the work has ended. `text` says it in words; '' is not shown.
    `first` is what it gets while nothing is known yet; None: it is not called until then.
    """

    def __init__(
        self,
        how: bool | Callable[[Any], object] | None,
        text: Callable[[Any], str] | None = None,
        *,
        first: Progress | None = None,
    ) -> None:
        self._progress: Any = first
        self._how, self._text_of = how, text or text_of
        self._line: _Line | None = None if how is False or callable(how) else _where_a_person_sees()
        self._text = ""

    def watch(self, progress: Any) -> None:
        """Show this from now on. Called in any thread."""
        self._progress = progress

    async def note(self, progress: Progress) -> None:
        """The same, of which another task makes a part of its own: waits until cancelled."""
        self.watch(progress)
        await trio.sleep_forever()

    def __call__(self) -> None:
        """Show it now."""
        progress = self._progress
        if progress is None:
            return
        if callable(self._how):
            self._how(progress)
        elif self._line is not None and (text := self._text_of(progress)) not in {"", self._text}:
            self._line.write(text)
            self._text = text

    def __enter__(self) -> "Showing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self()
        if self._line is not None and self._text:
            self._line.end()


def text_of(progress: Progress) -> str:
    """How far it is, in words; '' where nothing is to be fetched."""
    if not progress.count_bytes:
        return ""
    done, of = size(progress.done_bytes), size(progress.count_bytes)
    return f"{progress.done_files:,} of {files(progress.files)}, {done} of {of}"


def _where_a_person_sees() -> "_Line | None":
    """A line that is written over; None where no person sees it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if hasattr(shell, "kernel"):
        return _NotebookLine()
    return _TerminalLine() if sys.stderr is not None and sys.stderr.isatty() else None


class _Line(Protocol):
    def write(self, text: str) -> None:
        """Have it be this text."""

    def end(self) -> None:
        """It stays as it is."""


class _TerminalLine:
    def write(self, text: str) -> None:
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\n")


class _NotebookLine:
    """A line in a cell's output."""

    def __init__(self) -> None:
        self._handle: Any = None

    def write(self, text: str) -> None:
        data = {"text/plain": text}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def end(self) -> None:
        pass
