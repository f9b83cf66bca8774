"""Reports of failing schedules: fewer switches, and the interleaving of source lines."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import ego4dfs
from schedules.scheduler import Task
from schedules.strategies import Deviation

_ATTEMPTS = 300
_LINES_AT_SWITCH = 3


def shortened(
    deviations: Sequence[Deviation],
    fails: Callable[[tuple[Deviation, ...]], BaseException | None],
) -> tuple[Deviation, ...]:
    """Leave out deviations, many and then few at a time, as long as the schedule still fails."""
    left, attempts, size = tuple(deviations), 0, max(1, len(deviations) // 2)
    while attempts < _ATTEMPTS:
        before = len(left)
        for start in range(0, len(left), size):
            attempts += 1
            some = left[:start] + left[start + size :]
            if len(some) < len(left) and fails(some) is not None:
                left = some
                break
        else:
            size //= 2
        if not size or (len(left) == before == 0):
            break
        size = min(size, max(1, len(left)))
    return left


def interleaving(trace: Sequence[tuple[Task, str]]) -> str:
    """Return the lines that each thread ran in turn; of long turns the first and the last ones."""
    turns = [(task, [where for _, where in turn]) for task, turn in groupby(trace, lambda t: t[0])]
    return "\n".join(line for task, places in turns for line in _turn(task, places))


def _turn(task: Task, places: list[str]) -> Iterator[str]:
    lines = [place for place, _ in groupby(places)]
    left_out = len(lines) - 2 * _LINES_AT_SWITCH
    if left_out > 1:
        lines[_LINES_AT_SWITCH:-_LINES_AT_SWITCH] = [f"... {left_out} lines"]
    for place in lines:
        file, _, line = place.rpartition(":")
        text = ""
        if line.isdigit():
            text = linecache.getline(str(Path(ego4dfs.__file__).parent / file), int(line)).strip()
        yield f"  {task!r:<16} {place:<34} {text}"
