"""Scheduler of simulated threads: greenlets that switch where a strategy decides, virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from greenlet import GreenletExit, greenlet

MAX_STEPS = 200_000
"""A schedule with more switch points does not end."""

_T = TypeVar("_T")


class ScheduleError(Exception):
    """A schedule that ends in a deadlock, does not end, or in which a thread has failed."""


class Task:
    """One simulated thread."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.greenlet: greenlet
        self.waits_for = ""  # what it is blocked on
        self.until_s: float | None = None  # when it stops waiting
        self.is_woken = False
        self.is_done = False
        self.joiners: list[Task] = []

    def __repr__(self) -> str:
        return f"{self.name}-{self.number}"


class Strategy(Protocol):
    """Chooses which of the runnable tasks runs. Calls `scheduler.plan` for its next decision."""

    def created(self, scheduler: Scheduler, task: Task) -> None:
        """Note a new task."""

    def woken(self, scheduler: Scheduler, task: Task) -> None:
        """Note a task that may run again."""

    def at_point(self, scheduler: Scheduler) -> Task:
        """Choose a task at a switch point; the present one may go on."""

    def at_block(self, scheduler: Scheduler) -> Task:
        """Choose a task when the present one cannot go on."""


class Scheduler:
    """Runs one schedule: exactly one task at a time, from switch point to switch point.

    The clock stands still while a task can run. When none can, it moves to the first moment at
    which a task stops waiting; if there is none, the schedule has ended in a deadlock.
    """

    def __init__(self, strategy: Strategy, *, is_traced: bool = False) -> None:
        """Record each switch point in `trace` if the schedule is to be printed."""
        self.now_s = 0.0
        self.steps = 0
        self.next_step = 0
        self.tasks: list[Task] = []
        self.runnable: list[Task] = []
        self.current: Task
        self.failure: BaseException | None = None
        self.trace: list[tuple[Task, str]] | None = [] if is_traced else None
        self._strategy = strategy
        self._hub: greenlet

    def run(self, main: Callable[[], object]) -> None:
        """Run `main` and what it starts until `main` has ended. Raises what any thread raised."""
        global active  # noqa: PLW0603 - switch points must be cheap
        self._hub = greenlet.getcurrent()
        main_task = self.spawn(main, "main")
        active = self
        try:
            while not main_task.is_done and self.failure is None:
                self.steps += 1
                task = self._next()
                if task is not None:
                    self.current = task
                    task.greenlet.switch()
        finally:
            active = None
            self._end_all()
        if self.failure is not None:
            raise self.failure

    def spawn(self, target: Callable[[], object], name: str) -> Task:
        """Start a task."""
        task = Task(len(self.tasks), name)
        task.greenlet = greenlet(lambda: self._run_task(task, target), parent=self._hub)
        self.tasks.append(task)
        self.runnable.append(task)
        self._strategy.created(self, task)
        return task

    def plan(self, step: int) -> None:
        """Ask the strategy again at this step."""
        self.next_step = 0 if self.trace is not None else min(step, MAX_STEPS)

    def reach(self, where: str) -> None:
        """Let the strategy decide at a switch point."""
        if self.trace is not None:
            self.trace.append((self.current, where))
        if self.steps >= MAX_STEPS:
            self._fail(ScheduleError("the schedule does not end"))
        task = self._strategy.at_point(self)
        if task is not self.current:
            self._switch(task)

    def block(self, waits_for: str, timeout_s: float | None = None) -> bool:
        """Let others run until the current task is woken; False if that took `timeout_s`."""
        task = self.current
        task.waits_for, task.is_woken = waits_for, False
        task.until_s = None if timeout_s is None else self.now_s + max(0.0, timeout_s)
        self.runnable.remove(task)
        self.steps += 1
        if self.trace is not None:
            self.trace.append((task, f"waits for {waits_for}"))
        following = self._next()
        if following is None:
            self._hub.switch()
        else:
            self._switch(following)
        if active is None:
            raise GreenletExit
        return task.is_woken

    def wake(self, task: Task) -> None:
        """Let a blocked task run again."""
        if task.is_done or task in self.runnable:
            return
        task.is_woken, task.until_s, task.waits_for = True, None, ""
        self.runnable.append(task)
        self._strategy.woken(self, task)

    def _run_task(self, task: Task, target: Callable[[], object]) -> None:
        try:
            target()
        except GreenletExit:
            return
        except BaseException as error:  # noqa: BLE001 - it fails the schedule
            if self.failure is None:
                error.add_note(f"in {task}") if hasattr(error, "add_note") else None
                self.failure = error
        if active is self:
            task.is_done = True
            self.runnable.remove(task)
            for joiner in task.joiners:
                self.wake(joiner)

    def _next(self) -> Task | None:
        """Choose a task that can run; None after a deadlock, which has been recorded."""
        if not self.runnable:
            waiting = [task for task in self.tasks if task.until_s is not None and not task.is_done]
            if not waiting:
                blocked = [
                    f"{task} for {task.waits_for}" for task in self.tasks if not task.is_done
                ]
                self.failure = ScheduleError(f"deadlock: {', '.join(blocked)}")
                return None
            self.now_s = min(task.until_s for task in waiting if task.until_s is not None)
            for task in waiting:
                if task.until_s is not None and task.until_s <= self.now_s:
                    task.until_s, task.waits_for = None, ""
                    self.runnable.append(task)
                    self._strategy.woken(self, task)
        return self._strategy.at_block(self)

    def _switch(self, task: Task) -> None:
        self.current = task
        task.greenlet.switch()
        if active is None:
            raise GreenletExit

    def _fail(self, error: ScheduleError) -> None:
        self.failure = error
        self._hub.switch()
        raise GreenletExit

    def _end_all(self) -> None:
        for task in self.tasks:
            if task.greenlet:  # started and not ended
                with suppress(Exception):  # the result is known already
                    task.greenlet.throw(GreenletExit)


active: Scheduler | None = None
"""The one that runs now; without one, simulated primitives never wait."""


@contextmanager
def paused() -> Iterator[None]:
    """Run code of the product as one step: without switch points, and without waits."""
    global active  # noqa: PLW0603
    scheduler, active = active, None
    try:
        yield
    finally:
        active = scheduler


def point(where: str) -> None:
    """Be a place where another task may run."""
    scheduler = active
    if scheduler is not None:
        scheduler.steps += 1
        if scheduler.steps >= scheduler.next_step:
            scheduler.reach(where)


def at(value: _T, where: str) -> _T:
    """Return `value`; another task may run between its evaluation and its use."""
    scheduler = active
    if scheduler is not None:
        scheduler.steps += 1
        if scheduler.steps >= scheduler.next_step:
            scheduler.reach(where)
    return value
