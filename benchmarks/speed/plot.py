"""Draw the table as a picture: run by .venv-bench's Python.

    python plot.py TABLE.json PICTURE.png

TABLE.json is what `table.pictured` gives, and `source`, which the picture bears as its Description (PNG, tEXt).
A cell is green where its system is ahead of all others, red where it is far behind the best; limits have no color.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

GRAY = "#eeeeee"
FURTHEST = 2.0  # powers of two, behind the best or ahead of it, from where on the color stays


def color_of(score: float | None) -> Any:
    """Of a cell with this score; gray where there is none."""
    if score is None:
        return GRAY
    place = max(-FURTHEST, min(FURTHEST, math.log2(score)))
    return mpl.colormaps["RdYlGn"](0.5 + place / FURTHEST * 0.32)


def draw(table: dict[str, Any], path: Path) -> None:
    """A line for each work and place, a column for each system."""
    systems, lines = table["systems"], table["lines"]
    figure = plt.figure(figsize=(5.5 + 1.15 * len(systems), 0.6 + 0.26 * len(lines)))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    drawn = axis.table(
        cellText=[[line["title"], *(line["cells"].get(name, "") for name in systems)] for line in lines],
        cellColours=[["white", *(color_of(line["scores"].get(name)) for name in systems)] for line in lines],
        colLabels=["", *systems],
        colWidths=[5.5, *([1.15] * len(systems))],
        cellLoc="center",
        bbox=(0.005, 0.005, 0.99, 0.99),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("white")
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.01
        if row == 0 or (column and systems[column - 1].startswith("vbnfs")):
            cell.set_text_props(weight="bold")
    figure.savefig(path, dpi=90, metadata={"Description": table["source"], "Software": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
