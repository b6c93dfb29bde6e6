"""docs/troubleshooting.md: failures lead to its sections, and what it quotes is what the program says."""

import ast
import errno
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vbnfs
from tests.test_documents import ROOT, anchors_of
from vbnfs import errors
from vbnfs.cli import troubleshooting
from vbnfs.cli.troubleshooting import SECTIONS, section_of

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text(encoding="utf-8")
CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, errors.VbnfsError)
}
UNKNOWN = "none-of-these"
# Of classes that stand for many things; a message without a row of its own has this section, too.
GENERAL = {"VbnfsError", "MountError", "DatasetError"}
LEAST_LETTERS = 12  # a template of holes alone would fit anything


def trees() -> Iterator[ast.Module]:
    for path in sorted(Path(vbnfs.__file__).parent.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


TREES = tuple(trees())


def parts_of(node: ast.AST) -> list[str | None]:
    """The literal parts of a text, and None for each value that is put into it; empty for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [part for value in node.values for part in (parts_of(value) or [None])]
    return []


def texts() -> Iterator[list[str | None]]:
    """Every text of the program, as its parts."""
    for tree in TREES:
        yield from (parts for node in ast.walk(tree) if (parts := parts_of(node)))


LITERALS = {part for parts in texts() for part in parts if part}
PATTERNS = {
    re.compile("".join(".+" if part is None else re.escape(part) for part in parts), re.DOTALL)
    for parts in texts()
    if sum(len(part) for part in parts if part) >= LEAST_LETTERS
}
REMEDIES = {kind.remedy for kind in CLASSES.values() if issubclass(kind, errors.StorageError)}
# What other programs say, as it stands in our messages.
OF_OTHERS = (
    *("umount: ", "user_allow_other", "Operation not permitted", "Permission denied"),
    *("mounting over filesystem type", "too many FUSE filesystems mounted", "HTTP 503", "SlowDown"),
    "end of response",
)


def raised() -> Iterator[tuple[type[errors.VbnfsError], str]]:
    """Every error that the program makes, with its message, in which "..." stands for values."""
    for tree in TREES:
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            if name in CLASSES:
                yield CLASSES[name], "".join(part or "..." for part in parts_of(call.args[0]))


def quoted() -> list[str]:
    """The page's lines that vbnfs prints."""
    blocks = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    begins = re.compile(r"(?:mount\.)?vbnfs: (?!see )|    last error  ")
    return [line[match.end() :] for line in lines if (match := begins.match(line))]


def is_said(text: str) -> bool:
    """Whether the program has a text with which these words can come about, perhaps behind the thing's name."""
    return any(pattern.fullmatch(text) or pattern.fullmatch(text.partition(": ")[2]) for pattern in PATTERNS)


# The way from a failure to its section


def test_each_section_is_there() -> None:
    """Each section that a failure names is a heading of the page."""
    sections = {section for _, _, section in SECTIONS} | {troubleshooting.DEFECT}
    assert sections - anchors_of(PAGE) == set()


def test_words_that_choose_a_section_are_said() -> None:
    """Each row that goes by words of a message fits a message of the program."""
    assert [words for _, words, _ in SECTIONS if words and not any(words in text for text in LITERALS)] == []


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - GENERAL - {"UsageError"}))
def test_each_class_has_a_section(name: str) -> None:
    """An error of each class leads to a section, whatever its message."""
    assert section_of(CLASSES[name]("what happened")) != UNKNOWN


def test_each_message_has_a_section() -> None:
    """Every message of the program that ends a command with status 1 leads to a section."""
    known = [(kind, text) for kind, text in raised() if len(text.replace("...", "")) >= LEAST_LETTERS]
    assert len(known) > 100
    lost = {text for kind, text in known if kind is not errors.UsageError and section_of(kind(text)) == UNKNOWN}
    assert lost == set()


def test_the_address_of_the_installed_page() -> None:
    """Where the package's metadata has no address, the page that is installed is named; it is there."""
    printed = troubleshooting.where_to_read(errors.ObjectGoneError("gone"))
    assert printed == f"see {PAGE}#stale-file-handle"


def test_the_address_that_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package's metadata has a project URL `Troubleshooting`, that is the address."""
    (tmp_path / "vbnfs-1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.4\nName: vbnfs\nVersion: 1\nProject-URL: Home, https://a.test/\n"
    metadata += "Project-URL: Troubleshooting, https://docs.test/troubleshooting.html\n"
    (tmp_path / "vbnfs-1.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    printed = troubleshooting.where_to_read(errors.ObjectGoneError("gone"))
    assert printed == "see https://docs.test/troubleshooting.html#stale-file-handle"


# What the page quotes


def test_messages_are_quoted() -> None:
    """The page quotes the program's messages."""
    assert len(quoted()) > 30


@pytest.mark.parametrize("line", quoted())
def test_a_quoted_message_is_said(line: str) -> None:
    """A line that the page has vbnfs print can come about."""
    text = line.removeprefix("warning: ")
    cuts = [(text[: cut.start()], text[cut.end() :]) for cut in re.finditer("; ", text)]
    is_of_another = any(start.startswith(OF_OTHERS) and is_said(f"; {rest}") for start, rest in cuts)
    has_remedy = any(rest in REMEDIES and is_said(start) for start, rest in cuts)
    assert is_said(text) or is_of_another or has_remedy


def test_tables_of_words_are_true() -> None:
    """The words by which a table tells causes apart are the program's, or those of programs that it runs."""
    tables = re.findall(r"^\| words \|.*\n\|-.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    rows = [row.split("|")[1] for table in tables for row in table.splitlines()]
    words = [word for row in rows for word in re.findall("`(.*?)`", row)]
    assert len(words) > 10
    known = [*LITERALS, *OF_OTHERS]
    lost = [word for word in words if not any(word.split(" ... ")[0] in text for text in known)]
    assert lost == []


# The table of error numbers


def rows_by_errno() -> dict[str, tuple[int, str]]:
    """Number and message by name, of the page's table."""
    found = {}
    for names, numbers, messages in re.findall(r"^\| (E[A-Z, ]+) \| ([\d, ]+) \| (.*?) \|", TEXT, re.MULTILINE):
        rows = zip(names.split(", "), numbers.split(", "), messages.split("; "), strict=True)
        found |= {name: (int(number), message) for name, number, message in rows}
    return found


def test_error_numbers_are_right() -> None:
    """The table has the system's numbers and messages."""
    rows = rows_by_errno()
    assert len(rows) > 10
    assert rows == {name: (getattr(errno, name), os.strerror(getattr(errno, name))) for name in rows}


def test_each_error_number_is_there() -> None:
    """Each number with which a class of errors is answered is in the table."""
    assert {errno.errorcode[kind.errno] for kind in CLASSES.values()} - rows_by_errno().keys() == set()
