"""Headlines of a run as bars: drawn by the Python of .venv-bench, which has matplotlib."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import BenchError
from benchmarks.peers import PEERS

_TITLE_WIDTH = 70
_OURS, _THEIRS = "#d1495b", "#8d99ae"


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what `report.as_json` returned; raises BenchError when it cannot be drawn."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(found, file)
        file.flush()
        command = [str(PEERS / "bin/python"), "-m", "benchmarks.plot", file.name, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
        except OSError as error:
            raise BenchError(
                f"no plot: {error}; run scripts/bench, which creates .venv-bench"
            ) from error
    if done.returncode:
        words = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise BenchError(f"no plot: {words}")


def main(source: str, target: str) -> None:
    """Draw a JSON file: a panel for each row, a bar for each tool: median and extremes.

    Runs in .venv-bench.
    """
    import matplotlib as mpl  # noqa: PLC0415 - only .venv-bench has it
    from matplotlib import pyplot as plt  # noqa: PLC0415 - likewise

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
        _draw_row(row, panel)
    figure.savefig(target, dpi=100)


def _draw_row(row: dict[str, Any], panel: Any) -> None:
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
    title = f"{row['row']}: {row['title']} ({row['headline']}, {better} is better)"
    panel.set_title(textwrap.fill(title, _TITLE_WIDTH), fontsize=9, loc="left")


if __name__ == "__main__":
    main(*sys.argv[1:])
