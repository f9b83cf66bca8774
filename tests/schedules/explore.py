"""Exploration of one scenario: thousands of schedules, and a report of the first that fails."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schedules.instrument import Product
from schedules.report import interleaving, shortened
from schedules.scheduler import Scheduler, Strategy
from schedules.strategies import Deviation, Deviations, Priorities, Random, Recorded

_MOST_DEVIATIONS = 2

Body = Callable[[Product, random.Random], object]
"""What the main thread of each schedule does; inputs may be drawn from the dice."""


@dataclass
class Outcome:
    """What the exploration of one scenario has found."""

    name: str
    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    exhausted: int = -1
    """All schedules with so many deviations were run; -1 if not even the expected one was."""
    failure: BaseException | None = None
    report: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name:<40} {self.schedules:>7} schedules of {self.steps // self.schedules:>5}"
            f" steps in {self.seconds:>6.1f} s, all with <= {self.exhausted} deviations: "
            + ("FAILED" if self.failure else "passed")
        )


def explore(name: str, body: Body, product: Product, *, schedules: int, seed: int = 0) -> Outcome:
    """Run `schedules` schedules of a scenario, fewer if one fails or there are no more.

    A third of them are enumerated: the expected one, then those that deviate from it once, then
    twice. The others are random: a quarter uniformly, three quarters by random priorities.
    """
    outcome = Outcome(name)
    began_s = time.perf_counter()
    logging.disable(logging.CRITICAL)
    try:
        for number, make in _strategies(outcome, schedules, seed):
            error = _run(body, product, make(), seed + number, outcome)
            if error is not None:
                outcome.failure = error
                outcome.report = _report(body, product, make, seed + number, error)
                break
    finally:
        logging.disable(logging.NOTSET)
        outcome.seconds = time.perf_counter() - began_s
    return outcome


def _strategies(
    outcome: Outcome, schedules: int, seed: int
) -> Iterator[tuple[int, Callable[[], Strategy]]]:
    yield from _enumerated(outcome, max(1, schedules // 3), seed)
    length = max(20, outcome.steps // outcome.schedules)
    for number in range(outcome.schedules, schedules):
        yield number, lambda number=number: _random(seed + number, length)


def _random(seed: int, length: int) -> Strategy:
    depth = seed % 4 + 1
    return Random(seed) if depth == 1 else Priorities(seed, depth, length)


def _enumerated(
    outcome: Outcome, limit: int, seed: int
) -> Iterator[tuple[int, Callable[[], Strategy]]]:
    """Yield schedules in the order of their number of deviations, at most `limit`."""
    dice = random.Random(seed)
    level: list[tuple[Deviation, ...]] = [()]
    for count in range(_MOST_DEVIATIONS + 1):
        dice.shuffle(level)
        following: list[tuple[Deviation, ...]] = []
        for deviations in level:
            if outcome.schedules >= limit:
                return
            records = count < _MOST_DEVIATIONS and len(following) < limit
            strategy = Deviations(deviations, records=records)
            yield 0, _once(strategy, deviations)
            last = deviations[-1][0] if deviations else 0
            following += [(*deviations, o) for o in strategy.options if o[0] > last]
        outcome.exhausted = count
        level = following


def _once(first: Deviations, deviations: tuple[Deviation, ...]) -> Callable[[], Strategy]:
    """Return `first` at the first call, and equal strategies later."""
    made = [first]
    return lambda: made.pop() if made else Deviations(deviations)


def _run(
    body: Body, product: Product, strategy: Strategy, seed: int, outcome: Outcome
) -> BaseException | None:
    scheduler = Scheduler(strategy)
    try:
        scheduler.run(lambda: body(product, random.Random(seed)))
    except Exception as error:  # noqa: BLE001 - the outcome
        return error
    finally:
        outcome.schedules += 1
        outcome.steps += scheduler.steps
    return None


def _report(
    body: Body,
    product: Product,
    make: Callable[[], Strategy],
    seed: int,
    error: BaseException,
) -> str:
    """Describe a failure by the shortest schedule that is found to cause one, too."""

    def run(strategy: Strategy) -> tuple[BaseException | None, Scheduler]:
        scheduler = Scheduler(strategy, is_traced=True)
        try:
            scheduler.run(lambda: body(product, random.Random(seed)))
        except Exception as failure:  # noqa: BLE001 - the outcome
            return failure, scheduler
        return None, scheduler

    recorded = Recorded(make())
    run(recorded)
    deviations = shortened(recorded.deviations, lambda some: run(Deviations(some))[0])
    failure, scheduler = run(Deviations(deviations))
    return (
        f"{type(error).__name__}: {error}\n"
        f"with seed {seed}; shortest: {type(failure).__name__}: {failure}\n"
        f"deviations (step, other thread): {list(deviations)}\n"
        + interleaving(scheduler.trace or [])
    )
