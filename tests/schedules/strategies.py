"""Strategies that choose schedules: at random, by random priorities (PCT), by enumeration."""

from __future__ import annotations

import random

from schedules.scheduler import Scheduler, Strategy, Task

NEVER = 1 << 60
_GAPS = (2, 8, 30, 120)  # mean numbers of steps between two switches

Deviation = tuple[int, int]
"""A step, and which of the other runnable tasks runs there instead of the expected one."""


class Random:
    """Switches to a random task at random steps."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._gap = self._dice.choice(_GAPS)

    def created(self, scheduler: Scheduler, task: Task) -> None:
        if task.number == 0:
            self._plan(scheduler)

    def woken(self, scheduler: Scheduler, task: Task) -> None:
        pass

    def at_point(self, scheduler: Scheduler) -> Task:
        if scheduler.steps < self._step:
            return scheduler.current  # only traced
        self._plan(scheduler)
        return self._dice.choice(scheduler.runnable)

    def at_block(self, scheduler: Scheduler) -> Task:
        return self._dice.choice(scheduler.runnable)

    def _plan(self, scheduler: Scheduler) -> None:
        self._step = scheduler.steps + 1 + int(self._dice.expovariate(1 / self._gap))
        scheduler.plan(self._step)


class Priorities:
    """Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010).

    The runnable task of the highest random priority runs; at `depth` - 1 random steps the priority
    of the running one becomes the lowest. An error that needs `depth` orders between steps is
    found with a probability of at least 1 / (tasks × length ^ (depth - 1)).
    """

    def __init__(self, seed: int, depth: int, length: int) -> None:
        self._dice = random.Random(seed)
        self._priorities: dict[Task, float] = {}
        self._changes = sorted(self._dice.randrange(1, length) for _ in range(depth - 1))
        self._lowest = 0.0

    def created(self, scheduler: Scheduler, task: Task) -> None:
        self._priorities[task] = self._dice.random()
        self.woken(scheduler, task)

    def woken(self, scheduler: Scheduler, task: Task) -> None:
        scheduler.plan(scheduler.steps + 1)

    def at_point(self, scheduler: Scheduler) -> Task:
        while self._changes and self._changes[0] <= scheduler.steps:
            del self._changes[0]
            self._lowest -= 1.0
            self._priorities[scheduler.current] = self._lowest
        scheduler.plan(self._changes[0] if self._changes else NEVER)
        return self.at_block(scheduler)

    def at_block(self, scheduler: Scheduler) -> Task:
        return max(scheduler.runnable, key=self._priorities.__getitem__)


class Deviations:
    """Runs each task until it waits, then the one that could run for longest, with exceptions."""

    def __init__(self, deviations: tuple[Deviation, ...] = (), *, records: bool = False) -> None:
        """Deviate at these steps; record in `options` where else a schedule could."""
        self._left = list(deviations)
        self._records = records
        self.options: list[Deviation] = []

    def created(self, scheduler: Scheduler, task: Task) -> None:
        if task.number == 0:
            self._plan(scheduler)

    def woken(self, scheduler: Scheduler, task: Task) -> None:
        pass

    def at_point(self, scheduler: Scheduler) -> Task:
        return self._choose(scheduler, scheduler.current)

    def at_block(self, scheduler: Scheduler) -> Task:
        return self._choose(scheduler, scheduler.runnable[0])

    def _choose(self, scheduler: Scheduler, expected: Task) -> Task:
        others = [task for task in scheduler.runnable if task is not expected]
        if self._records:
            self.options += [(scheduler.steps, option) for option in range(len(others))]
        while self._left and self._left[0][0] < scheduler.steps:
            del self._left[0]
        chosen = expected
        if self._left and self._left[0][0] == scheduler.steps:
            _, option = self._left.pop(0)
            chosen = others[option % len(others)] if others else expected
        self._plan(scheduler)
        return chosen

    def _plan(self, scheduler: Scheduler) -> None:
        scheduler.plan(0 if self._records else self._left[0][0] if self._left else NEVER)


class Recorded:
    """Chooses as another strategy does, and notes its choices as deviations."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.deviations: list[Deviation] = []
        self.created, self.woken = strategy.created, strategy.woken

    def at_point(self, scheduler: Scheduler) -> Task:
        return self._note(scheduler, scheduler.current, self._strategy.at_point(scheduler))

    def at_block(self, scheduler: Scheduler) -> Task:
        return self._note(scheduler, scheduler.runnable[0], self._strategy.at_block(scheduler))

    def _note(self, scheduler: Scheduler, expected: Task, chosen: Task) -> Task:
        if chosen is not expected:
            others = [task for task in scheduler.runnable if task is not expected]
            self.deviations.append((scheduler.steps, others.index(chosen)))
        return chosen
