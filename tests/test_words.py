"""Plain words: code and documents do without the words that stop a reader.

A word counts wherever it stands: in prose, in a message, or as a part of an identifier.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("vbnfs", "tests", "benchmarks", "script", "systemd", "docs", "docsite", "deploy")
NOT_PROSE: Final = {".pyc", ".xz", ".typed", ".png"}

# What is banned, and what to write instead. Words are joined by spaces, underscores, or the end of a line.
BANNED: Final[Mapping[str, str]] = {
    "told": "given, reported, logged; for a text: text, reply, answer",
    "who(?:m|se)?(?:so)?ever": "a process that, the user who, any caller",
    "nobody_?'?s": "of no user, unclaimed",
    "for ever": "without end, permanently",
    "in vain": "without effect, useless",
    "here and there": "at random",
    "some(?:body|one) else'?s": "another user's",
}

_NAME_OF_A_TEST: Final = re.compile(r"`[Tt]est\w+`")
_START_OF_A_COMMENT: Final = re.compile(r"\n[ \t]*(?:#|//|--)? ?")


def pattern(words: str) -> re.Pattern[str]:
    """Finds the words in prose and in identifiers, in `retold` and `toldest` not."""
    return re.compile(rf"(?<![A-Za-z]){words.replace(' ', '[ _]+')}(?![A-Za-z])", re.IGNORECASE)


PATTERNS: Final = {words: pattern(words) for words in BANNED}


def found_in(text: str) -> list[str]:
    """The banned words of a text, in the table's order, each as often as it stands there."""
    flat = _START_OF_A_COMMENT.sub(" ", text)
    return [match.group() for one in PATTERNS.values() for match in one.finditer(flat)]


def files() -> Iterator[Path]:
    """All files that are text, of code and documents, but for this one, which has to name the words.

    Python writes its bytecode under names that come and go, beside tests that import something first.
    """
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            is_prose = path.suffix not in NOT_PROSE and "__pycache__" not in path.parts
            if is_prose and path.is_file() and path != Path(__file__):
                yield path
    yield from sorted(ROOT.glob("*.md"))
    yield ROOT / "pyproject.toml"


def text_of(path: Path) -> str:
    """What a file says, without the names of tests that a document quotes: they count where they are defined."""
    text = path.read_text(encoding="utf-8")
    return _NAME_OF_A_TEST.sub("", text) if path.suffix == ".md" else text


def with_banned_words() -> dict[str, list[str]]:
    """The files that have banned words, by path from the root, and the words."""
    return {str(path.relative_to(ROOT)): words for path in files() if (words := found_in(text_of(path)))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is told so.", ["told"]),
        ("self._told = was_told(toldest, retold)", ["told", "told"]),
        ("def kept_for_ever() -> None:", ["for_ever"]),
        ("    # it hangs for\n    # ever, in  vain", ["for ever", "in  vain"]),
        ("Whoever asks; whomever; somebody_elses", ["Whoever", "whomever", "somebody_elses"]),
        ("nobody's, and nobody", ["nobody's"]),
        ("someone_else, elsewhere, for everything", []),
    ],
)
def test_words_are_found(text: str, words: list[str]) -> None:
    """Banned words are found in prose, across lines of a comment, and in identifiers; parts of words are none."""
    assert found_in(text) == words


def test_everything_is_searched() -> None:
    """All folders are searched, and the documents at the top."""
    names = {str(path.relative_to(ROOT)) for path in files()}
    assert len(names) > 200
    assert {"README.md", "docs/semantics.md", "vbnfs/errors.py", "script/test", "benchmarks/soak.py"} <= names


def test_words_are_plain() -> None:
    """No file of code or documents has a banned word."""
    assert with_banned_words() == {}
