"""Cooperative scheduler of greenlets on a virtual clock: one seed is one order of execution.

One task runs at a time, until it waits or reaches a preemption point. Which task runs next is
drawn from the seed. When no task can run, the clock jumps to the next deadline.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

ORDERS = ("random", "first", "priority")
"""How the next of several runnable tasks is chosen: at random, the one that has waited longest, or
the one with the highest priority, which is drawn for each task."""

EPOCH_S = 1_700_000_000.0
"""The wall clock at the begin of a run."""


class Killed(GreenletExit):
    """Raised in the tasks of a process that was killed."""


class Process:
    """A simulated process: a group of tasks that are killed together."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_killed = False
        self.thread_limit_reached = False


class Task:
    """One simulated thread."""

    def __init__(self, number: int, name: str, process: Process | None, priority: float) -> None:
        self.number = number
        self.name = name
        self.process = process
        self.priority = priority
        self.greenlet: greenlet
        self.is_done = False
        self.was_killed = False
        self.is_waiting = False
        self.was_woken = False
        self.waits = 0  # counts the waits, so that a deadline of an earlier one has no effect
        self.locals: dict[Any, dict[str, Any]] = {}
        self.joining: list[Task] = []

    @property
    def is_killed(self) -> bool:
        return self.was_killed or (self.process is not None and self.process.is_killed)


class Scheduler:
    """Runs tasks in an order that follows from a seed. `now_s` is the virtual time since the begin.

    `trace` is a hash of every switch and of every `note`: two runs with the same hash did the same.
    """

    def __init__(self, seed: int) -> None:
        dice = random.Random(f"{seed} schedule")
        self.now_s = 0.0
        self.switches = 0
        self.failures: list[str] = []
        self.on_progress: Callable[[], None] = lambda: None
        self.log: list[str] | None = None
        self._dice = dice
        self._order = dice.choice(ORDERS)
        self._preemption = dice.choice((0.0, 0.02, 0.2))
        self._numbers = itertools.count(1)
        self._ready: list[Task] = []
        self._deadlines: list[tuple[float, int, Task, int]] = []
        self._tie = itertools.count()
        self._current: Task | None = None
        self._thread = threading.get_ident()
        self._hub: greenlet | None = None
        self._tasks: set[Task] = set()
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def trace(self) -> str:
        return self._hash.hexdigest()

    @property
    def current(self) -> Task | None:
        """The running task; None outside of tasks, and in threads of the system."""
        return self._current if threading.get_ident() == self._thread else None

    def note(self, text: str) -> None:
        """Add an event to the trace."""
        self._hash.update(f"{self.now_s!r} {text}\n".encode())
        if self.log is not None:
            self.log.append(f"{self.now_s:10.3f} {text}")

    def spawn(self, call: Callable[[], object], name: str, process: Process | None = None) -> Task:
        """Start a task; without `process` it belongs to that of the running task."""
        if process is None and self._current is not None:
            process = self._current.process
        task = Task(next(self._numbers), name, process, self._dice.random())
        if task.is_killed:
            task.is_done = True
            return task
        task.greenlet = greenlet(lambda: self._run(task, call), self._hub or getcurrent())
        self._tasks.add(task)
        self._ready.append(task)
        return task

    def run(self, is_over: Callable[[], bool]) -> None:
        """Run the tasks until `is_over`, or none can ever run again."""
        self._hub = getcurrent()
        while not is_over():
            if self._ready:
                self._switch(self._ready.pop(self._choice()))
            elif not self._advance():
                self.failures.append("no task can run any more: a deadlock")
                return

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until `wake`, True, or until `seconds` have passed, False."""
        task = self.current
        if task is None:
            return False
        if task.is_killed:
            raise Killed
        task.waits += 1
        task.is_waiting, task.was_woken = True, False
        if seconds is not None:
            deadline_s = self.now_s + max(0.0, seconds)
            heapq.heappush(self._deadlines, (deadline_s, next(self._tie), task, task.waits))
        self._leave()
        return task.was_woken

    def wake(self, task: Task) -> None:
        """Let a task that waits run again."""
        if task.is_waiting:
            task.is_waiting, task.was_woken = False, True
            self._ready.append(task)

    def pause(self) -> None:
        """Let other tasks run first, now and then: a preemption point."""
        task = self.current if self._preemption else None
        if task is None or not self._ready or task.is_killed:
            return
        if self._dice.random() < self._preemption:
            self._ready.append(task)
            self._leave()

    def kill(self, process: Process) -> None:
        """End the tasks of a process where they are."""
        process.is_killed = True
        self._end([task for task in self._tasks if task.process is process])

    def kill_all(self) -> None:
        """End all tasks where they are."""
        self._end(list(self._tasks))

    def _end(self, victims: list[Task]) -> None:
        for task in sorted(victims, key=lambda t: t.number):
            if task is not self._current and not task.is_done:
                task.is_waiting, task.was_killed = False, True
                current, self._current = self._current, task
                if task.greenlet:
                    task.greenlet.parent = getcurrent()
                    task.greenlet.throw(Killed)
                self._current = current
                self._tasks.discard(task)
                task.is_done = True
        self._ready = [t for t in self._ready if not t.is_done]

    def count(self, process: Process) -> int:
        """Count the tasks of a process."""
        return sum(task.process is process for task in self._tasks)

    def names(self, process: Process) -> list[str]:
        """Return the names of the tasks of a process, sorted."""
        return sorted(task.name for task in self._tasks if task.process is process)

    def _run(self, task: Task, call: Callable[[], object]) -> None:
        try:
            call()
        except GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001 - a failure of the run
            self.failures.append(f"thread {task.name} died: {error!r}")
        finally:
            task.is_done = True
            self._tasks.discard(task)
            for other in task.joining:
                self.wake(other)

    def _choice(self) -> int:
        if self._order == "first" or len(self._ready) == 1:
            return 0
        if self._order == "random":
            return int(self._dice.random() * len(self._ready))
        return max(range(len(self._ready)), key=lambda index: self._ready[index].priority)

    def _switch(self, task: Task) -> None:
        self.switches += 1
        self._hash.update(b"%d\n" % task.number)
        self._current = task
        task.greenlet.switch()
        self._current = None

    def _leave(self) -> None:
        task = self._current
        assert self._hub is not None
        self._hub.switch()
        if task is not None and task.is_killed:
            raise Killed

    def _advance(self) -> bool:
        """Jump to the next deadline; False when there is none."""
        while self._deadlines:
            deadline_s, _, task, waits = heapq.heappop(self._deadlines)
            if task.is_waiting and task.waits == waits:
                self.now_s = max(self.now_s, deadline_s)
                task.is_waiting = False
                self._ready.append(task)
                self.on_progress()
                return True
        return False
