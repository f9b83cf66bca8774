"""The report of a run: Markdown tables with goals, JSON, and the parts of a document."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import ego4dfs
from benchmarks import BenchError, peers
from benchmarks.row import Column, Goal, Outcome, Result

_NOTHING = "–"
_ROOT = Path(ego4dfs.__file__).parents[1]  # what is measured; PYTHONPATH may name another checkout


def markdown(outcomes: Iterable[Outcome]) -> str:
    """Return one table for each run of rows with the same columns."""
    tables = []
    for columns, same in groupby(outcomes, key=lambda outcome: tuple(outcome.row.columns)):
        head = ["work", "tool", *(_heading(column) for column in columns)]
        head.insert(3, "ratio")
        lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
        for outcome in same:
            lines += _lines(outcome, columns)
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(tables) + "\n"


def goals(outcomes: Iterable[Outcome]) -> str:
    """Return a list of all goals, each with its verdict and value."""
    return "".join(_verdict(goal, outcome) for outcome in outcomes for goal in outcome.row.goals)


def as_json(outcomes: Iterable[Outcome], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return every sample, with the medians, in plain types."""
    return {
        "about": dict(about),
        "rows": [
            {
                "row": outcome.row.name,
                "group": outcome.row.group,
                "title": outcome.row.title,
                "headline": outcome.row.columns[0].title,
                "headline_key": outcome.row.columns[0].key,
                "more_is_better": outcome.row.columns[0].more_is_better,
                "goals": {goal.text: goal.verdict(outcome) for goal in outcome.row.goals},
                "results": [_result(outcome, result) for result in outcome.results],
            }
            for outcome in outcomes
        ],
    }


def _verdict(goal: Goal, outcome: Outcome) -> str:
    value = goal.value(outcome)
    reading = "" if value is None else f", {value:,.2f}"
    return f"- {outcome.row.title}: {goal.text}: **{goal.verdict(outcome)}**{reading}\n"


def _heading(column: Column) -> str:
    return f"{column.title} (min–max)" if column.spread else column.title


def _lines(outcome: Outcome, columns: Sequence[Column]) -> list[list[str]]:
    lines = []
    rounds = max((len(result.samples) for result in outcome.results), default=0)
    for index, result in enumerate(outcome.results):
        work = outcome.row.title if index == 0 else ""
        cells = [_cell(column, result) for column in columns]
        times = outcome.ratio(result)
        cells.insert(1, _NOTHING if times is None or index == 0 else f"{times:.2f} ×")
        if result.trouble:
            cells[0] = result.trouble.splitlines()[0].replace("|", "/")
        fewer = 0 < len(result.samples) < rounds
        name = f"{result.name} (runs: {len(result.samples)})" if fewer else result.name
        lines.append([work, name, *cells])
    return lines


def _cell(column: Column, result: Result) -> str:
    values, middle = result.values(column.key), result.median(column.key)
    if middle is None:
        return _NOTHING
    text = _number(middle, column)
    if column.spread and len(values) > 1:
        text += f" ({_number(min(values), column)}–{_number(max(values), column)})"
    return text


def _number(value: float, column: Column) -> str:
    return f"{value:,.{column.digits}f}"


def _result(outcome: Outcome, result: Result) -> dict[str, Any]:
    return {
        "tool": result.name,
        "trouble": result.trouble,
        "ratio": outcome.ratio(result),
        "medians": {column.key: result.median(column.key) for column in outcome.row.columns},
        "samples": [dict(sample) for sample in result.samples],
    }


def replace(path: Path, sections: Mapping[str, str], *, dry: bool = False) -> None:
    """Replace the text between the markers of each group.

    Raises BenchError if the file or a marker is missing; with `dry` nothing is written.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from error
    for group, section in sections.items():
        begin, end = f"<!-- bench {group} -->\n", f"<!-- end of bench {group} -->\n"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise BenchError(f"{path} needs two lines, {begin.strip()} and {end.strip()}")
        text = f"{head}{begin}\n{section}\n{end}{tail}"
    if not dry:
        path.write_text(text)


def machine(wan_missing: str, command: str, rounds: int) -> dict[str, str]:
    """Return the facts that a reader needs to compare this run with another one."""
    cpu = _after_colon(Path("/proc/cpuinfo"), "model name") or platform.machine()
    memory = int((_after_colon(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) >> 20
    tools = [
        peers.ego4dfs(),
        peers.official(),
        peers.rclone(),
        peers.aws(),
        peers.s3fs(),
        peers.bindfs(),
    ]
    return {
        "command": f"`{command}`",
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "rounds": str(rounds),
        "machine": f"{os.cpu_count()} × {cpu}, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}",
        "versions": "; ".join(
            f"{tool.name}: {tool.missing or tool.version}".replace("|", "/") for tool in tools
        ),
        "distant server": wan_missing
        or "nginx with TLS, 30 ms to the first byte, 80 MB/s a connection",
    }


def _after_colon(path: Path, name: str) -> str:
    lines = path.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _commit() -> str:
    """Return the commit, with a plus sign when files differ from it."""
    words = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
