"""Find out what many clients ask of S3, and what a site cache makes of that: script/scale."""

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.scale import costs, measure, scenarios, traces
from benchmarks.scale.files import SIZES, Course, Size, make_course
from benchmarks.scale.lab import running_lab
from benchmarks.scale.logs import percentile
from benchmarks.scale.scenarios import table
from benchmarks.speed.machine import describe

PARTS: Final = ("clients", "costs", "simulation")
_HOSTS_OF_COSTS: Final = 12


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="This part alone; may be repeated.")
@click.option("--clients", default=64, show_default=True, metavar="N", help="How many mounts read.")
@click.option("--size", default="real", show_default=True, type=click.Choice(list(SIZES)), help="Of the sessions.")
@click.option("--place", type=click.Path(path_type=Path), help="A folder for files and caches.  [default: a new one]")
@click.option("--record", is_flag=True, help="Keep the clients' requests in benchmarks/scale/traces.")
@click.option("--results", type=click.Path(path_type=Path), help="A file for all figures, as JSON.")
def main(
    parts: tuple[str, ...], clients: int, size: str, place: Path | None, record: bool, results: Path | None
) -> None:
    """Have many clients read at the same time, and simulate many more.

    Parts: 'clients' has real mounts read together through a site cache, damages that and kills it (needs root);
    'costs' opens a session with and without index, digests and site cache (needs root); 'simulation' goes on from
    the recorded traces to 10,000 clients.

    'script/scale --nfs' tries one cache folder for two hosts instead, on an NFS server; '--nfs --help' lists how.
    """
    try:
        found = _found(parts or PARTS, clients, SIZES[size], place, record)
    except RuntimeError as error:
        sys.exit(f"script/scale: {error}")
    if results is not None:
        results.write_text(json.dumps(found, indent=1) + "\n")
    if not all(gate["holds"] for gate in found.get("gates", [])):
        sys.exit(1)


def _found(chosen: Sequence[str], clients: int, size: Size, place: Path | None, record: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": describe()}
    with ExitStack() as stack:
        folder = place or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vbnfs-scale-")))
        folder.mkdir(parents=True, exist_ok=True)
        if "clients" in chosen:
            found |= _clients(_new(folder, stack), make_course(folder, size), clients, is_recorded=record)
        if "costs" in chosen:
            found["costs"] = _costs(_new(folder, stack), make_course(folder, size))
    if "simulation" in chosen:
        found["simulation"] = _simulation()
    return found


def _new(folder: Path, stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=folder)))


def _clients(directory: Path, course: Course, count: int, *, is_recorded: bool) -> Mapping[str, Any]:
    found = measure.run(directory, course, count)
    if is_recorded:
        traces.store(found.alone)
    compared = measure.compare(found.together, found.own, found.slowdown)
    by_alone = measure.compare(found.together, found.alone, found.slowdown)
    gates = [*found.gates(), *compared.gates, *by_alone.gates_of_prediction]
    one, warm = found.together, found.warm
    lines = [
        ["unique bytes in slices, MB", f"{one.unique_bytes / 1e6:.1f}"],
        ["bytes from S3, MB", f"{one.s3_bytes / 1e6:.1f}"],
        ["requests to the site cache", f"{one.proxy_requests:,}"],
        ["requests to S3", f"{one.s3_requests:,} ({one.unique_slices:,} unique slices)"],
        ["processor time of a client, s", f"{one.processor_seconds:.2f}"],
        [
            "... when all are warm, and one alone, s",
            f"{one.warm_processor_seconds:.2f}, {one.alone_processor_seconds:.2f}",
        ],
        ["... and the kernel's for the network, s", f"{warm.kernel_seconds:.2f}"],
        ["processors that all else had", f"{one.other_processors:.2f}"],
        ["allowed: way to S3 and processors, s", f"{one.allowed_seconds:.1f}"],
        ["... by a client alone, s", f"{one.allowed_alone_seconds:.1f}"],
        ["all when warm: median client, slowest, s", f"{percentile(warm.seconds, 0.5):.1f}, {max(warm.seconds):.1f}"],
        ["... requests to S3", f"{warm.s3_requests}"],
        ["median client, slowest, s", f"{percentile(one.seconds, 0.5):.1f}, {max(one.seconds):.1f}"],
        ["requests that waited for a slice", f"{len(one.waits):,}"],
        ["... p50, p99, s", f"{percentile(one.waits, 0.5):.2f}, {percentile(one.waits, 0.99):.2f}"],
        ["memory of all daemons, MB", f"{one.memory_bytes / 1e6:,.0f}"],
    ]
    click.echo(f"\n{count} clients, {os.cpu_count()} processors\n")
    click.echo(table(("", ""), lines) + "\n")
    both = [(name, pair, getattr(by_alone, name)[0]) for name, pair in asdict(compared).items()]
    compared_lines = [
        [name.replace("_", " "), *(f"{value:,.1f}".removesuffix(".0") for value in (*pair[::-1], alone))]
        for name, pair, alone in both
    ]
    header = ("", "measured", "simulated, own requests", "simulated, requests of clients alone")
    click.echo(table(header, compared_lines) + "\n")
    gate_lines = [
        [gate.name, f"{gate.value:.3g}", f"{gate.limit:g}", "yes" if gate.holds else "NO"] for gate in gates
    ]
    click.echo(table(("gate", "found", "at most", "holds"), gate_lines) + "\n")
    return {
        **found.as_json(),
        "compared": asdict(compared),
        "alone": asdict(by_alone),
        "gates": [asdict(g) | {"holds": g.holds} for g in gates],
    }


def _costs(directory: Path, course: Course) -> list[list[str]]:
    names = [f"o{number}" for number in range(_HOSTS_OF_COSTS)]
    with running_lab(directory, course, names) as lab:
        lines = [cost.cells() for cost in costs.costs(lab, itertools.chain(names))]
    click.echo("\n" + table(costs.HEADER, lines) + "\n")
    return lines


def _simulation() -> list[list[str]]:
    lines = []
    for row in scenarios.rows(traces.load()):
        lines.append(row.cells())
        click.echo(" ".join(row.cells()), err=True)
    click.echo("\n" + table(scenarios.HEADER, lines) + "\n")
    return lines


if __name__ == "__main__":
    main()
