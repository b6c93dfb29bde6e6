"""Documents say what is so: promises name tests that exist, links lead somewhere, and named modules are there."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from vbnfs.metrics import Metrics

ROOT = Path(__file__).parents[1]
TOPS = (ROOT / "vbnfs", ROOT)  # where the path of a module may begin
DOCUMENTS = ("docs/semantics.md", "docs/RELIABILITY.md", "docs/s3-replies.md", "SECURITY.md")
NAMED = re.compile(r"`([Tt]est\w+)`")
ALL = tuple(sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))))
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
MODULE = re.compile(r"`((?:\w+/)*\w+\.py)`")  # below the package, or from the root
ABOUT_MODULES = (
    *("ARCHITECTURE.md", "CONTRIBUTING.md"),
    *(f"docs/{name}.md" for name in ("decisions", "dependencies", "glossary")),
)


@cache
def names_of_tests() -> set[str]:
    """The names of all tests, and of the state machines that run as one."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.add(node.targets[0].id)
    return found


def promises_of(text: str) -> list[str]:
    """The items of a document's lists, and the rows of its tables but for their heads."""
    items = re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)
    rows = re.findall(r"^\|(?!-).*$", text, re.MULTILINE)
    heads = re.findall(r"^(\|.*)\n\|-", text, re.MULTILINE)
    return [*items, *(row for row in rows if row not in heads)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_tests_exist(document: str) -> None:
    """Every test that a document names is a test."""
    named = set(NAMED.findall((ROOT / document).read_text(encoding="utf-8")))
    assert named
    assert named - names_of_tests() == set()


@pytest.mark.parametrize("document", ["docs/semantics.md", "SECURITY.md"])
def test_every_promise_has_a_test(document: str) -> None:
    """Each item and each row of a table names the test that keeps it; what is not defended needs none."""
    text = (ROOT / document).read_text(encoding="utf-8").partition("## What is not")[0]
    promises = promises_of(text)
    assert len(promises) > 10
    assert [promise for promise in promises if not NAMED.search(promise)] == []


def anchors_of(document: Path) -> set[str]:
    """What can stand behind `#` in a link to a document: its headings, in GitHub's spelling."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ALL)
def test_links_lead_somewhere(document: str) -> None:
    """Each link to a file of the repository, or to a heading of a document, leads there."""
    path = ROOT / document
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("document", ABOUT_MODULES)
def test_named_modules_exist(document: str) -> None:
    """Each module that a document names by its path is there."""
    named = set(MODULE.findall((ROOT / document).read_text(encoding="utf-8")))
    assert named
    gone = {name for name in named if "/" in name and not any((top / name).is_file() for top in TOPS)}
    assert gone == set()


def test_figures_are_explained() -> None:
    """The administrator's page has every figure of `vbnfs status --json`, with its unit and its meaning."""
    text = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(one.name, one.metadata["unit"], one.metadata["meaning"]) for one in fields(Metrics)]


def test_the_glossary_is_linked() -> None:
    """A reader of README and ARCHITECTURE finds the glossary."""
    for document in ("README.md", "ARCHITECTURE.md"):
        assert "docs/glossary.md" in (ROOT / document).read_text(encoding="utf-8")
