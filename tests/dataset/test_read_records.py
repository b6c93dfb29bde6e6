"""Records of what was read: their lines, and what is made of lines from anybody."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.dataset.read_records import MOST_LINE_BYTES, MountLine, OpenLine, line_of, parse_record
from vbnfs.errors import RecordError
from vbnfs.objects import ObjectVersion
from vbnfs.spans import Spans

MOUNT = MountLine("m1", "2026-11-30T04:00:00Z", "bucket", "project", "0.5.0", "1.0")
LINE = OpenLine(
    mount="m1",
    open_number=3,
    version=ObjectVersion("project/sessions/a.nwb", "v1"),
    file_hash="0a" * 64,
    size_bytes=1000,
    dataset_versions=("0.10.0", "0.9.0", "0.5.0"),
    program="python3",
    opened="2026-11-30T04:00:01Z",
    read="2026-11-30T04:00:02Z",
    ranges=Spans([(0, 100), (200, 300)]),
)


def record_of(*lines: MountLine | OpenLine) -> list[bytes]:
    return [line_of(line.as_json()) for line in lines]


def test_lines_of_one_file_are_one() -> None:
    """Whatever opens and programs they are of: their ranges, programs, times and opens come together."""
    later = replace(
        LINE, open_number=4, program="R", read="2026-11-30T05:00:00Z", ranges=Spans([(90, 200), (999, 1000)])
    )
    more = replace(LINE, opened="2026-11-29T00:00:00Z", read=None, program=None, ranges=Spans())
    [file] = parse_record(record_of(MOUNT, LINE, later, more), "r").files
    assert file.ranges == Spans([(0, 300), (999, 1000)])
    assert (file.programs, len(file.opens), file.path) == ({"python3", "R"}, 2, "sessions/a.nwb")
    assert file.times == {"2026-11-29T00:00:00Z", "2026-11-30T05:00:00Z"}
    assert (file.dataset_version, file.file_hash, file.size_bytes) == ("0.5.0", "0a" * 64, 1000)


def test_the_version_for_which_a_file_counts() -> None:
    """The one at the top of the mount, if that has the file; else the newest that has it."""
    elsewhere = [MOUNT, replace(LINE, dataset_versions=("0.9.0", "0.10.0", "0.2.0"))]
    assert [file.dataset_version for file in parse_record(record_of(*elsewhere), "r").files] == ["0.10.0"]


def test_two_mounts_in_one_file() -> None:
    """Their lines may stand in any order behind the mount's own; each file is of its mount's dataset."""
    other = replace(MOUNT, mount="m2", bucket="other")
    lines = record_of(MOUNT, other, replace(LINE, mount="m2"), LINE)
    record = parse_record(lines, "r")
    assert [file.bucket for file in record.files] == ["other", "bucket"]
    assert [file.bucket for file in record.of("bucket", "project").files] == ["bucket"]


WRONG: list[dict[str, Any]] = [
    {"ranges": [[5, 5]]}, {"ranges": [[0, 1001]]}, {"ranges": [[-1, 5]]}, {"ranges": [[0.5, 1]]}, {"ranges": [[1]]},
    {"ranges": 7}, {"ranges": [[True, 5]]}, {"size": -1}, {"size": "7"}, {"size": 1 << 60}, {"key": "../a/b"},
    {"key": "a"}, {"key": "a//b"}, {"key": "a/\x1b[2J"}, {"key": None}, {"hash": "xyz"}, {"hash": 1},
    {"program": "\x1b[2J"}, {"program": 7}, {"opened": "yesterday"}, {"read": 1}, {"mount": "m9"}, {"open": None},
    {"dataset_versions": "0.5.0"}, {"dataset_versions": [1]}, {"version_id": 1}, {"version_id": "a\nb"},
    {"record": 2}, {"lost": -1},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_value_costs_its_line(wrong: dict[str, Any]) -> None:
    """A line with a value that cannot be is counted as damaged, and the others hold."""
    lines = [*record_of(MOUNT), line_of({**LINE.as_json(), **wrong}), *record_of(LINE)]
    record = parse_record(lines, "r")
    assert (record.damaged, len(record.files)) == (1, 1)
    assert record.files[0].ranges == LINE.ranges


@given(st.lists(st.binary(max_size=60) | st.sampled_from(record_of(MOUNT, LINE)), max_size=8))
def test_any_bytes_are_read_or_refused(lines: list[bytes]) -> None:
    """No bytes make anything else of it than a record with damaged lines, or a refusal."""
    try:
        parse_record(lines, "r")
    except RecordError as error:
        assert "not a record" in str(error)  # noqa: PT017


def test_torn_long_deep_and_empty_lines() -> None:
    """A line that was left unfinished, one without an end, a nested one: damaged. Blank ones count for nothing."""
    [mount, line] = record_of(MOUNT, LINE)
    lines = [
        mount,
        b"\n",
        line[:40] + b"\n",
        b"[" * 100_000,
        b"x" * (MOST_LINE_BYTES + 1),
        line,
        line_of({"lost": 5}),
    ]
    record = parse_record(lines, "r")
    assert (record.damaged, record.lost, len(record.files)) == (3, 5, 1)


def test_a_file_without_an_end() -> None:
    """What has no mount in its first hundred lines is no record, and is not read to its end: /dev/zero has none."""
    with pytest.raises(RecordError, match="zero: not a record"):
        parse_record(itertools.repeat(bytes(100)), "zero")


@pytest.mark.parametrize("lines", [[], [b"\n"], [b"hello\n"], [json.dumps(LINE.as_json()).encode()]])
def test_what_is_no_record(lines: list[bytes]) -> None:
    """A file in which no mount begins is refused by its name."""
    with pytest.raises(RecordError, match=r"notes\.txt: not a record"):
        parse_record(lines, "notes.txt")
