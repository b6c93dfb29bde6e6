"""Measure vbnfs beside its peers: script/bench.

Each course of `works.py` is run with each system in turn, the order turned by one each time, so that whatever else
goes on in the machine meets all of them; then again, RUNS times. Prints a table and writes results.json, results.md
and results.png.
"""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from benchmarks.speed import machine
from benchmarks.speed.files import Files, make_files
from benchmarks.speed.origin import PLAIN, PROFILES, TLS, Origin
from benchmarks.speed.results import HEADERS, Row, Sample, as_json, cells, markdown, rows_of
from benchmarks.speed.systems.base import BENCH_BIN, ROOT, Site, System
from benchmarks.speed.systems.downloads import Boto3, Curl
from benchmarks.speed.systems.libraries import Library
from benchmarks.speed.systems.local import Local
from benchmarks.speed.systems.rclone import Rclone
from benchmarks.speed.systems.s3fs import S3fs
from benchmarks.speed.systems.vbnfs import Vbnfs
from benchmarks.speed.systems.zeros import Zeros
from benchmarks.speed.works import COURSES, WORKS, Bench, can

Make = Callable[[Site, Path], System]
SYSTEMS: Final[dict[str, Make]] = {
    "rclone": lambda site, place: Rclone("rclone", site, place),
    "rclone-tuned": lambda site, place: Rclone("rclone-tuned", site, place, tuned=True),
    "s3fs": lambda site, place: S3fs("s3fs", site, place),
    "remfile": lambda site, place: Library("remfile", site, place),
    "fsspec": lambda site, place: Library("fsspec", site, place),
    "boto3": lambda site, place: Boto3("boto3", site, place),
    "curl": lambda site, place: Curl("curl", site, place),
    "zeros": lambda site, place: Zeros("zeros", site, place),
    "local": lambda site, place: Local("local", site, place),
}
RESULTS: Final = "results.json"
QUICK_SYSTEMS: Final = ("curl", "zeros", "local")
QUICK_COURSES: Final = ("sequential", "spikes", "lfp")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, how often, and with how much."""

    systems: dict[str, Make]
    courses: tuple[str, ...]
    places: tuple[tuple[str, str], ...]  # profile, transport
    runs: int
    connections: int
    much_bytes: int


@dataclass(slots=True)
class Measured:
    """What came of it, and how loaded the machine was before each run."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


def variants(texts: Sequence[str]) -> dict[str, Make]:
    """vbnfs as it is, and with each of the options given: `NAME: --option value`, or the options alone (pure)."""
    made: dict[str, Make] = {}
    for text in ("", *texts):
        name, colon, options = text.partition(": ")
        label = name if colon else text
        made[f"vbnfs {label}".strip()] = _vbnfs(f"vbnfs {label}".strip(), shlex.split(options if colon else text))
    return made


def _vbnfs(name: str, options: list[str]) -> Make:
    return lambda site, place: Vbnfs(name, site, place, options)


def turned(names: Sequence[str], by: int) -> list[str]:
    """The names in a circle, begun at another one (pure)."""
    start = by % max(1, len(names))
    return [*names[start:], *names[:start]]


@click.command(context_settings={"show_default": True})
@click.option("--quick", is_flag=True, help="vbnfs and the limits only, over TLS, profile near; under two minutes.")
@click.option("--runs", default=3, help="How often each work is measured.")
@click.option("--profile", "profiles", multiple=True, type=click.Choice([p.name for p in PROFILES]), help="[all]")
@click.option("--transport", "transports", multiple=True, type=click.Choice([TLS, PLAIN]), help="[both]")
@click.option("--system", "names", multiple=True, type=click.Choice(list(SYSTEMS)), help="Besides vbnfs. [all]")
@click.option("--course", "courses", multiple=True, type=click.Choice(list(COURSES)), help="[all]")
@click.option(
    "--vbnfs-options", multiple=True, metavar="[NAME: ]OPTIONS", help="vbnfs once more, mounted with these."
)
@click.option("--connections", default=16, help="Of every system with such an option.")
@click.option("--scale", type=float, help="Of the files; 1 is about 1 GB for a session.  [1; quick: 0.5]")
@click.option("--seed", default=0, help="Of the files' contents.")
@click.option("--much", default=10.0, help="GB that the sixteen readers of the course 'memory' read.")
@click.option("--add", is_flag=True, help="To the results that are there: a table can be made in parts.")
@click.option(
    "--directory",
    default=ROOT / ".bench",
    type=click.Path(path_type=Path, resolve_path=True),
    help="For files and results.",
)
def main(  # noqa: PLR0913 - one for each option
    *,
    quick: bool,
    runs: int,
    profiles: tuple[str, ...],
    transports: tuple[str, ...],
    names: tuple[str, ...],
    courses: tuple[str, ...],
    vbnfs_options: tuple[str, ...],
    connections: int,
    scale: float | None,
    seed: int,
    much: float,
    add: bool,
    directory: Path,
) -> None:
    """Measure vbnfs beside its peers, on this machine alone."""
    if quick:
        names, profiles, transports = names or QUICK_SYSTEMS, profiles or ("near",), transports or (TLS,)
        courses = courses or QUICK_COURSES
    chosen = {name: make for name, make in SYSTEMS.items() if name in (names or SYSTEMS)}
    plan = Plan(
        systems={**variants(vbnfs_options), **chosen},
        courses=tuple(name for name in COURSES if name in (courses or COURSES)),
        places=tuple((p, t) for t in transports or (TLS, PLAIN) for p in profiles or [p.name for p in PROFILES]),
        runs=runs,
        connections=connections,
        much_bytes=round(much * 1e9),
    )
    scale = scale or (0.5 if quick else 1.0)
    files = make_files(directory, scale=scale, seed=seed)
    before, began = machine.describe(), time.monotonic()
    measured = measure(plan, files)
    samples = [*(earlier(directory) if add else []), *measured.samples]
    rows = rows_of(samples, WORKS)
    show(rows)
    for failure in measured.failures:
        click.echo(f"failed: {failure}", err=True)
    document = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began),
        "machine": before,
        "loads": measured.loads,
        "plan": {"runs": runs, "connections": connections, "scale": scale, "seed": seed, "much_gb": much},
        "rows": as_json(rows),
        "failures": measured.failures,
        "samples": [asdict(sample) for sample in samples],
    }
    write(directory, document, rows)


def measure(plan: Plan, files: Files) -> Measured:
    """Everything, interleaved. What fails is reported and left out, and so is the rest after an interruption."""
    measured = Measured()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # mounts are to be taken away in any case
    with suppress(KeyboardInterrupt):
        _measure_all(plan, files, measured)
        return measured
    measured.failures.append("interrupted: what was measured until then is all that is shown")
    return measured


def _measure_all(plan: Plan, files: Files, measured: Measured) -> None:
    with tempfile.TemporaryDirectory(prefix="run-", dir=files.directory.parent) as name:
        place = Path(name)
        (place / "origin").mkdir()
        with Origin(place / "origin", files) as origin:
            for run in range(plan.runs):
                measured.loads.append(round(os.getloadavg()[0], 1))
                for profile, transport in plan.places:
                    _measure_place(plan, origin, files, (profile, transport), run, place, measured)


def _measure_place(
    plan: Plan, origin: Origin, files: Files, at: tuple[str, str], run: int, place: Path, measured: Measured
) -> None:
    site = Site(files, origin.listeners[at], origin.certificate.path, plan.connections)
    bench = Bench(origin, site, plan.much_bytes)
    systems = {
        name: make(site, place / name.replace(" ", "_").replace("/", "_")) for name, make in plan.systems.items()
    }
    for course in plan.courses:
        for name in turned([name for name, system in systems.items() if can(course, system)], run):
            click.echo(f"run {run + 1}, {at[0]} {at[1]}: {course}, {name}", err=True)
            try:
                for sample in _visit(bench, systems[name], course):
                    measured.samples.append(sample)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                measured.failures.append(f"run {run + 1}, {at[0]} {at[1]}: {course}, {name}: {error}")


def _visit(bench: Bench, system: System, course: str) -> Iterator[Sample]:
    """One system's turn: an empty cache, the origin's files in memory, and nothing left behind."""
    machine.bring_into_memory([stored.path for stored in bench.site.files.objects[:3]])
    with _started(system):
        listener = bench.site.listener
        for work, value, extra in COURSES[course](bench, system):
            yield Sample(listener.profile.name, listener.transport, work.name, system.name, value, extra)


@contextmanager
def _started(system: System) -> Iterator[None]:
    system.forget()
    try:
        system.start()
        yield
    finally:
        system.stop()
        system.forget()


def earlier(directory: Path) -> list[Sample]:
    """What was measured in parts before."""
    results = directory / RESULTS
    return [Sample(**row) for row in json.loads(results.read_text())["samples"]] if results.exists() else []


def show(rows: Sequence[Row]) -> None:
    """Print a table for each profile and transport."""
    for at in dict.fromkeys((row.transport, row.profile) for row in rows):
        table = Table(title=f"{at[1]}, {at[0]}", title_justify="left")
        for header in ("work", *HEADERS):
            table.add_column(header, justify="left" if header in {"work", "system", "meanwhile"} else "right")
        before = ""
        for row in (row for row in rows if (row.transport, row.profile) == at):
            table.add_section() if row.work.name != before else None
            table.add_row("" if row.work.name == before else row.work.name, *cells(row))
            before = row.work.name
        Console(width=None if Console().is_terminal else 180).print(table)


def write(directory: Path, document: dict[str, object], rows: Sequence[Row]) -> None:
    """results.json, results.md, and results.png by the plotting library of .venv-bench."""
    results = directory / RESULTS
    results.write_text(json.dumps(document, indent=1))
    results.with_suffix(".md").write_text(markdown(rows))
    plot = [
        str(BENCH_BIN / "python"),
        str(ROOT / "benchmarks" / "speed" / "plot.py"),
        str(results),
        str(results.with_suffix(".png")),
    ]
    subprocess.run(plot, check=True)
    click.echo(f"written: {results}, .md and .png", err=True)


if __name__ == "__main__":
    main()
