"""The courses of programs that open a file: with h5py or pynwb (`reader.py`), or by themselves (`analyses.py`)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.speed import works
from benchmarks.speed.bench import Bench, Course, Result
from benchmarks.speed.files import CACHE_DIR, LFP, SESSION
from benchmarks.speed.results import Work
from benchmarks.speed.systems.base import ALLENSDK_PYTHON, READERS_PYTHON, System
from benchmarks.speed.systems.programs import output_of

_HERE: Final = Path(__file__).parent


def seconds_of(python: Path, script: str, job: str, system: System, name: str) -> Mapping[str, float]:
    """Run a job of a script beside this module: the seconds that it prints, which leave out starting Python.

    Raises:
        RuntimeError: it failed; the end of what it says is in the message.

    """
    command = [str(python), "-W", "ignore", str(_HERE / script), job, system.location(name)]
    lines = output_of(command, system.environment).splitlines()
    seconds: dict[str, float] = json.loads(
        next(line for line in lines if line.startswith("{"))
    )  # libraries print, too
    return seconds


def _reader(job: str, name: str, work: Work) -> Course:
    def course(bench: Bench, system: System) -> Iterator[Result]:
        system.location(name)  # may copy it, or make what the library needs beforehand
        yield (
            work,
            *bench.measured(system, lambda: seconds_of(system.python, "reader.py", job, system, name)["seconds"]),
        )

    return course


def _analysis(python: Path, job: str, name: str, work: Work, steps: Mapping[str, Work]) -> Course:
    """`steps`: the works whose figure is what one step of the job took."""

    def course(bench: Bench, system: System) -> Iterator[Result]:
        system.location(name)
        seconds: dict[str, float] = {}

        def run() -> float:
            seconds.update(seconds_of(python, "analyses.py", job, system, name))
            return seconds["seconds"]

        yield (work, *bench.measured(system, run))
        for step, its_work in steps.items():
            yield its_work, seconds[step], {}

    return course


READING: Final[Mapping[str, Course]] = {
    "spikes": _reader("spikes", SESSION, works.SPIKES),
    "lfp": _reader("lfp", LFP, works.LFP_CHANNEL),
    "ranges": _reader("ranges", SESSION, works.RANGES),
    "walk": _reader("walk", SESSION, works.WALK),
    "open": _reader("open", SESSION, works.OPEN),
    "inspector": _analysis(READERS_PYTHON, "inspector", SESSION, works.INSPECTOR, {}),
    "sorting": _analysis(READERS_PYTHON, "sorting", SESSION, works.SORTING, {"made": works.SORTING_MADE}),
    "recording": _analysis(READERS_PYTHON, "recording", LFP, works.RECORDING, {"made": works.RECORDING_MADE}),
    "allensdk": _analysis(
        ALLENSDK_PYTHON,
        "allensdk",
        CACHE_DIR,
        works.ALLENSDK,
        {"project": works.ALLENSDK_PROJECT, "session": works.ALLENSDK_SESSION, "lfp": works.ALLENSDK_LFP},
    ),
}
