"""script/scale in small: real mounts on hosts of their own, which read through a real site cache at the same time."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.scale.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.root]
CLIENTS = 3
# Of these the busy machine of a test run decides, and not vbnfs.
OF_TIME = {"seconds of all / (way to S3 + processors)", "slowest / median"}
# How far clients read ahead depends on what has come by when. Three slices of the thirty of this course are a tenth,
# which is what the whole course of 64 clients is held to.
PREDICTION = "prediction: "
MOST_PREDICTED_OFF = 0.25


def test_a_course_in_small(tmp_path: Path) -> None:
    """S3 sends each slice once; a damaged site cache brings no wrong byte, a killed one fails no read.

    And the simulation counts the same requests and bytes.
    """
    results = tmp_path / "results.json"
    words = ["--part", "clients", "--size", "small", "--clients", str(CLIENTS)]
    done = CliRunner().invoke(main, [*words, "--place", str(tmp_path), "--results", str(results)])
    found = json.loads(results.read_text())
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert [name for name, gate in gates.items() if not gate["holds"] and not is_of_time(name)] == []
    predicted = {name: gate["value"] for name, gate in gates.items() if name.startswith(PREDICTION)}
    assert len(predicted) == 4
    assert max(predicted.values()) < MOST_PREDICTED_OFF, predicted
    assert found["together"]["s3_requests"] == found["together"]["unique_slices"]
    assert found["faults"]["wrong_blocks"] > 0
    assert found["faults"]["killed_to_s3"] > 0
    assert "simulation" in done.output


def is_of_time(name: str) -> bool:
    return name in OF_TIME or "seconds" in name or name.startswith(PREDICTION)
