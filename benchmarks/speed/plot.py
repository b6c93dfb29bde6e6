"""Draw results.json as bars, one panel for each work, transport and profile: run by .venv-bench's Python.

python plot.py RESULTS.json PLOT.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = 3


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A figure with all panels. The whiskers are the least and the most of the runs."""
    panels = list(dict.fromkeys((row["transport"], row["profile"], row["work"]) for row in rows))
    height = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(height, COLUMNS, figsize=(6 * COLUMNS, 2.6 * height), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        chosen = [row for row in rows if (row["transport"], row["profile"], row["work"]) == panel][::-1]
        values = [row["value"] for row in chosen]
        below = [row["value"] - row["least"] for row in chosen]
        above = [row["most"] - row["value"] for row in chosen]
        colors = ["tab:orange" if row["system"].startswith("vbnfs") else "tab:gray" for row in chosen]
        axis.barh([row["system"] for row in chosen], values, xerr=[below, above], color=colors, capsize=2)
        axis.set_title(f"{panel[2]}\n{panel[1]}, {panel[0]}", fontsize=8)
        axis.set_xlabel(chosen[0]["unit"], fontsize=8)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())["rows"], Path(sys.argv[2]))
