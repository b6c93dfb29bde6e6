"""The picture of how long the first result takes, drawn from the tables of docs/PERFORMANCE.md (pure)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from docsite.svg import BLUE, LINE, PALE, QUIET, Drawing

# The words of a work in the table, those in the picture, and the heading of the table.
_WORKS: Final = (
    ("one unit's spike times (h5py)", "one unit's spikes (h5py)", "Readers, `home`"),
    ("10 s of one LFP channel (h5py)", "10 s of one LFP channel (h5py)", "Readers, `home`"),
    ("pynwb opens the session", "pynwb opens the session", "Opening, `home`"),
)
_SYSTEMS: Final = {
    "vbnfs": "vbnfs",
    "rclone-tuned": "rclone (tuned)",
    "rclone": "rclone",
    "s3fs": "s3fs",
    "remfile": "remfile",
}
_ROW: Final = 22
_PIXELS_PER_SECOND: Final = 100


@dataclass(frozen=True, slots=True)
class _Bar:
    system: str
    seconds: float
    fetched: str


def benchmark(document: str) -> Drawing:
    """The picture. Raises a ValueError if the document lacks one of the tables."""
    groups = {words: _bars(document, work, heading) for work, words, heading in _WORKS}
    rows = sum(len(bars) + 2 for bars in groups.values())
    picture = Drawing(760, 50 + rows * _ROW, "Seconds until the first result, nothing cached", _described(groups))
    picture.text(20, 28, "Seconds until the first result, nothing cached, server 60 ms away", bold=True)
    top = 44
    for words, bars in groups.items():
        picture.text(20, top + 18, words)
        top += _ROW + 6
        for bar in bars:
            is_ours = bar.system == "vbnfs"
            length = bar.seconds * _PIXELS_PER_SECOND
            picture.text(150, top + 14, bar.system, anchor="end", size=12, bold=is_ours)
            picture.box(160, top + 1, length, _ROW - 5, BLUE if is_ours else PALE, line=LINE)
            picture.text(168 + length, top + 14, f"{bar.seconds:g} s, {bar.fetched} fetched", size=12, ink=QUIET)
            top += _ROW
        top += _ROW - 10
    return picture


def _bars(document: str, work: str, heading: str) -> list[_Bar]:
    """The bars of a work, by the first table below a heading: others there measure again, beside other systems."""
    _, found, after = document.partition(f"#### {heading}\n")
    table = after.partition("\n| ")[2].partition("\n\n")[0]
    row = rf"^\| {re.escape(work)} \| ([\w-]+) \| ([\d.]+) s \|.*?\| ([\d.,]+ [MG]B) fetched"
    rows = re.findall(row, table, re.MULTILINE)
    bars = [_Bar(_SYSTEMS[name], float(seconds), size) for name, seconds, size in rows if name in _SYSTEMS]
    if not found or not bars:
        raise ValueError(f"docs/PERFORMANCE.md has no table {heading} with {work}")
    return bars


def _described(groups: Mapping[str, list[_Bar]]) -> str:
    return " ".join(
        f"{words}: {', '.join(f'{bar.system} {bar.seconds:g} s' for bar in bars)}." for words, bars in groups.items()
    )
