"""The picture of what courses ask of S3, drawn from a table of docs/scale.md (pure)."""

import math
import re
from dataclasses import dataclass
from typing import Final

from docsite.svg import BLUE, LINE, PALE, QUIET, Drawing

HEADING: Final = "### What S3 is asked"
_ROW: Final = 22
_PIXELS_A_TENFOLD: Final = 82  # the scale is logarithmic
_LEAST: Final = 0.01  # GB, where a bar has no length


@dataclass(frozen=True, slots=True)
class _Bar:
    clients: str
    proxies: str
    gigabytes: float
    requests: str


def scale(document: str) -> Drawing:
    """The picture. Raises a ValueError if the document lacks the table."""
    bars = _bars(document)
    places = list(dict.fromkeys(bar.clients for bar in bars))
    height = 60 + sum(_ROW * (sum(bar.clients == place for bar in bars) + 2) for place in places)
    picture = Drawing(760, height, "What a course asks of S3", _described(bars))
    picture.text(20, 28, "GB that S3 sends, all own caches empty (logarithmic)", bold=True)
    top = 44
    for place in places:
        picture.text(20, top + 18, f"{place} clients")
        top += _ROW + 6
        for bar in (bar for bar in bars if bar.clients == place):
            length = math.log10(max(bar.gigabytes, _LEAST) / _LEAST) * _PIXELS_A_TENFOLD
            is_ours = bar.proxies != "none"
            picture.text(150, top + 14, _words(bar.proxies), anchor="end", size=12, bold=is_ours)
            picture.box(160, top + 1, length, _ROW - 5, BLUE if is_ours else PALE, line=LINE)
            said = f"{bar.gigabytes:g} GB, {bar.requests} requests"
            picture.text(168 + length, top + 14, said, size=12, ink=QUIET)
            top += _ROW
        top += _ROW - 10
    return picture


def _words(proxies: str) -> str:
    return {"none": "no site cache", "1": "one site cache"}.get(proxies, f"{proxies} site caches")


def _bars(document: str) -> list[_Bar]:
    """The rows of courses whose clients have nothing in their own caches."""
    table = document.partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d,]+) \| (none|\d+) \| 0% \| ([\d,]+) \| [\d,]+ \| ([\d.,]+) \|", table, re.MULTILINE)
    if not rows:
        raise ValueError(f"docs/scale.md has no table below {HEADING!r}")
    return [_Bar(clients, proxies, float(size.replace(",", "")), asked) for clients, proxies, asked, size in rows]


def _described(bars: list[_Bar]) -> str:
    return "; ".join(
        f"{bar.clients} clients, {_words(bar.proxies)}: {bar.gigabytes:g} GB, {bar.requests} requests" for bar in bars
    )
