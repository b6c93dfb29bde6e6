"""Watching mounts: each is asked again and again by a thread of its own, so that one that hangs holds up no other."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from vbnfs.access.mount_figures import ask_figures
from vbnfs.cli.render import is_screen, print_spans
from vbnfs.cli.top_screen import leaving_at_sigterm, screen
from vbnfs.cli.top_text import Line, Sample, fetch_lines, mount_lines, silent_lines
from vbnfs.errors import MountError
from vbnfs.figures import Fetch, Figures
from vbnfs.host import mountinfo
from vbnfs.host.mountinfo import MountEntry
from vbnfs.host.terminal import keys

_ANSWER_SECONDS: Final = 3.0
_LATE_SECONDS: Final = 1.0  # then a mount that has not answered yet is shown as one that does not
_FIRST_SECONDS: Final = 10.0  # for what is asked first to answer, or to be given up
_FOR_A_RATE: Final = 2  # samples
_LONGEST_SECONDS: Final = 1.0  # between two pictures of a screen, whose size changes
_LEAST_ROWS: Final = 3
_OTHER_LINES: Final = 14  # of a mount: all but its readers, at most
_FETCH_LINES: Final = 2

Ask = Callable[[MountEntry], Figures]
Fetches = Callable[[], Sequence[Fetch]]


def _ask(entry: MountEntry) -> Figures:
    return ask_figures(_now(entry), seconds=_ANSWER_SECONDS)


def _now(entry: MountEntry) -> MountEntry:
    """The mount, or the one that is in its place now. Raises `MountError` where there is none.

    Another mount may have the number of one that is gone, and so its control socket's name.
    """
    if entry in mountinfo.list_mounts():
        return entry
    if (now := mountinfo.find_mount(entry.mountpoint)) is None:
        raise MountError(f"{entry.mountpoint}: not mounted any more; 'vbnfs mount' mounts it anew")
    return now


class Watched:
    """A mount, asked by a thread until `end`. A thread that waits for a daemon ends with this process."""

    def __init__(self, entry: MountEntry, interval_seconds: float, ask: Ask = _ask) -> None:
        self.entry = entry
        self._interval_seconds = interval_seconds
        self._ask = ask
        self._changed = threading.Condition()
        self._samples = self._shown = 0
        self._sample: Sample | None = None
        self._reason: str | None = None
        self._asked_at = time.monotonic()
        self._is_over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        before: tuple[float, Figures] | None = None
        while not self._is_over.is_set():
            began = self._asked_at = time.monotonic()
            try:
                now = self._ask(self.entry)
            except (MountError, OSError) as error:
                self._set(None, str(error).removeprefix(f"{self.entry.mountpoint}: "))
                before = None
            else:
                sample = Sample(now) if before is None else Sample(now, before[1], began - before[0])
                before = (began, now)
                self._set(sample, None)
            self._is_over.wait(self._interval_seconds)

    def end(self) -> None:
        """Ask no more."""
        self._is_over.set()

    def _set(self, sample: Sample | None, reason: str | None) -> None:
        with self._changed:
            self._sample, self._reason = sample, reason
            self._samples += 1
            self._changed.notify_all()

    def wait(self, end: float) -> None:
        """Wait for a sample that was not waited for yet, at first for two; or for why there is none.

        `end`, as time.monotonic() has it, is when one that still asks is waited for no longer.
        """
        with self._changed:
            self._changed.wait_for(self._has_more, end - time.monotonic())
            self._shown = self._samples

    def _has_more(self) -> bool:
        return self._samples > self._shown and (self._samples >= _FOR_A_RATE or self._reason is not None)

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
        if is_once or as_json or not is_screen():
            _write(watched, fetches, interval_seconds, is_once=is_once, as_json=as_json)
        else:
            _draw(watched, fetches, interval_seconds)
    except KeyboardInterrupt:  # how watching ends
        return
    finally:
        for one in watched:
            one.end()
    reasons = [f"{one.entry.mountpoint}: {reason}" for one in watched if (reason := one.state[1]) is not None]
    if is_once and reasons:
        raise MountError("\n".join(reasons))


def _write(
    watched: Sequence[Watched], fetches: Fetches, interval_seconds: float, *, is_once: bool, as_json: bool
) -> None:
    seconds = interval_seconds + _FIRST_SECONDS
    while True:
        end = time.monotonic() + seconds
        for one in watched:
            one.wait(end)
            _write_sample(one, as_json=as_json)
        _write_fetches(fetches(), is_all=not watched, as_json=as_json)
        sys.stdout.flush()
        if is_once:
            return
        if not as_json:
            sys.stdout.write("\n")
        if not watched:
            time.sleep(interval_seconds)
        seconds = interval_seconds + _ANSWER_SECONDS + _LATE_SECONDS


def _write_sample(one: Watched, *, as_json: bool) -> None:
    if not as_json:
        print_spans(one.lines())
        return
    sample, reason = one.state
    _print_json({"mountpoint": str(one.entry.mountpoint), "error": reason} if sample is None else asdict(sample.now))


def _write_fetches(fetches: Sequence[Fetch], *, is_all: bool, as_json: bool) -> None:
    if not as_json:
        print_spans(_lines_of_fetches(fetches, is_all=is_all))
        return
    for fetch in fetches:
        _print_json({"fetch": asdict(fetch)})


def _print_json(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")


def _lines_of_fetches(fetches: Sequence[Fetch], *, is_all: bool, width: int | None = None) -> Iterator[Line]:
    """`is_all`: no mount is watched."""
    for fetch in fetches:
        yield from fetch_lines(fetch, width=width)
    if is_all and not fetches:
        yield [("nothing is mounted, and nothing is fetched any more", "dim")]


def _draw(watched: Sequence[Watched], fetches: Fetches, interval_seconds: float) -> None:
    with leaving_at_sigterm(), screen() as show, keys() as pressed:
        while True:
            (width, height), fetched = show.size(), fetches()
            room = height - 1 - _FETCH_LINES * len(fetched)
            rows = max(_LEAST_ROWS, room // max(1, len(watched)) - _OTHER_LINES)
            lines = [line for one in watched for line in one.lines(width, rows)]
            lines += _lines_of_fetches(fetched, is_all=not watched, width=width)
            show.lines([*lines[: height - 1], [("q ends", "dim")]])
            if pressed(min(interval_seconds, _LONGEST_SECONDS)) in {"q", "Q"}:
                return
