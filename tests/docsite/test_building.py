"""The documentation as a site: what it has, and what is found when something is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest

from docsite.building import ROOT, BuildError, build, documents_of
from docsite.checking import problems_of
from docsite.contents import sections
from docsite.pages import target_of
from vbnfs.cli.main import cli


def test_the_site_has_every_document(first_page: Path) -> None:
    """It is built without a warning; each document is a page, and each page stands in the navigation."""
    site = first_page.parent
    documents = documents_of(ROOT)
    pages = {target_of(name).replace(".md", ".html") for name in documents} | {"commands.html"}
    assert {path.name for path in site.glob("*.html")} == pages | {"404.html"}
    assert len(pages) == len(documents) + 1
    text = first_page.read_text(encoding="utf-8")
    assert [page for page in sorted(pages) if f'href="./{page}"' not in text and page != "index.html"] == []


def test_every_command_is_explained(first_page: Path) -> None:
    """The page of commands has the help of each command, and leads to the pages that use it."""
    text = first_page.with_name("commands.html").read_text(encoding="utf-8")
    for name in [name for name, command in cli.commands.items() if not command.hidden]:
        assert f'id="vbnfs-{name}"' in text
    assert "Usage: vbnfs mount [OPTIONS] [MOUNTPOINT]" in text
    assert "Usage: vbnfs index build" in text
    assert 'href="finding.html"' in text.partition('id="vbnfs-sessions"')[2].partition("<h2")[0]


def test_the_dashboard_can_be_taken_from_the_site(first_page: Path) -> None:
    """The page on Prometheus and Grafana links to the dashboard's file, which is in the site as it is in docs/."""
    text = first_page.with_name("watching.html").read_text(encoding="utf-8")
    name = "grafana-dashboard.json"
    assert f'href="{name}"' in text or f'href="./{name}"' in text
    assert first_page.with_name(name).read_bytes() == (ROOT / "docs" / name).read_bytes()


def test_the_search_needs_no_server(first_page: Path) -> None:
    """What is searched is a script, which a page that was opened from a disk may load; it has all pages."""
    index = first_page.with_name("search.js").read_text(encoding="utf-8")
    found = {
        item["location"].partition("#")[0] for item in json.loads(index[index.index("{") :].rstrip(";\n"))["items"]
    }
    assert found == {path.name for path in first_page.parent.glob("*.html")} - {"404.html"}


@pytest.mark.slow
def test_what_is_wrong_is_an_error(tmp_path: Path) -> None:
    """A link that leads nowhere, and a picture from another server, end the build, and are named.

    Of a link to a file that the site lacks the text is left.
    """
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "docs", root / "docs")
    for path in ROOT.glob("*.md"):
        shutil.copy(path, root)
    with (root / "docs" / "glossary.md").open("a") as glossary:
        glossary.write(
            '\n[code](../vbnfs/errors.py), ![x](https://example.org/x.png), <a href="nowhere.html">x</a>\n'
        )
    with pytest.raises(BuildError) as failure:
        build(tmp_path / "site", root=root)
    assert str(failure.value).splitlines() == [
        "glossary.html: loads https://example.org/x.png from another server",
        "glossary.html: nowhere.html leads nowhere",
    ]
    with (root / "docs" / "glossary.md").open("a") as glossary:
        glossary.write("\n[x](cache.md#no-such-heading)\n")
    with pytest.raises(BuildError, match="anchor does not exist"):
        build(tmp_path / "site", root=root)


def test_links_of_a_page(tmp_path: Path) -> None:
    """Links are followed to files and anchors. To other servers a page may link; it may load nothing from there."""
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="b.html#x"></a><a href="https://example.org/"></a>'
        '<a href="#bottom"></a><a href="b.html#y"></a><a href="c.html"></a><script src="//example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="x"></p>')
    assert problems_of(tmp_path) == [
        "a.html: loads //example.org/x.js from another server",
        *(f"a.html: {link} leads nowhere" for link in ("#bottom", "b.html#y", "c.html")),
    ]


def test_a_new_document_has_a_place() -> None:
    """A document that no section names stands in one of its own; one that is named and not there is an error."""
    documents = [*documents_of(ROOT), "docs/brand-new.md"]
    assert [section for section in sections(documents) if "docs/brand-new.md" in section.documents]
    with pytest.raises(ValueError, match=r"no such document: docs/cache\.md"):
        sections([name for name in documents if name != "docs/cache.md"])
