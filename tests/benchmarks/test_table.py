"""Rows as JSON and Markdown, and what the picture shows of them."""

import re
import struct
import zlib

import pytest

from benchmarks.speed.report import DOCUMENT, PICTURE, source_of
from benchmarks.speed.results import Row, Sample, Work, rows_of
from benchmarks.speed.table import as_json, cells, markdown, number, pictured, title

SPEED = Work("reading", "MB/s", True, ("curl",))
WAIT = Work("opening", "s", False)


def rows() -> list[Row]:
    values = {"vbnfs": [80, 90], "s3fs": [34, 34], "curl": [100, 100]}
    return rows_of(
        [
            *(
                Sample("near", "https", "reading", system, value, {"requests": 7}, run)
                for system, both in values.items()
                for run, value in enumerate(both)
            ),
            Sample("near", "https", "opening", "vbnfs", 0.5, shape="chunked"),
            Sample("near", "https", "opening", "s3fs", 1234.6, shape="chunked"),
        ],
        [SPEED, WAIT],
    )


@pytest.mark.parametrize(
    ("value", "text"), [(1234.6, "1,235"), (0.4567, "0.457"), (12.34, "12.3"), (3.0, "3"), (0.0, "0")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """No more digits than mean something."""
    assert number(value) == text


def test_markdown_has_a_table_for_each_place() -> None:
    """A heading names profile, transport and an unusual shape; a row shows value, range, ratios and counts."""
    text = markdown(rows(), ["something failed"])
    assert text.startswith("### near, https\n\n| work | system | median |")
    assert "\n### near, https, chunked\n" in text
    assert "| reading | vbnfs | 85 MB/s | 80-90 | 2.50 | 0.85 |  | 7 requests |" in text
    assert "| reading | s3fs | 34 MB/s | 34-34 |  | 0.34 | 2.50 | 7 requests |" in text
    assert text.endswith("|\n\n- something failed\n")


def test_json_has_everything() -> None:
    """A row as JSON names its place, work and unit, and keeps the ratios as numbers."""
    row = as_json(rows())[0]
    assert (row["shape"], row["profile"], row["work"], row["unit"]) == ("session", "near", "reading", "MB/s")
    assert (row["to_limit"], row["to_best_peer"], row["runs"]) == (pytest.approx(0.85), 2.5, 2)


def test_one_run_has_no_range() -> None:
    """The third cell says so."""
    assert cells(rows()[-1])[2] == "one run"


def test_the_picture_shows_what_the_markdown_has() -> None:
    """A line for each work and place, a column for each system; more is better or less, as the works have it."""
    shown = pictured(markdown(rows()), [SPEED, WAIT])
    assert shown["systems"] == ["vbnfs", "s3fs", "curl"]
    first, second = shown["lines"]
    assert first["title"] == "reading (near, https)"
    assert first["cells"] == {"vbnfs": "85 MB/s", "s3fs": "34 MB/s", "curl": "100 MB/s"}
    assert first["scores"] == {"vbnfs": 2.5, "s3fs": 0.4}
    assert second["title"] == "opening (near, https, chunked)"
    assert second["scores"]["vbnfs"] == 1235 / 0.5


def test_tables_of_other_things_are_no_lines() -> None:
    """A document has tables that are no results."""
    other = "### aims\n\n| aim | reached | median |\n|---|---|---|\n| fast | s3fs | 7 s |\n"
    assert pictured(other, [SPEED]) == {"systems": [], "lines": []}


def test_usual_shape_is_not_named() -> None:
    """Headings are short."""
    assert title(("session", "http", "lan")) == "lan, http"


def test_the_picture_in_the_documents_is_of_their_table() -> None:
    """It bears the digest of the tables that it was made from: script/bench --picture makes it anew."""
    assert texts_of(PICTURE.read_bytes())["Description"] == source_of(DOCUMENT.read_text(encoding="utf-8"))


def test_the_document_shows_its_picture() -> None:
    """With the command that makes it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert re.search(rf"!\[[^]]+\]\({PICTURE.name}\)", text)
    assert "script/bench --picture" in text


def texts_of(png: bytes) -> dict[str, str]:
    """The tEXt chunks of a picture (PNG, third edition, 11.3.3.2)."""
    found, place = {}, 8
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        data = png[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack_from(">I", png, place + 8 + length)[0]
        if kind == b"tEXt":
            name, _, value = data.partition(b"\0")
            found[name.decode("latin-1")] = value.decode("latin-1")
        place += length + 12
    return found
