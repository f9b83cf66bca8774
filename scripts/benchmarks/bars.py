"""Draw the JSON of a run: `python bars.py FILE.json FILE.png`. Needs matplotlib only."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt

_TITLE_WIDTH = 70
_OURS, _THEIRS = "#d1495b", "#8d99ae"


def main(source: str, target: str) -> None:
    """One panel a row, one bar a tool: the median of the headline with its extremes."""
    mpl.use("Agg")
    rows = json.loads(Path(source).read_text())["rows"]
    heights = [max(1, len(row["results"])) + 2 for row in rows]
    figure, panels = plt.subplots(
        len(rows),
        squeeze=False,
        figsize=(8, 0.4 * sum(heights)),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for row, panel in zip(rows, panels[:, 0], strict=True):
        for place, result in enumerate(row["results"]):
            samples = [] if result["trouble"] else result["samples"]
            values = [sample[row["headline_key"]] for sample in samples]
            middle = median(values) if values else 0.0
            spread = [[middle - min(values)], [max(values) - middle]] if values else None
            colour = _THEIRS if place else _OURS
            panel.barh(place, middle, xerr=spread, color=colour, ecolor="#333333", capsize=2)
            text = f"  {middle:,.2f}" if values else f"  {result['trouble'].splitlines()[0][:60]}"
            panel.text(max(values, default=0.0), place, text, va="center", fontsize=8)
        panel.set_yticks(range(len(row["results"])), [r["tool"] for r in row["results"]])
        panel.invert_yaxis()
        panel.margins(x=0.15)
        better = "more" if row["more_is_better"] else "less"
        told = f"{row['row']}: {row['title']} ({row['headline']}, {better} is better)"
        panel.set_title(textwrap.fill(told, _TITLE_WIDTH), fontsize=9, loc="left")
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
