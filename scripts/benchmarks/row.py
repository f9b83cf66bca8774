"""Rows of the table: contenders that do the same work, columns that compare them, and rounds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median

from benchmarks import RunError
from benchmarks.servers import Servers
from ego4dfs.errors import Ego4DError

Sample = Mapping[str, float]  # what one run measured, by the key of a Column


@dataclass(frozen=True, slots=True)
class Column:
    """A measured quantity. Ratios compare `ego4dfs` with the others in the headline column."""

    key: str
    title: str
    digits: int = 2
    spread: bool = False  # show min–max beside the median
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Contender:
    """One tool at the work of a row: `run` does it once, checks the bytes, and measures.

    `run` may raise RunError. `missing` says why it cannot be run at all. `most_rounds` bounds the
    rounds of a very slow one.
    """

    name: str
    run: Callable[[], Sample]
    missing: str = ""
    most_rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row should show: `value` of its outcome, None if unknown, within the bounds."""

    text: str
    value: Callable[[Outcome], float | None]
    least: float = 0.0
    most: float = float("inf")

    def verdict(self, outcome: Outcome) -> str:
        """Return "reached", "missed" or "not measured"."""
        value = self.value(outcome)
        if value is None:
            return "not measured"
        return "reached" if self.least <= value <= self.most else "missed"


@dataclass(frozen=True, slots=True)
class Row:
    """A row by name. `prepare` publishes what is needed and yields the contenders.

    The first contender is the one that the others are compared with. The first column is the
    headline. `needs_wan` rows are left out, and named, where there is no proxy.
    """

    name: str
    group: str
    title: str
    columns: Sequence[Column]
    prepare: Callable[[Servers], AbstractContextManager[Sequence[Contender]]]
    needs_wan: bool = False
    goals: Sequence[Goal] = ()


@dataclass(slots=True)
class Result:
    """The measurements of a contender in all rounds of a row."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    trouble: str = ""  # why it was not measured, or not to the end

    def values(self, key: str) -> list[float]:
        """Return what the rounds measured of one quantity; nothing if a round failed."""
        return [sample[key] for sample in self.samples if key in sample and not self.trouble]

    def median(self, key: str) -> float | None:
        """Return the median of the rounds, or None if none measured it."""
        values = self.values(key)
        return median(values) if values else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row with its results."""

    row: Row
    results: Sequence[Result]

    def result(self, name: str) -> Result | None:
        """Return the result of a contender by its name."""
        return next((result for result in self.results if result.name == name), None)

    def ratio(self, result: Result) -> float | None:
        """Return how many times better the first contender is in the headline, None if unknown."""
        column = self.row.columns[0]
        ours, theirs = self.results[0].median(column.key), result.median(column.key)
        if not ours or not theirs:
            return None
        return ours / theirs if column.more_is_better else theirs / ours

    @property
    def failed(self) -> Iterable[Result]:
        """Return the results of contenders that failed; missing tools are not included."""
        return [result for result in self.results if result.trouble.startswith("failed")]


def say(text: str) -> None:
    """Print progress to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run_row(row: Row, servers: Servers, rounds: int) -> Outcome:
    """Run a row; the failure of a contender is in its result, and does not stop the others."""
    if row.needs_wan and servers.wan_missing:
        say(f"{row.name}: left out, {servers.wan_missing}")
        return Outcome(row, [Result("all", trouble=f"missing: {servers.wan_missing}")])
    say(f"{row.name}: preparing ({row.title})")
    try:
        return _run_rounds(row, servers, rounds)
    except (RunError, Ego4DError, OSError) as error:
        say(f"{row.name}: could not be prepared: {error}")
        return Outcome(row, [Result("all", trouble=f"failed: {error}")])


def _run_rounds(row: Row, servers: Servers, rounds: int) -> Outcome:
    with row.prepare(servers) as contenders:
        results = {c.name: Result(c.name, trouble=c.missing) for c in contenders}
        for number in range(rounds):
            turn = number % len(contenders)
            for contender in [*contenders[turn:], *contenders[:turn]]:
                result = results[contender.name]
                if not result.trouble and number < (contender.most_rounds or rounds):
                    _run_once(row, contender, result, f"{number + 1}/{rounds}")
    return Outcome(row, list(results.values()))


def _run_once(row: Row, contender: Contender, result: Result, which: str) -> None:
    begin = time.monotonic()
    try:
        sample = contender.run()
    except Exception as error:  # noqa: BLE001 - a failure of one tool must not end the others' run
        reason = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
        result.trouble = f"failed: {reason}"
        say(f"{row.name} {which} {contender.name}: {result.trouble}")
        return
    result.samples.append(sample)
    headline = row.columns[0]
    value = sample.get(headline.key)
    text = "measured" if value is None else f"{headline.title} {value:.{headline.digits}f}"
    say(f"{row.name} {which} {contender.name}: {text} ({time.monotonic() - begin:.1f} s in all)")
