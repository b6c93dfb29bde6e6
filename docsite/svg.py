"""Drawings of boxes, lines and words, as SVG (W3C, "Scalable Vector Graphics (SVG) 1.1") (pure).

Lengths are in CSS pixels, from the top left corner. A drawing has a white ground, for a page may be dark, and says in
words what it shows.
"""

from dataclasses import dataclass, field
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

INK: Final = "#202020"
QUIET: Final = "#6b6b6b"
LINE: Final = "#9a9a9a"
# They differ for any colour vision: after Okabe and Ito, "Color Universal Design" (2008).
BLUE: Final = "#0072b2"
ORANGE: Final = "#e69f00"
GREEN: Final = "#009e73"
PALE_BLUE: Final = "#d6eaf5"
PALE_ORANGE: Final = "#fbecc9"
PALE_GREEN: Final = "#d2ede4"
PALE: Final = "#f0f0f0"

_TEXT: Final = 14

Anchor = Literal["start", "middle", "end"]


@dataclass
class Drawing:
    """A drawing; what is added later lies above. `description` says what it shows to people who cannot see it."""

    width: int
    height: int
    title: str
    description: str
    _elements: list[str] = field(default_factory=list)

    def add(self, element: str) -> None:
        """Any element of SVG, as text."""
        self._elements.append(element)

    def box(self, x: float, y: float, width: float, height: float, fill: str, *, line: str = "none") -> None:
        """A rectangle."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.add(f'<rect {place} rx="3" fill="{fill}" stroke="{line}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: Anchor = "start",
        size: int = _TEXT,
        ink: str = INK,
        bold: bool = False,
    ) -> None:
        """A line of words; its baseline is at `y`."""
        weight = ' font-weight="bold"' if bold else ""
        place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{ink}"{weight}'
        self.add(f"<text {place}>{escape(text)}</text>")

    def labelled(self, x: float, y: float, width: float, height: float, fill: str, *lines: str) -> None:
        """A rectangle with lines of words in its middle, the first of them bold."""
        self.box(x, y, width, height, fill, line=LINE)
        top = y + height / 2 - (len(lines) - 1) * 9 + 5
        for number, line in enumerate(lines):
            size, ink = (_TEXT, INK) if number == 0 else (12, QUIET)
            self.text(x + width / 2, top + number * 18, line, anchor="middle", size=size, ink=ink, bold=number == 0)

    def arrow(self, x: float, y: float, to_x: float, to_y: float, *, ink: str = INK) -> None:
        """An arrow from one place to another."""
        ends = f'x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"'
        self.add(f'<line {ends} stroke="{ink}" stroke-width="1.5" marker-end="url(#head)"/>')

    def svg(self) -> str:
        """The drawing as a file's text."""
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(self.title)}'
                ' font-family="sans-serif">',
                f"<title>{escape(self.title)}</title>",
                f"<desc>{escape(self.description)}</desc>",
                '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
                f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
                '<rect width="100%" height="100%" fill="#ffffff"/>',
                *self._elements,
                "</svg>\n",
            )
        )
