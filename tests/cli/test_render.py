"""Tables, sizes and escapes as they are written."""

import io

import pytest

from vbnfs.cli import render


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (10 * 1024 - 60, "9.9K"),
        (10 * 1024 - 1, "10K"),
        (188 << 20, "188M"),
        (3 << 30, "3.0G"),
        (5 << 40, "5.0T"),
    ],
)
def test_short_sizes(size_bytes: int, text: str) -> None:
    """As `ls -h` writes them: never more than five characters."""
    assert render.short_size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (0.9, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (3 * 86400, "3 days ago"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    """In the largest unit of which there is a whole one; a clock that was set back makes nothing of it."""
    assert render.ago(seconds) == text


def test_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A row is one line, however long; numbers stand right; nothing follows the text."""
    long = "x" * 300
    render.print_table(("name", "size ", "file"), [("a", "10", long), ("bb", "5", ":smile: [red]y"), ("c", "", "")])
    assert capsys.readouterr().out.splitlines() == [
        "name  size  file",
        f"a       10  {long}",
        "bb       5  :smile: [red]y",
        "c",
    ]


def test_nothing_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown as escapes in tables and lines."""
    render.print_table(("\x1b[3J",), [("\x1b[2J\n",)])
    render.print_line("\r\u202e")
    assert capsys.readouterr().out == "\\x1b[3J\n\\x1b[2J\\n\n\\r\\u202e\n"


def test_bytes_and_what_is_no_character() -> None:
    """Bytes of UTF-8 that were not decoded are text; others, and halves of a pair from JSON, are escapes."""
    assert render.escape("\udcc3\udca4\udcff \ud800\udc80") == "ä\\udcff \\ud800\\udc80"


class Terminal(io.StringIO):
    """Standard output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "has_colours"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm"}, False),  # of 16 colours some parts of a map would have the same
        ({"TERM": "dumb"}, False),
    ],
)
def test_who_gets_colours(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], has_colours: bool) -> None:
    """Terminals of 256 colours, unless NO_COLOR is set; a pipe gets none."""
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not render.has_colours()
    monkeypatch.setattr("sys.stdout", Terminal())
    assert render.has_colours() == has_colours
