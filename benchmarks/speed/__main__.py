"""Measure vbnfs beside its peers: script/bench."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.speed import machine, report
from benchmarks.speed.courses import COURSES
from benchmarks.speed.measuring import Measured, Options, TimeIsUp, files_of, limited, measure
from benchmarks.speed.origin import PLAIN, PROFILES, TLS
from benchmarks.speed.parts import PARTS, Part
from benchmarks.speed.release import NAME as RELEASE
from benchmarks.speed.results import DEFAULT_SHAPE
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.systems.base import ROOT
from benchmarks.speed.systems.registry import SYSTEMS, absent, variants

FILES: Final = "files"
OWN: Final = Part(
    "results",
    "what the options say",
    tuple(COURSES),
    tuple((profile.name, transport) for transport in (TLS, PLAIN) for profile in PROFILES),
)
QUICK: Final[dict[str, tuple[str, ...]]] = {
    "courses": ("sequential", "spikes", "lfp"),
    "systems": ("curl", "curl-24", "zeros", "local"),
    "profiles": ("near",),
    "transports": (TLS,),
}
_PARTS_HELP: Final = "".join(f"{part.name:<22}{part.about}\n" for part in PARTS.values())


def narrowed(part: Part, chosen: Mapping[str, Sequence[str]]) -> Part:
    """A part with only what was asked for of it, by options; no option leaves everything (pure).

    Raises:
        UsageError: nothing is left.

    """
    profiles, transports = chosen["profiles"], chosen["transports"]
    left = replace(
        part,
        courses=kept(part.courses, chosen["courses"]),
        systems=kept(part.systems, chosen["systems"]),
        places=tuple(
            (profile, transport)
            for profile, transport in part.places
            if profile in (profiles or [profile]) and transport in (transports or [transport])
        ),
    )
    if not left.courses or not left.places:
        raise click.UsageError(f"part {part.name} has nothing of what the options ask for; leave some out")
    return left


def kept(names: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that were chosen, in their order; all where none was (pure)."""
    return tuple(name for name in names if name in (chosen or names))


@click.command(
    context_settings={"show_default": True, "max_content_width": 110},
    epilog="\b\nThe parts; each ends within half an hour:\n"
    + f"{FILES:<22}make the files of all shapes, and measure nothing\n"
    + _PARTS_HELP,
)
@click.option("--part", "names", multiple=True, metavar="PART", help="Measure this part; 'all': one after the other.")
@click.option("--table", is_flag=True, help="Measure nothing: make one table of all parts that were measured.")
@click.option("--picture", is_flag=True, help="Measure nothing: draw docs/performance.png from docs/PERFORMANCE.md.")
@click.option("--quick", is_flag=True, help="vbnfs and the limits only, over TLS, profile near; a few minutes.")
@click.option("--runs", type=int, help="How often each work is measured.  [the part's; else 3]")
@click.option("--profile", "profiles", multiple=True, type=click.Choice([p.name for p in PROFILES]), help="[all]")
@click.option("--transport", "transports", multiple=True, type=click.Choice([TLS, PLAIN]), help="[both]")
@click.option("--system", "systems", multiple=True, type=click.Choice(list(SYSTEMS)), help="Besides vbnfs. [all]")
@click.option("--course", "courses", multiple=True, type=click.Choice(list(COURSES)), help="[all]")
@click.option(
    "--shape", type=click.Choice([*SHAPES, RELEASE]), help=f"Of the files.  [the part's; else {DEFAULT_SHAPE}]"
)
@click.option(
    "--vbnfs-options", multiple=True, metavar="[NAME: ]OPTIONS", help="vbnfs once more, mounted with these."
)
@click.option("--connections", default=32, help="Of every system with such an option; curl has 16, and 24.")
@click.option("--scale", type=float, help="Of the files; 1 is about 1 GB for a session.  [1; quick: 0.5]")
@click.option("--seed", default=0, help="Of the files' contents.")
@click.option("--much", default=10.0, help="GB that the sixteen readers of the course 'memory' read.")
@click.option("--minutes", default=27.0, help="When they are over, a part ends with what it has.")
@click.option("--add", is_flag=True, help="Add runs to the results of the same name that are there.")
@click.option(
    "--directory",
    default=ROOT / ".bench",
    type=click.Path(path_type=Path, resolve_path=True),
    help="For files and results.",
)
def main(  # noqa: PLR0913 - one for each option
    *,
    names: tuple[str, ...],
    table: bool,
    picture: bool,
    quick: bool,
    runs: int | None,
    profiles: tuple[str, ...],
    transports: tuple[str, ...],
    systems: tuple[str, ...],
    courses: tuple[str, ...],
    shape: str | None,
    vbnfs_options: tuple[str, ...],
    connections: int,
    scale: float | None,
    seed: int,
    much: float,
    minutes: float,
    add: bool,
    directory: Path,
) -> None:
    """Measure vbnfs beside its peers, on this machine alone.

    Without --part, all parts are measured, one after the other; with --profile, --transport, --system, --course or
    --shape, what these say. With both, they narrow the part.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if picture:
        report.draw(report.DOCUMENT.read_text(), report.PICTURE)
    if table:
        report.write_table(directory)
    if picture or table:
        return
    options = Options(directory, connections, scale or (0.5 if quick else 1.0), seed, round(much * 1e9), minutes)
    chosen = {"profiles": profiles, "transports": transports, "systems": systems, "courses": courses}
    if quick:
        chosen = {name: chosen[name] or values for name, values in QUICK.items()}
    is_own = not names and (shape is not None or any(chosen.values()))
    parts = [narrowed(part, chosen) for part in ([OWN] if is_own else chosen_parts(names))]
    if not is_own and (not names or {"all", FILES} & set(names)):
        make_all_files(options)
    for part in parts:
        again = replace(part, runs=runs or part.runs, shape=shape or part.shape)
        measure_part(again, options, vbnfs_options, add=add)
        if not is_own:
            report.write_table(directory, is_shown=False)


def chosen_parts(names: Sequence[str]) -> list[Part]:
    """The parts of these names, in the order of all; all where there is none, or "all" (pure).

    Raises:
        UsageError: there is no such part.

    """
    for name in names:
        if name not in {"all", FILES, *PARTS}:
            raise click.UsageError(f"there is no part {name}; the parts are: all, {FILES}, {', '.join(PARTS)}")
    return [part for name, part in PARTS.items() if not names or name in names or "all" in names]


def make_all_files(options: Options) -> None:
    """Of every shape.

    Raises:
        ClickException: time was up.

    """
    try:
        with limited(options.minutes):
            for shape in (*SHAPES, RELEASE):
                files_of(shape, options)
    except TimeIsUp:
        raise click.ClickException("time was up while files were made; run this again, or give --minutes") from None


def measure_part(part: Part, options: Options, vbnfs_options: Sequence[str], *, add: bool) -> None:
    """Measure, write and print a part. An interruption ends the program when what was measured is written."""
    path = report.results_file(options.directory, part.name)
    before = report.earlier(path) if add else None
    missing = absent(part.systems)
    present = {name: SYSTEMS[name].make for name in part.systems if name not in missing}
    about, began = about_part(part, options), time.monotonic()
    if before is not None and not report.same_plan(before, about):
        raise click.ClickException(f"{path} was measured with other files or connections: leave out --add")
    interrupted = False
    try:
        measured = measure(part, {**variants(vbnfs_options), **present}, options, report.next_run(before))
    except KeyboardInterrupt as interruption:
        (measured,), interrupted = interruption.args, True
        assert isinstance(measured, Measured)
    about["seconds"] = round(time.monotonic() - began)
    report.write(path, report.document_of(about, missing, measured, before))
    if interrupted:
        sys.exit(130)


def about_part(part: Part, options: Options) -> dict[str, Any]:
    """When, where and how a part is measured."""
    return {
        "part": part.name,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "plan": {
            "runs": part.runs,
            "shape": part.shape,
            "connections": options.connections,
            "scale": options.scale,
            "seed": options.seed,
            "much_gb": options.much_bytes / 1e9,
        },
    }


if __name__ == "__main__":
    main()
