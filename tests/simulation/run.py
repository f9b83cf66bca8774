"""One simulated run: everything in it follows from its seed."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulation.replacement import replaced
from simulation.scenario import Scenario
from simulation.world import World


@dataclass
class Result:
    """What one seed did."""

    seed: int
    trace: str
    failures: list[str]
    simulated_s: float
    switches: int
    calls: int
    errors: int
    faults: dict[str, int]
    longest_s: dict[str, float]
    log: list[str] | None = None


class Summary:
    """What all seeds together did."""

    def __init__(self, first_seed: int) -> None:
        self.failed = 0
        self._first_seed = first_seed
        self._began_s = time.process_time()
        self._simulated_s = 0.0
        self._totals: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._longest_s: dict[str, float] = {}

    def add(self, result: Result) -> None:
        self.failed += bool(result.failures)
        self._simulated_s += result.simulated_s
        counts = {"calls": result.calls, "errors": result.errors, "switches": result.switches}
        self._totals.update(seeds=1, **counts)
        self._faults.update(result.faults)
        for kind, seconds in result.longest_s.items():
            self._longest_s[kind] = max(seconds, self._longest_s.get(kind, 0.0))

    def __str__(self) -> str:
        cpu_s, simulated_s, totals = (
            time.process_time() - self._began_s,
            self._simulated_s,
            self._totals,
        )
        faults = (f"{count} × {kind}" for kind, count in self._faults.most_common())
        longest = (f"{kind} {seconds:.1f} s" for kind, seconds in sorted(self._longest_s.items()))
        return (
            f"{totals['seeds']} seeds from {self._first_seed} on, {self.failed} failed;"
            f" {totals['calls']} calls, {totals['errors']} errors, {totals['switches']} switches\n"
            f"{simulated_s:.0f} simulated s in {cpu_s:.1f} s of CPU:"
            f" {simulated_s / cpu_s:.0f} per s\n"
            f"faults: {', '.join(faults)}\nlongest: {', '.join(longest)}"
        )


@contextmanager
def _quiet(failures: Callable[[str], None]) -> Iterator[None]:
    """Log nothing; a logged exception that nobody expected is a failure."""
    log = logging.getLogger("ego4dfs")
    handler = _Unexpected(failures)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before
        logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]


class _Unexpected(logging.Handler):
    def __init__(self, failures: Callable[[str], None]) -> None:
        super().__init__()
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self._failures(f"logged: {record.getMessage()}: {record.exc_info[1]!r}")


def simulate(seed: int, *, kinds: Sequence[str] | None = None, log: bool = False) -> Result:
    """Run one seed, and return what it did; `kinds` are the only kinds of faults, if given."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - SQLite in memory
    with tempfile.TemporaryDirectory(dir=base) as directory:
        world = World(seed, Path(directory) / "cache", kinds)
        scheduler = world.scheduler
        scheduler.log = [] if log else None
        scenario = Scenario(world)
        with replaced(scheduler, seed, world.replacements()), _quiet(world.oracle.fail):
            scheduler.on_progress = scenario.watch
            main = scheduler.spawn(scenario.run, "scenario")
            try:
                scheduler.run(lambda: world.is_over or main.is_done)
            finally:
                world.disk.close_all()
                scheduler.kill_all()
        return Result(
            seed,
            scheduler.trace,
            [*scheduler.failures, *world.oracle.failures],
            scheduler.now_s,
            scheduler.switches,
            scenario.calls,
            scenario.errors,
            dict(world.faults.counts),
            world.oracle.longest_s,
            scheduler.log,
        )
