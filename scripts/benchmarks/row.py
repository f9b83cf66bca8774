"""What a row of the table is: contenders that do the same work, and columns that compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median

from benchmarks.servers import Servers

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
    rounds of one that is unbearably slow.
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
    """What a contender did in all rounds of a row."""

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
        """Return the results of contenders that broke, other than by not being there."""
        return [result for result in self.results if result.trouble.startswith("failed")]
