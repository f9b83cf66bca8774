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
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

from ego4dfs.runtime.deadline import CLOSE_S, Deadline

log = logging.getLogger(__name__)

MOST_THREADS = 256
"""Of one Workers; up to twice as many where some groups hang and others have no thread."""
IDLE_S = 30.0

Item = TypeVar("Item")
Result = TypeVar("Result")
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
        self._threads = 0
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
            self._waiting.append((group, most, task))
            if self._lacks_thread() and not self._start(group) and not self._threads:
                self._waiting.pop()
                return False
            self._changed.notify()
            return True

    def expedite(self, task: Callable[[], object], most: int) -> None:
        """Let a task that still waits run while fewer than `most` of its group do."""
        with self._changed:
            for number, (group, before, waiting) in enumerate(self._waiting):
                if waiting is task and before < most:
                    del self._waiting[number]
                    self._waiting.appendleft((group, most, task))
                    if self._lacks_thread():
                        self._start(group)
                    self._changed.notify()
                    return

    def _lacks_thread(self) -> bool:
        """Tell whether a task could run that no thread is free for; `_changed` is held."""
        free = self._threads - self._running.total()
        running = self._running.copy()
        for group, most, _ in self._waiting:
            if running[group] < most:
                running[group] += 1
                free -= 1
        return free < 0

    def close(self, wait_s: float = CLOSE_S) -> bool:
        """Take nothing more; wait for what runs and what was taken. False if that took too long."""
        deadline = Deadline.after(wait_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not (self._waiting or self._running), deadline.remaining_s
            )

    def _start(self, group: str) -> bool:
        """Start one more thread, if that may be and can be; `_changed` is held.

        A group of which nothing runs gets one where those that hang have taken all.
        """
        most = MOST_THREADS if self._running.get(group) else 2 * MOST_THREADS
        if self._threads >= most:
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
                    self._running[group] -= 1
                    if not self._running[group]:
                        del self._running[group]
                    # What may run now, this very thread takes. With each of 96 idle ones woken
                    # a task cost 0.9 ms of CPU time.
                    if self._closed:
                        self._changed.notify_all()

    def _next(self) -> _Task | None:
        """Wait for a task whose group may have one more thread; None when there is none to come."""
        with self._changed:
            while (task := self._runnable()) is None:
                ended = self._closed and not self._waiting
                if ended or not (self._changed.wait(IDLE_S) or self._waiting):
                    self._threads -= 1
                    return None
            self._running[task[0]] += 1
            return task

    def _runnable(self) -> _Task | None:
        """Take the first task that may run; one of an idle group where threads are scarce."""
        found = -1
        for number, (group, most, _) in enumerate(self._waiting):
            running = self._running.get(group, 0)
            if running < most and (found < 0 or not running):
                found = number
                if not running or self._threads <= MOST_THREADS:
                    break
        if found < 0:
            return None
        task = self._waiting[found]
        del self._waiting[found]
        return task


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


def _settle(future: Future[Result], function: Callable[[Item], Result], item: Item) -> None:
    try:
        future.set_result(function(item))
    except BaseException as error:
        future.set_exception(error)  # raised in the caller's thread
        if isinstance(error, KeyboardInterrupt):  # this is the caller's
            raise


def each(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, name: str
) -> list[Result]:
    """Return what `function` gives for each item, in order, from up to so many threads.

    The caller's thread is one of them, so it works where no other is to be had: with all threads
    taken, and at the end of the interpreter. Raises the first exception of `function`; Ctrl-C is
    raised at once, and nothing more is begun then.
    """
    todo = list(items)
    futures: list[Future[Result]] = [Future() for _ in todo]
    numbers = iter(range(len(todo)))  # a range's iterator may be shared by threads

    def work() -> None:
        for number in numbers:
            _settle(futures[number], function, todo[number])

    workers = Workers(name)
    others = min(threads, len(todo)) - 1
    for _ in range(others):
        if not workers.submit(work, most=others):
            break
    try:
        work()
        return [future.result() for future in futures]
    finally:
        deque(numbers, maxlen=0)  # after an interrupt nothing more is begun
        workers.close(0.0)


class Overdue(Exception):  # noqa: N818 - a state
    """A call has not returned in time; its thread is left alone."""


def within(seconds: float, call: Callable[[], Result], *, name: str) -> Result:
    """Return what `call` returns, from a thread of its own, if it does so in so many seconds.

    Raises Overdue if it does not. Where no thread is to be had it runs in the caller's, unbounded.
    """
    future: Future[Result] = Future()
    thread = threading.Thread(
        target=lambda: _settle(future, lambda _: call(), None), name=name, daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        return call()
    if not wait([future], seconds).done:
        raise Overdue
    return future.result()
