"""Differences of recorded counters: what each step of time had, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ego4dfs.report.records import Record

Key = tuple[str, str]
"""A dataset, and an access pattern."""

_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Step:
    """What happened between two records of a mount; `time_s` is the end of it."""

    time_s: float
    counters: Counter[str]
    cache_bytes: int
    cache_limit_bytes: int

    @property
    def hit_rate(self) -> float | None:
        """The share of reads that the cache served; None if there was no read."""
        reads = self.counters["hits"] + self.counters["misses"]
        return self.counters["hits"] / reads if reads else None


@dataclass(slots=True)
class Summary:
    """All steps, and their sums: counters, results of requests, opens and bytes by pattern."""

    steps: list[Step] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    opens: Counter[Key] = field(default_factory=Counter)
    bytes: Counter[Key] = field(default_factory=Counter)
    mountpoints: list[str] = field(default_factory=list)

    @property
    def amplification(self) -> float | None:
        """Bytes fetched for each byte read, without those of copies; None if none was read."""
        read = self.counters["bytes_served"] - self.counters["bytes_from_copies"]
        return self.counters["bytes_fetched"] / read if read > 0 else None

    @property
    def hit_rate(self) -> float | None:
        """The share of reads that the cache served; None if there was no read."""
        return Step(0.0, self.counters, 0, 0).hit_rate

    @property
    def cache_limit_bytes(self) -> int:
        """The limit of the cache at the end."""
        return self.steps[-1].cache_limit_bytes if self.steps else 0


def summarize(
    records: Iterable[Record], *, mountpoint: str | None = None, since_s: float = 0.0
) -> Summary:
    """Return what happened after `since_s`, a Unix time, at one mountpoint or at all.

    Counters that became smaller are those of a changed file: such a step has nothing of them. An
    open file is counted under the pattern that it had last, so those of a pattern may become
    smaller while others grow: the differences are of the whole time, not of each step.
    """
    before: dict[str, Record] = {}
    first: dict[str, Record | None] = {}
    found = Summary()
    for record in records:
        last = before.get(record.mount)
        before[record.mount] = record
        if record.time_s < since_s or mountpoint not in {None, record.mountpoint}:
            continue
        counters = _more(record.counters, last.counters if last else {})
        found.steps.append(
            Step(record.time_s, counters, record.cache_bytes, record.cache_limit_bytes)
        )
        found.counters += counters
        found.results += _more(record.results, last.results if last else {})
        first.setdefault(record.mount, last)
        if record.mountpoint not in found.mountpoints:
            found.mountpoints.append(record.mountpoint)
    for mount, start in first.items():
        _add_patterns(found, start, before[mount])
    return found


def _add_patterns(found: Summary, start: Record | None, end: Record) -> None:
    for position, sums in enumerate((found.opens, found.bytes)):
        sums.update(_more(_flat(end, position), _flat(start, position) if start else {}))


def merged(steps: Sequence[Step], limit: int) -> list[Step]:
    """Return at most `limit` steps: neighbours in time are added."""
    if not steps:
        return []
    first_s, width_s = steps[0].time_s, (steps[-1].time_s - steps[0].time_s) / limit
    groups: dict[int, list[Step]] = {}
    for step in steps:
        place = int((step.time_s - first_s) / width_s) if width_s else 0
        groups.setdefault(min(place, limit - 1), []).append(step)
    found = []
    for group in groups.values():
        counters: Counter[str] = Counter()
        for step in group:
            counters.update(step.counters)
        last = group[-1]
        found.append(Step(last.time_s, counters, last.cache_bytes, last.cache_limit_bytes))
    return found


def _more(now: Mapping[_K, int], before: Mapping[_K, int]) -> Counter[_K]:
    return Counter({name: max(0, count - before.get(name, 0)) for name, count in now.items()})


def _flat(record: Record, position: int) -> dict[Key, int]:
    return {
        (dataset, name): one[position]
        for dataset, totals in record.patterns.items()
        for name, one in totals.items()
    }
