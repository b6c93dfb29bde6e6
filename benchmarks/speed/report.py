"""What is written of each part, and the table that all parts add up to."""

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from benchmarks.speed import table
from benchmarks.speed.measuring import Measured
from benchmarks.speed.parts import PARTS
from benchmarks.speed.results import Row, Sample, rows_of
from benchmarks.speed.systems.base import BENCH_BIN, ROOT
from benchmarks.speed.works import WORKS

TABLE: Final = "table"
DOCUMENT: Final = ROOT / "docs" / "PERFORMANCE.md"
PICTURE: Final = ROOT / "docs" / "performance.png"
_LISTS: Final = ("verified", "failures", "loads")


def results_file(directory: Path, name: str) -> Path:
    """Where the results of a part are."""
    return directory / (f"part-{name}.json" if name in PARTS else f"{name}.json")


def earlier(path: Path) -> dict[str, Any] | None:
    """What a file of results holds; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def samples_of(document: Mapping[str, Any]) -> list[Sample]:
    """The samples of a document of results (pure)."""
    return [Sample(**row) for row in document["samples"]]


def next_run(document: Mapping[str, Any] | None) -> int:
    """The number of the first run that comes after those of a document (pure)."""
    return 1 + max((sample.run for sample in samples_of(document)), default=-1) if document else 0


def document_of(
    about: Mapping[str, Any], absent: Mapping[str, str], measured: Measured, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A part's results, added to those from before (pure)."""
    new = {**asdict(measured), "absent": dict(absent)}
    if before is not None:
        new |= {name: [*before[name], *new[name]] for name in ("samples", *_LISTS)}
    return {**about, **new}


def joined(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of all parts as one (pure)."""
    return {
        "parts": [
            {name: one[name] for name in one if name not in {"samples", *_LISTS, "absent"}} for one in documents
        ],
        "absent": {name: reason for one in documents for name, reason in one["absent"].items()},
        **{name: [item for one in documents for item in one[name]] for name in ("samples", *_LISTS)},
    }


def notes(document: Mapping[str, Any], missing_parts: Sequence[str] = ()) -> list[str]:
    """What is said below a table: whose bytes were compared, which peers are not there, what failed (pure)."""
    places: dict[str, dict[str, None]] = {}
    for system, place in document["verified"]:
        places.setdefault(place, {})[system] = None
    verified = [
        f"Bytes compared with the original by hash, and right, {at}: {', '.join(places[at])}." for at in places
    ]
    return [
        *_plans(document.get("parts", [document])),
        *(verified or ["No system's bytes were compared with the original."]),
        *(f"Not measured: {name} {reason}." for name, reason in document["absent"].items()),
        *([f"Parts that were not run: {', '.join(missing_parts)}."] if missing_parts else []),
        *(f"Failed: {failure}" for failure in document["failures"]),
    ]


def _plans(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """On which machines, and with which files, parts were measured: a line for all that have it in common (pure)."""
    found: dict[str, list[str]] = {}
    for part in parts:
        machine, plan = part["machine"], part["plan"]
        what = f"{machine['processors']} processors ({machine['processor']}), {machine['memory_gib']} GiB, Linux "
        what += (
            f"{machine['kernel']}, Python {machine['python']}; files of scale {plan['scale']:g}, seed {plan['seed']}"
        )
        found.setdefault(f"{what}; {plan['connections']} connections", []).append(part["part"])
    return [f"{', '.join(names)}: {what}." for what, names in found.items()]


def same_plan(before: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether runs may be added: they read the same files, in the same ways (pure)."""
    names = ("shape", "scale", "seed", "connections", "much_gb")
    return all(before["plan"][name] == about["plan"][name] for name in names)


def write(
    path: Path, document: Mapping[str, Any], missing_parts: Sequence[str] = (), *, is_shown: bool = True
) -> None:
    """Write results as .json, .md and .png; print the table and its notes."""
    rows = rows_of(samples_of(document), WORKS)
    below = notes(document, missing_parts)
    path.write_text(json.dumps({**document, "rows": table.as_json(rows)}, indent=1))
    text = table.markdown(rows, below)
    path.with_suffix(".md").write_text(text)
    draw(text, path.with_suffix(".png"))
    if is_shown:
        show(rows)
        for note in below:
            click.echo(note, err=True)
    click.echo(f"written: {path}, .md and .png", err=True)


def write_table(directory: Path, *, is_shown: bool = True) -> None:
    """One table of all parts that there are.

    Raises:
        ClickException: there are none.

    """
    documents = {name: earlier(results_file(directory, name)) for name in PARTS}
    present = [one for one in documents.values() if one is not None]
    if not present:
        raise click.ClickException(f"{directory} has no results of parts; measure one: script/bench --part NAME")
    missing = [name for name, one in documents.items() if one is None]
    write(directory / f"{TABLE}.json", joined(present), missing, is_shown=is_shown)


def source_of(text: str) -> str:
    """What a picture bears of the document that it was made from, so that a test can compare them (pure)."""
    shown = json.dumps(table.pictured(text, WORKS), sort_keys=True)
    return hashlib.blake2b(shown.encode(), digest_size=16).hexdigest()


def draw(text: str, path: Path) -> None:
    """Draw the tables of a text with the plotting library of .venv-bench; nothing where there are none."""
    shown = table.pictured(text, WORKS)
    if not shown["lines"]:
        return
    data = path.with_suffix(".plot")
    data.write_text(json.dumps({**shown, "source": source_of(text)}))
    script = ROOT / "benchmarks" / "speed" / "plot.py"
    try:
        subprocess.run([str(BENCH_BIN / "python"), str(script), str(data), str(path)], check=True)
    finally:
        data.unlink()


def show(rows: Sequence[Row]) -> None:
    """Print a table for each place."""
    for place in dict.fromkeys(row.place for row in rows):
        printed = Table(title=table.title(place), title_justify="left")
        for header in ("work", *table.HEADERS):
            printed.add_column(header, justify="left" if header in {"work", "system", "meanwhile"} else "right")
        before = ""
        for row in (row for row in rows if row.place == place):
            printed.add_section() if row.work.name != before else None
            printed.add_row("" if row.work.name == before else row.work.name, *table.cells(row))
            before = row.work.name
        Console(width=None if Console().is_terminal else 180).print(printed)
