"""A document as the site's generator takes it."""

import json

import pytest

from docsite.notebooks import document_of
from docsite.pages import anchor_of, page_of, target_of, title_of

DOCUMENTS = (
    *("README.md", "docs/cache.md", "docs/structure-index.md", "docs/journal/2026-11-24-listing.md"),
    "docs/notebooks/allensdk.ipynb",
)


def page(text: str, document: str = "docs/cache.md") -> str:
    return page_of(document, text, DOCUMENTS, lambda path: path == "docs/performance.png").rstrip("\n")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("see [x](cache.md#a)", "see [x](cache.md#a)"),
        ("[`vbnfs du`](cache.md) and `[x](cache.md)`", "[`vbnfs du`](cache.md) and `[x](cache.md)`"),
        (
            "[a](../README.md), [b](journal/2026-11-24-listing.md)",
            "[a](index.md), [b](journal-2026-11-24-listing.md)",
        ),
        ("[the code](../vbnfs/errors.py) [here](#x)", "the code [here](#x)"),
        ("a [link of two\nlines](../README.md#x) ends", "a [link of two\nlines](index.md#x) ends"),
        ("![a picture](performance.png)", "![a picture](performance.png)"),
        ("[S3](https://example.org/a.md)", "[S3](https://example.org/a.md)"),
    ],
)
def test_links(written: str, shown: str) -> None:
    """Links lead to pages and pictures of the site; of others the text is left, and code is left alone."""
    assert page(written) == shown


def test_links_of_other_folders() -> None:
    """A link is understood from the folder in which its document is."""
    assert page("[c](docs/cache.md)", "README.md") == "[c](cache.md)"
    assert page("[c](../cache.md#x)", "docs/journal/2026-11-24-listing.md") == "[c](cache.md#x)"


def test_headings_have_the_anchors_of_the_repository() -> None:
    """Headings get GitHub's anchors, numbered from the second of a name on; comments in code are no headings."""
    text = "# A `b`, c!\n\n```\n# no heading\n```\n\n## df says 100 %\n## Same\n## Same"
    assert page(text).splitlines() == [
        *("# A `b`, c! { #a-b-c }", "", "```", "# no heading", "```", ""),
        *("## df says 100 % { #df-says-100- }", "## Same { #same }", "## Same { #same-1 }"),
    ]
    assert title_of(text) == "A b, c!"
    assert anchor_of("What is in a file, without the file") == "what-is-in-a-file-without-the-file"
    with pytest.raises(ValueError, match="without a heading"):
        title_of("text")


def test_pages_have_names_of_their_own() -> None:
    """The README is the first page; the others keep their names, all in one folder."""
    assert [target_of(name) for name in DOCUMENTS] == [
        *("index.md", "cache.md", "structure-index.md", "journal-2026-11-24-listing.md", "notebooks-allensdk.md"),
    ]


def test_a_notebook_is_a_page() -> None:
    """Its text and its code stand below each other, as links of a document do; the notebook itself is linked."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "[c](../cache.md)"]},
        {"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": []},
    ]
    text = document_of(json.dumps({"cells": cells}), "notebooks/allensdk.ipynb")
    assert title_of(text) == "Title"
    assert page(text, "docs/notebooks/allensdk.ipynb").splitlines() == [
        *("# Title { #title }", "[c](cache.md)", "", "```python", "x = 1", "x", "```", ""),
        '<a href="notebooks/allensdk.ipynb" download>This page as a notebook</a>',
    ]
