"""Reads docs/other-hosts.md, whose recipes tests run as they stand."""

from pathlib import Path
from typing import Final

from tests.scenarios.readers.recipes import Section, sections

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "other-hosts.md"


def section(title: str) -> Section:
    """A section of the document."""
    return {one.title: one for one in sections(DOCUMENT)}[title]


def block(title: str, language: str, number: int = 0) -> str:
    """The code of a section's block, counted among those of its language."""
    return [code for one, code in section(title).blocks if one == language][number]
