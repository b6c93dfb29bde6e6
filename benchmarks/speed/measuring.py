"""Measuring a part: its courses with each system in turn.

The order is turned by one in each run, so that whatever else goes on in the machine meets all of them.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.speed import machine, release
from benchmarks.speed.bench import Bench
from benchmarks.speed.courses import COURSES, can
from benchmarks.speed.files import SESSION, Files, make_files
from benchmarks.speed.origin import Origin
from benchmarks.speed.parts import Part, Place
from benchmarks.speed.results import Sample
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.systems.base import Site, System
from benchmarks.speed.systems.registry import Make
from benchmarks.speed.table import title


@dataclass(frozen=True, slots=True)
class Options:
    """With how much, and for how long, all parts are measured."""

    directory: Path
    connections: int
    scale: float
    seed: int
    much_bytes: int
    minutes: float


@dataclass(slots=True)
class Measured:
    """What came of a part, and the machine's load before each run. `verified`: whose bytes were right, where."""

    samples: list[Sample] = field(default_factory=list)
    verified: list[tuple[str, str]] = field(default_factory=list)  # system, place
    failures: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


class WrongBytesError(RuntimeError):
    """A system brings other bytes than the original's: what it was measured at does not count."""


_AGAIN_SECONDS: Final = 2.0


class TimeIsUp(KeyboardInterrupt):
    """A part has had its minutes. As an interruption it passes what handles errors, and mounts are taken away."""


def turned(names: Sequence[str], by: int) -> list[str]:
    """The names in a circle, begun at another one (pure)."""
    start = by % max(1, len(names))
    return [*names[start:], *names[:start]]


def files_of(shape: str, options: Options) -> Files:
    """The files of a shape, made where they are not there."""
    if shape == release.NAME:
        return release.make_release(options.directory)
    return make_files(options.directory, shape=SHAPES[shape], scale=options.scale, seed=options.seed)


def measure(part: Part, systems: Mapping[str, Make], options: Options, first_run: int = 0) -> Measured:
    """A part. What fails is reported and left out, and so is the rest after an interruption or when time is up.

    Raises:
        KeyboardInterrupt: it was interrupted, not by its time, and `measured` is among its arguments.

    """
    measured = Measured()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # mounts are to be taken away in any case
    try:
        with limited(options.minutes):
            Measuring(part, systems, options, measured).all_runs(first_run)
    except RuntimeError as error:
        measured.failures.append(f"{part.name}: {error}")
    except TimeIsUp:
        measured.failures.append(f"{part.name}: time was up after {options.minutes:g} minutes; the rest is missing")
    except KeyboardInterrupt as interruption:
        measured.failures.append(f"{part.name}: it was interrupted; the rest is missing")
        interruption.args = (measured,)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return measured


@contextmanager
def limited(minutes: float) -> Iterator[None]:
    """Raise TimeIsUp in the main thread when time is up (setitimer(2))."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60, _AGAIN_SECONDS)  # one in a finalizer is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True, slots=True)
class Measuring:
    """A part at work; what comes of it goes into `measured`."""

    part: Part
    systems: Mapping[str, Make]
    options: Options
    measured: Measured

    def all_runs(self, first_run: int) -> None:
        """Every run, in every place, with an origin of its own."""
        files = files_of(self.part.shape, self.options)
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.options.directory) as name:
            place = Path(name)
            (place / "origin").mkdir()
            with Origin(place / "origin", files) as origin:
                for run in range(first_run, first_run + self.part.runs):
                    self.measured.loads.append(round(os.getloadavg()[0], 1))
                    for at in self.part.places:
                        self._one_place(origin, files, at, run, place, verify=run == first_run)

    def _one_place(self, origin: Origin, files: Files, at: Place, run: int, place: Path, *, verify: bool) -> None:
        site = Site(files, origin.listeners[at], origin.certificate.path, self.options.connections)
        bench = Bench(origin, site, self.options.much_bytes)
        systems = {
            name: make(site, place / name.replace(" ", "_").replace("/", "_")) for name, make in self.systems.items()
        }
        unverified = set(systems) if verify and self.part.shape != release.NAME else set()
        for course in self.part.courses:
            for name in turned([name for name in systems if can(course, systems[name], self.part.shape)], run):
                label = f"{self.part.name}, run {run + 1}, {at[0]} {at[1]}: {course}, {name}"
                click.echo(label, err=True)
                try:
                    self._visit(bench, systems[name], course, run, verify=name in unverified)
                    unverified.discard(name)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    self.measured.failures.append(f"{label}: {error}")

    def _visit(self, bench: Bench, system: System, course: str, run: int, *, verify: bool) -> None:
        """One system's turn: an empty cache, the origin's files in memory, and nothing left behind."""
        if self.part.shape != release.NAME:
            machine.bring_into_memory([stored.path for stored in bench.site.files.objects[:3]])
        profile, transport = bench.site.listener.profile.name, bench.site.listener.transport
        already = len(self.measured.samples)
        with _started(system):
            for work, value, extra in COURSES[course](bench, system):
                sample = Sample(profile, transport, work.name, system.name, value, extra, run, self.part.shape)
                self.measured.samples.append(sample)
            try:
                is_right = verify and has_right_bytes(system)
            except WrongBytesError:
                del self.measured.samples[already:]
                raise
            if is_right:
                self.measured.verified.append((system.name, title((self.part.shape, transport, profile))))


def has_right_bytes(system: System) -> bool:
    """Whether a system has files, and brings the session as it is.

    Raises:
        WrongBytesError: it brings other bytes.

    """
    found = system.digest(SESSION)
    if found is not None and found != system.site.files.digest(SESSION):
        raise WrongBytesError(f"wrong bytes: BLAKE2b of {SESSION} is {found}")
    return found is not None


@contextmanager
def _started(system: System) -> Iterator[None]:
    system.forget()
    try:
        system.start()
        yield
    finally:
        with undisturbed():
            system.stop()
            system.forget()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end a part wait, so that no mount stays.

    Blocking them in this thread (pthread_sigmask(3)) would not do: another thread takes them then, and Python runs
    the handler in the main thread all the same (documentation of `signal`, "Execution of Python signal handlers").
    """
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: waiting.append(number))
        for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(waiting):
            signal.raise_signal(number)
