"""Daemon threads for calls that may hang: a pool with limits per group, and calls with a time-out.

Unlike the pools of concurrent.futures, this one accepts tasks after the main thread has ended,
returns whether it accepted a task, and does not delay the exit of the interpreter.
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

MAX_THREADS = 256
"""Limit of one pool; twice as many if some groups hang and others have no thread."""
IDLE_S = 30.0

Item = TypeVar("Item")
Result = TypeVar("Result")
_Task = tuple[str, int, Callable[[], object]]


class DaemonThreadPool:
    """A pool of daemon threads that runs a limited number of tasks of each group at a time.

    Tasks that hang take no thread from other groups. Threads start with the first task and end
    after IDLE_S without one. Safe from several threads; `_changed` guards all state and is never
    held while a task runs.
    """

    def __init__(self, name: str) -> None:
        """Create an empty pool; `name` is the name of its threads."""
        self._name = name
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[_Task] = deque()
        self._running: Counter[str] = Counter()
        self._threads = 0
        self._closed = False
        _all.add(self)

    def submit(self, task: Callable[[], object], *, group: str = "", limit: int) -> bool:
        """Run `task` as soon as fewer than `limit` tasks of `group` are running.

        Returns False if the task was not accepted, because no thread can be started or the pool
        is closed: then the caller may run it in its own thread.
        """
        with self._changed:
            if self._closed:
                return False
            self._waiting.append((group, limit, task))
            if self._lacks_thread() and not self._start(group) and not self._threads:
                self._waiting.pop()
                return False
            self._changed.notify()
            return True

    def expedite(self, task: Callable[[], object], limit: int) -> None:
        """Move a waiting task to the front, and raise its limit to `limit` tasks of its group."""
        with self._changed:
            for number, (group, before, waiting) in enumerate(self._waiting):
                if waiting is task and before < limit:
                    del self._waiting[number]
                    self._waiting.appendleft((group, limit, task))
                    if self._lacks_thread():
                        self._start(group)
                    self._changed.notify()
                    return

    def _lacks_thread(self) -> bool:
        """Return whether a task could run but no thread is free for it; `_changed` is held."""
        free = self._threads - self._running.total()
        if len(self._waiting) <= free:
            return False
        running = self._running.copy()
        for group, limit, _ in self._waiting:
            if running[group] < limit:
                running[group] += 1
                free -= 1
        return free < 0

    def close(self, wait_s: float = CLOSE_S) -> bool:
        """Accept no more tasks; wait for those accepted. False if some run longer than `wait_s`."""
        deadline = Deadline.after(wait_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not (self._waiting or self._running), deadline.remaining_s
            )

    def _start(self, group: str) -> bool:
        """Start one more thread, if the limit and the system allow it; `_changed` is held.

        A group without another task gets one even if tasks that hang occupy all threads.
        """
        # If another task of the group waits, too, a thread was started that has not taken it yet.
        queued = [name for name, *_ in self._waiting].count(group)
        limit = MAX_THREADS if self._running.get(group) or queued > 1 else 2 * MAX_THREADS
        if self._threads >= limit:
            return False
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process has reached its limit, or it is ending
            log.info("no more threads can be started for %s: %s", self._name, error)
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
                del call, task  # otherwise its references would be kept until the next task
                with self._changed:
                    self._running[group] -= 1
                    if not self._running[group]:
                        del self._running[group]
                    # This thread takes the next task. Waking 96 idle ones as well took
                    # 0.9 ms of CPU time per task.
                    if self._closed:
                        self._changed.notify_all()

    def _next(self) -> _Task | None:
        """Wait for a task whose group is below its limit; None when this thread is to end."""
        with self._changed:
            while (task := self._runnable()) is None:
                ended = self._closed and not self._waiting
                if ended or not (self._changed.wait(IDLE_S) or self._waiting):
                    self._threads -= 1
                    return None
            self._running[task[0]] += 1
            return task

    def _runnable(self) -> _Task | None:
        """Take the first task that may run; if threads are scarce, one of an idle group."""
        found = -1
        for number, (group, limit, _) in enumerate(self._waiting):
            running = self._running.get(group, 0)
            if running < limit and (found < 0 or not running):
                found = number
                if not running or self._threads <= MAX_THREADS:
                    break
        if found < 0:
            return None
        task = self._waiting[found]
        del self._waiting[found]
        return task


_all: weakref.WeakSet[DaemonThreadPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_all.clear)  # the threads are the parent's


@atexit.register
def _close_all() -> None:
    """Wait for running requests.

    A thread that returns from a library after the interpreter has ended aborts the process.
    """
    deadline = Deadline.after(CLOSE_S)
    for pool in list(_all):
        pool.close(deadline.remaining_s)


def _settle(future: Future[Result], function: Callable[[Item], Result], item: Item) -> None:
    try:
        future.set_result(function(item))
    except BaseException as error:
        future.set_exception(error)  # raised in the caller's thread
        if isinstance(error, KeyboardInterrupt):  # this is the caller's thread
            raise
    finally:
        del future  # else a cycle: its exception refers to this frame


def map_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, name: str
) -> list[Result]:
    """Return the results of `function` for each item, in order, from up to `threads` threads.

    The caller's thread is one of them, so this works where no other can be started. Raises the
    first exception of `function`. KeyboardInterrupt is raised at once, and no further item is
    started then.
    """
    todo = list(items)
    futures: list[Future[Result]] = [Future() for _ in todo]
    numbers = iter(range(len(todo)))  # a range's iterator may be shared by threads

    def work() -> None:
        for number in numbers:
            _settle(futures[number], function, todo[number])

    pool = DaemonThreadPool(name)
    others = min(threads, len(todo)) - 1
    for _ in range(others):
        if not pool.submit(work, limit=others):
            break
    try:
        work()
        return [future.result() for future in futures]
    finally:
        deque(numbers, maxlen=0)  # after an interrupt no further item is started
        pool.close(0.0)


class CallTimeout(Exception):  # noqa: N818 - a state
    """A call has not returned in time; its thread is abandoned."""


def call_with_timeout(seconds: float, call: Callable[[], Result], *, name: str) -> Result:
    """Run `call` in a thread of its own and return what it returns within `seconds`.

    Raises CallTimeout after that. If no thread can be started, the call runs in the caller's
    thread, without a limit.
    """
    future: Future[Result] = Future()
    thread = threading.Thread(
        target=_settle, args=(future, lambda _: call(), None), name=name, daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        return call()
    if not wait([future], seconds).done:
        raise CallTimeout
    try:
        return future.result()
    finally:
        del future  # else a cycle: its exception refers to this frame
