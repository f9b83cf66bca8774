"""Markdown of medians with their spread, ratios and goals, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.row import Column, Goal, Outcome, Result

_NOTHING = "–"


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
    """Return a list of all goals with what came of them."""
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
