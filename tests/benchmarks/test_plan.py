"""What is measured, and with which options."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import RESULTS, earlier, turned, variants
from benchmarks.speed.files import repeat_rows, version_id
from benchmarks.speed.results import Sample
from benchmarks.speed.systems.downloads import split
from benchmarks.speed.works import percentile


def test_variants_are_named_by_their_options_or_by_a_name() -> None:
    """vbnfs as it is comes first; options may have a name in front."""
    assert list(variants(["--max-connections 32", "wide: --max-connections 64"])) == [
        "vbnfs",
        "vbnfs --max-connections 32",
        "vbnfs wide",
    ]


def test_order_turns_with_each_run() -> None:
    """Each run begins with another system, and none is left out."""
    assert [turned(["a", "b", "c"], run) for run in (0, 1, 3)] == [["a", "b", "c"], ["b", "c", "a"], ["a", "b", "c"]]
    assert turned([], 1) == []


@pytest.mark.parametrize(("size_bytes", "parts"), [(1000, 16), (3, 16), (1 << 30, 7)])
def test_ranges_cover_a_file_once(size_bytes: int, parts: int) -> None:
    """The ranges that curl is given are disjoint, and all of the file."""
    bounds = [tuple(map(int, part.split("-"))) for part in split(size_bytes, parts)]
    covered = [start for start, _ in bounds] + [bounds[-1][1] + 1]
    assert covered == [0, *(last + 1 for _, last in bounds)]
    assert covered[-1] == size_bytes


def test_percentiles_lie_between_the_nearest_values() -> None:
    """The field's way to compute them: of 0 to 100 the 99th is 99."""
    assert percentile([float(value) for value in range(101)], 99) == 99.0
    assert percentile([1.0, 3.0], 50) == 2.0


def test_rows_repeat_until_a_table_is_large_enough() -> None:
    """The header stands once; whole rows follow, no more than needed."""
    assert "".join(repeat_rows(["a,b\n", "1,2\n", "3,4\n"], 15)) == "a,b\n1,2\n3,4\n1,2\n"


def test_version_ids_look_like_those_of_s3() -> None:
    """32 characters, of the key alone."""
    assert len(version_id("a")) == 32
    assert version_id("a") != version_id("b")


def test_what_was_measured_before_is_added_to(tmp_path: Path) -> None:
    """The samples of a results.json come back as they were; without one there are none."""
    assert earlier(tmp_path) == []
    sample = Sample("near", "https", "cold", "vbnfs", 245.5, {"requests": 7})
    (tmp_path / RESULTS).write_text(json.dumps({"samples": [asdict(sample)], "rows": []}))
    assert earlier(tmp_path) == [sample]
