"""PartReport: what a task says of its part, and the sum of what all attempts have said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ego4dfs.prefetch import Problem, Report, Status


@dataclass(frozen=True, slots=True)
class PartReport:
    """What one attempt of a task has done: values of its Report, which the client sums up."""

    attempt: str
    done: int = 0
    skipped: int = 0
    fetched_bytes: int = 0
    cached_bytes: int = 0
    resumed_bytes: int = 0
    active: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    stopped_by: BaseException | None = None

    @classmethod
    def of(cls, report: Report, attempt: str, *, is_final: bool = False) -> PartReport:
        """Return the state of a run; its problems and its error only if it has ended.

        Without these it has plain values only, as the events of Dask must.
        """
        return cls(
            attempt,
            report.counts[Status.DONE],
            report.counts[Status.SKIPPED],
            report.fetched_bytes,
            report.cached_bytes,
            report.resumed_bytes,
            report.under_way(),
            problems=tuple(report.problems) if is_final else (),
            stopped_by=report.stopped_by if is_final else None,
        )


@dataclass(slots=True)
class PartState:
    """The latest report of each attempt of one part; whenever its worker is lost, one is added."""

    attempts: dict[str, PartReport] = field(default_factory=dict)
    has_ended: bool = False

    def note(self, latest: PartReport, *, is_final: bool = False) -> None:
        """Record a report; one that comes after the final one is older."""
        if self.has_ended:
            return
        if is_final:  # it counts, even if a later attempt was begun meanwhile
            self.attempts.pop(latest.attempt, None)
        self.attempts[latest.attempt] = latest
        self.has_ended = is_final

    def add_to(self, report: Report) -> None:
        """Add what was done. What an earlier attempt has fetched, the latest one has found."""
        if not self.attempts:
            return
        *earlier, latest = self.attempts.values()
        fetched_before = sum(one.fetched_bytes for one in earlier)
        done = min(latest.skipped, sum(one.done for one in earlier))
        report.counts[Status.DONE] += latest.done + done
        report.counts[Status.SKIPPED] += latest.skipped - done
        report.fetched_bytes += latest.fetched_bytes + fetched_before
        report.cached_bytes += latest.cached_bytes
        report.resumed_bytes += max(0, latest.resumed_bytes - fetched_before)
        report.active.update((path, list(counts)) for path, counts in latest.active.items())
        report.counts.update(problem.status for problem in latest.problems)
        report.problems += latest.problems

    @property
    def totals(self) -> Mapping[str, int]:
        """What the latest attempt has counted beside."""
        return list(self.attempts.values())[-1].totals if self.attempts else {}
