"""Documents that promise something: each promise names a test, and each test that is named is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("docs/semantics.md", "docs/RELIABILITY.md", "SECURITY.md")
NAMED = re.compile(r"`([Tt]est\w+)`")


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
