"""Watching mounts: each is asked again and again by a thread of its own, so that one that hangs holds up no other."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from vbnfs.access.mount_figures import ask_figures
from vbnfs.cli.render import print_spans
from vbnfs.cli.top_screen import screen
from vbnfs.cli.top_text import Line, Sample, fetch_lines, mount_lines, silent_lines
from vbnfs.errors import MountError
from vbnfs.figures import Fetch, Figures
from vbnfs.host.mountinfo import MountEntry
from vbnfs.host.terminal import keys
from vbnfs.interrupts import raised_by

_ANSWER_SECONDS: Final = 3.0
_LATE_SECONDS: Final = 1.0  # then a mount that has not answered yet is shown as one that does not
_LEAST_ROWS: Final = 3
_OTHER_LINES: Final = 14  # of a mount: all but its readers, at most
_FETCH_LINES: Final = 2

Ask = Callable[[MountEntry], Figures]
Fetches = Callable[[], Sequence[Fetch]]


def _ask(entry: MountEntry) -> Figures:
    return ask_figures(entry, seconds=_ANSWER_SECONDS)


class Watched:
    """A mount, asked by a thread that ends with this process."""

    def __init__(self, entry: MountEntry, interval_seconds: float, ask: Ask = _ask) -> None:
        self.entry = entry
        self._interval_seconds = interval_seconds
        self._ask = ask
        self._changed = threading.Condition()
        self._samples = 0
        self._sample: Sample | None = None
        self._reason: str | None = None
        self._asked_at = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        before: tuple[float, Figures] | None = None
        while True:
            began = self._asked_at = time.monotonic()
            try:
                now = self._ask(self.entry)
            except MountError as error:
                self._set(None, str(error).removeprefix(f"{self.entry.mountpoint}: "))
                before = None
            else:
                sample = Sample(now) if before is None else Sample(now, before[1], began - before[0])
                before = (began, now)
                self._set(sample, None)
            time.sleep(self._interval_seconds)

    def _set(self, sample: Sample | None, reason: str | None) -> None:
        with self._changed:
            self._sample, self._reason = sample, reason
            self._samples += 1
            self._changed.notify_all()

    def wait(self, samples: int, *, is_patient: bool = True) -> None:
        """Wait until it was asked so often: the asking has a deadline of its own. Impatient: or has not answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._samples >= samples or (not is_patient and self._reason is not None))

    @property
    def state(self) -> tuple[Sample | None, str | None]:
        """The last sample; or why there is none."""
        with self._changed:
            silent_seconds = time.monotonic() - self._asked_at
            if self._reason is None and silent_seconds > self._interval_seconds + _LATE_SECONDS:
                return None, f"its daemon does not answer, for {silent_seconds:.0f} s now"
            return self._sample, self._reason

    def lines(self, width: int | None = None, most_rows: int | None = None) -> Iterator[Line]:
        """What is to be shown of it."""
        sample, reason = self.state
        if sample is not None:
            return mount_lines(sample, width=width, most_rows=most_rows)
        return silent_lines(str(self.entry.mountpoint), reason or "is being asked", width=width)


def _none() -> Sequence[Fetch]:
    return ()


def watch(
    entries: Sequence[MountEntry],
    interval_seconds: float,
    *,
    is_once: bool,
    as_json: bool,
    fetches: Fetches = _none,
) -> None:
    """Show mounts until Ctrl-C or `q`; with `is_once`, once. Raises `MountError` for those that did not answer then.

    On a terminal there is a screen. Else lines follow one another, each sample as a block, or as a line of JSON.
    `fetches` gives what is fetched without a mount, and is to be shown, too.
    """
    watched = [Watched(entry, interval_seconds) for entry in entries]
    try:
        if is_once or as_json or not sys.stdout.isatty():
            _write(watched, fetches, interval_seconds, is_once=is_once, as_json=as_json)
        else:
            _draw(watched, fetches, interval_seconds)
    except KeyboardInterrupt:  # how watching ends
        return
    reasons = [f"{one.entry.mountpoint}: {reason}" for one in watched if (reason := one.state[1]) is not None]
    if is_once and reasons:
        raise MountError("\n".join(reasons))


def _write(
    watched: Sequence[Watched], fetches: Fetches, interval_seconds: float, *, is_once: bool, as_json: bool
) -> None:
    number = 2  # two samples make a rate
    while True:
        for one in watched:
            one.wait(number, is_patient=not is_once)
        if as_json:
            _write_json(watched, fetches())
        else:
            print_spans(_lines(watched, fetches()))
        sys.stdout.flush()
        if is_once:
            return
        if not as_json:
            sys.stdout.write("\n")
        if not watched:
            time.sleep(interval_seconds)
        number += 1


def _write_json(watched: Sequence[Watched], fetches: Sequence[Fetch]) -> None:
    for one in watched:
        sample, reason = one.state
        _print_json(
            {"mountpoint": str(one.entry.mountpoint), "error": reason} if sample is None else asdict(sample.now)
        )
    for fetch in fetches:
        _print_json({"fetch": asdict(fetch)})


def _print_json(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")


def _lines(
    watched: Sequence[Watched], fetches: Sequence[Fetch], width: int | None = None, most_rows: int | None = None
) -> Iterator[Line]:
    for one in watched:
        yield from one.lines(width, most_rows)
    for fetch in fetches:
        yield from fetch_lines(fetch, width=width)
    if not watched and not fetches:
        yield [("nothing is mounted, and nothing is fetched any more", "dim")]


def _draw(watched: Sequence[Watched], fetches: Fetches, interval_seconds: float) -> None:
    with raised_by(signal.SIGTERM), screen() as show, keys() as pressed:
        while True:
            (width, height), fetched = show.size(), fetches()
            rows_left = height - 1 - _FETCH_LINES * len(fetched)
            rows = max(_LEAST_ROWS, rows_left // max(1, len(watched)) - _OTHER_LINES)
            lines = list(_lines(watched, fetched, width, rows))
            show.lines([*lines[: height - 1], [("q ends", "dim")]])
            if pressed(interval_seconds) in {"q", "Q"}:
                return
