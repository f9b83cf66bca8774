"""Threads for requests that may hang: bounded, shared out, and never waited for without a bound.

Unlike concurrent.futures' pools these serve threads that outlive the main thread, say plainly
whether a task was taken, and hold up no exit of the interpreter for what hangs.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable

from ego4dfs.deadline import CLOSE_S, Deadline

log = logging.getLogger(__name__)

MOST_THREADS = 256
IDLE_S = 30.0

_Task = tuple[str, int, Callable[[], object]]


class Workers:
    """Run tasks in daemon threads, of each group so many at a time as its tasks allow.

    A group's tasks that hang take no thread from those of another. Threads start with the first
    task and end when they had nothing to do for IDLE_S. Safe from several threads; `_changed`
    guards all state and is never held while a task runs.
    """

    def __init__(self, name: str) -> None:
        """Name the threads."""
        self._name = name
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[_Task] = deque()
        self._running: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()  # running and waiting
        self._threads = self._idle = 0
        self._closed = False
        _all.add(self)

    def submit(self, task: Callable[[], object], *, group: str = "", most: int) -> bool:
        """Have `task` run as soon as fewer than `most` tasks of `group` do.

        False when nothing was taken, as no thread is to be had or this is closed: the caller may
        run it in its own thread.
        """
        with self._changed:
            if self._closed:
                return False
            has_thread = self._idle > len(self._waiting) or self._taken[group] >= most
            if not has_thread and not self._start() and not self._threads:
                return False
            self._waiting.append((group, most, task))
            self._taken[group] += 1
            self._changed.notify()
            return True

    def close(self, wait_s: float = CLOSE_S) -> bool:
        """Take nothing more; wait for what runs and what was taken. False if that took too long."""
        deadline = Deadline.after(wait_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._taken, deadline.remaining_s)

    def _start(self) -> bool:
        """Start one more thread, if that may be and can be; `_changed` is held."""
        if self._threads >= MOST_THREADS:
            return False
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process has as many as it may have, or it is ending
            log.info("no thread more for %s: %s", self._name, error)
            return False
        self._threads += 1
        return True

    def _work(self) -> None:
        while task := self._next():
            group, _, call = task
            try:
                call()
            except Exception:
                log.exception("a task of %s failed", self._name)
            finally:
                del call, task  # what it holds is not to live until the next one comes
                with self._changed:
                    for count in (self._running, self._taken):
                        count[group] -= 1
                        if not count[group]:
                            del count[group]
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        """Wait for a task whose group may have one more thread; None when there is none to come."""
        with self._changed:
            self._idle += 1
            try:
                while (task := self._runnable()) is None:
                    ended = self._closed and not self._waiting
                    if ended or not (self._changed.wait(IDLE_S) or self._waiting):
                        self._threads -= 1
                        return None
            finally:
                self._idle -= 1
            self._running[task[0]] += 1
            return task

    def _runnable(self) -> _Task | None:
        for number, task in enumerate(self._waiting):
            if self._running[task[0]] < task[1]:
                del self._waiting[number]
                return task
        return None


_all: weakref.WeakSet[Workers] = weakref.WeakSet()
os.register_at_fork(after_in_child=_all.clear)  # the threads are the parent's


@atexit.register
def _close_all() -> None:
    """Let requests under way end.

    A thread that comes back from a library into an interpreter that is gone aborts the process.
    """
    deadline = Deadline.after(CLOSE_S)
    for workers in list(_all):
        workers.close(deadline.remaining_s)
