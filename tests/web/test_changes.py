"""What changed between two versions, as a page."""

import re

import pytest

from tests.web.conftest import Visit
from vbnfs.access.differences import FileRow, Report, Side, Total
from vbnfs.web.changes_page import changed_files

SIDE = Side("0.5.0", "manifest_v0.5.0.json", 0, 0)


def report(created: int, deleted: int) -> Report:
    """A comparison with so many files that came, and that went."""
    names = [f"sessions/{number:04}.nwb" for number in range(created + deleted)]
    rows = [FileRow("created", None, name, None, 1, 1) for name in names[:created]]
    rows += [FileRow("deleted", name, None, 1, None, None) for name in names[created:]]
    totals = [Total(change, 0, 0, 0, 0) for change in ("created", "deleted", "same")]
    return Report(SIDE, SIDE, 0, tuple(totals), (), tuple(rows))


def test_all_files_that_changed_are_on_some_page() -> None:
    """A page has 200; one that there is not is the nearest; each file is on one of them."""
    found = report(450, 60)
    pages = [changed_files(found, page=number) for number in (1, 2, 3)]
    assert tuple(row for page in pages for row in page.rows) == found.files
    assert [(page.count, page.pages) for page in pages] == [(510, 3)] * 3
    assert (changed_files(found, page=99).page, changed_files(found, page=-1).page) == (3, 1)


@pytest.mark.parametrize(
    ("change", "words", "count"),
    [("deleted", "", 60), ("same", "", 0), ("moved", "", 510), ("", "SESSIONS 000", 10), ("deleted", "044", 0)],
)
def test_changes_are_chosen_by_kind_and_by_words(change: str, words: str, count: int) -> None:
    """A kind that there is not is passed over; words stand anywhere in a path, with capitals or without."""
    found = changed_files(report(450, 60), change=change, words=words)
    assert found.count == count
    assert found.change == ("" if change == "moved" else change)


def test_what_is_chosen_stands_in_the_address(visit: Visit) -> None:
    """The table of sums leads to the files of a kind; what was asked for stays, as that tables are compared."""
    asked = {"old": "0.4.0", "new": "0.5.0", "tables": "yes"}
    text = visit.browser.get("/changes", params=asked).text
    assert 'href="changes?old=0.4.0&amp;new=0.5.0&amp;tables=yes&amp;change=changed"' in text
    few = visit.browser.get("/changes", params={**asked, "change": "changed", "words": "units"}).text
    assert '<p aria-live="polite">1 file.</p>' in few
    assert re.findall(r'<th scope="row"><a href="\./(file/[^"]+)', few) == ["file/v0.5.0/project_metadata/units.csv"]
    none = visit.browser.get("/changes", params={**asked, "words": "nothing has this"}).text
    assert '<p aria-live="polite">0 files.</p>' in none
