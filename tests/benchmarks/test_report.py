"""What parts write, and the table that they add up to."""

from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks.speed.measuring import Measured
from benchmarks.speed.report import (
    document_of,
    earlier,
    joined,
    next_run,
    notes,
    results_file,
    same_plan,
    samples_of,
    write,
    write_table,
)
from benchmarks.speed.results import Sample, rows_of
from benchmarks.speed.works import COLD, WORKS

MACHINE = {"processors": 2, "processor": "A", "memory_gib": 4, "kernel": "6.18", "python": "3.11"}
PLAN = {"shape": "session", "scale": 0.5, "seed": 0, "connections": 16, "much_gb": 10.0}


def part(name: str, *samples: Sample, before: dict[str, Any] | None = None) -> dict[str, Any]:
    measured = Measured(list(samples), [("s3fs", "near, https")], [f"{name} failed"], [0.5])
    return document_of({"part": name, "machine": MACHINE, "plan": PLAN}, {"goofys": "is not there"}, measured, before)


def cold(system: str, value: float, run: int = 0, profile: str = "near") -> Sample:
    return Sample(profile, "https", COLD.name, system, value, {"requests": 7}, run)


def test_runs_add_up() -> None:
    """Later runs have numbers of their own: each is compared within itself."""
    first = part("near-https", cold("vbnfs", 50), cold("curl", 100))
    assert (next_run(None), next_run(first)) == (0, 1)
    both = part("near-https", cold("vbnfs", 90, 1), cold("curl", 100, 1), before=first)
    (ours, _) = rows_of(samples_of(both), WORKS)
    assert (ours.runs, ours.to_limit) == (2, 0.7)
    assert both["loads"] == [0.5, 0.5]


def test_parts_add_up_to_one_table() -> None:
    """All samples, failures and absent peers; and what each part was like."""
    one = joined([part("near-https", cold("vbnfs", 50)), part("home-https", cold("vbnfs", 40, profile="home"))])
    assert [row.place[2] for row in rows_of(samples_of(one), WORKS)] == ["home", "near"]
    assert [each["part"] for each in one["parts"]] == ["near-https", "home-https"]
    assert one["failures"] == ["near-https failed", "home-https failed"]
    assert one["absent"] == {"goofys": "is not there"}


def test_notes_say_what_is_missing() -> None:
    """Whose bytes were compared, which peers are not there, which parts were not run, and what failed."""
    said = notes(part("near-https"), ["memory"])
    assert said == [
        "near-https: 2 processors (A), 4 GiB, Linux 6.18, Python 3.11; files of scale 0.5, seed 0; 16 connections.",
        "Bytes compared with the original by hash, and right, near, https: s3fs.",
        "Not measured: goofys is not there.",
        "Parts that were not run: memory.",
        "Failed: near-https failed",
    ]
    assert "No system's" in notes({"parts": [], "verified": [], "absent": {}, "failures": []})[0]


def test_parts_that_have_all_in_common_stand_in_one_note() -> None:
    """Others show at once: a table of parts of different files is no table."""
    other = part("memory") | {"plan": PLAN | {"scale": 1.0}}
    said = notes(joined([part("near-https"), part("home-https"), other]))
    assert said[0].startswith("near-https, home-https: 2 processors")
    assert said[1].startswith("memory: 2 processors")


def test_runs_are_added_to_runs_of_the_same_files() -> None:
    """Of others they would be no runs of one thing."""
    assert same_plan(part("memory"), {"plan": {**PLAN, "runs": 7}})
    assert not same_plan(part("memory"), {"plan": {**PLAN, "scale": 1.0}})


def test_results_are_read_back(tmp_path: Path) -> None:
    """The samples of a file of results come back as they were; without one there are none."""
    path = results_file(tmp_path, "near-https")
    assert path.name == "part-near-https.json"
    assert results_file(tmp_path, "results").name == "results.json"
    assert earlier(path) is None
    path.write_text("{}")
    assert earlier(path) == {}


def test_part_and_table_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of results and one of Markdown each; the table names the parts that are missing. No picture here."""
    monkeypatch.setattr("benchmarks.speed.report.draw", lambda text, path: None)
    with pytest.raises(click.ClickException, match="--part"):
        write_table(tmp_path)
    write(results_file(tmp_path, "memory"), part("memory", cold("vbnfs", 50), cold("s3fs", 20)))
    written = earlier(results_file(tmp_path, "memory"))
    assert written is not None
    assert samples_of(written) == [cold("vbnfs", 50), cold("s3fs", 20)]
    write_table(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| vbnfs | 50 MB/s | one run | 2.50 |" in text
    assert "- Parts that were not run: lan-https, " in text
    assert "goofys is not there" in capsys.readouterr().err
