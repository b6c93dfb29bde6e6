"""What a program writes on a terminal, as a picture (pure)."""

from typing import Final
from xml.sax.saxutils import escape

from docsite.svg import Drawing

_GROUND: Final = "#1d1f21"
_INK: Final = "#e0e0e0"
_COLUMN: Final = 7.9  # a character's width; lines are stretched to it, whatever fonts there are
_LINE: Final = 19
_MARGIN: Final = 16


def terminal(title: str, command: str, output: str) -> Drawing:
    """A terminal with a command and what that writes. What it shows is described by these lines themselves."""
    lines = [f"$ {command}", *output.rstrip("\n").splitlines()]
    width = round(2 * _MARGIN + _COLUMN * max(map(len, lines)))
    picture = Drawing(width, 2 * _MARGIN + _LINE * len(lines), title, "\n".join(lines))
    picture.box(0, 0, picture.width, picture.height, _GROUND)
    for number, line in enumerate(lines):
        if line.strip():
            picture.add(
                f'<text x="{_MARGIN}" y="{_MARGIN + 13 + number * _LINE}" font-family="monospace" font-size="13"'
                f' fill="{_INK}" xml:space="preserve" textLength="{len(line) * _COLUMN:g}">{escape(line)}</text>'
            )
    return picture
