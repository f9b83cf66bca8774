"""Results of a function for many items, computed by threads ahead of the caller, in bounded memory.

They are in the order of the items, or as they come.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from ego4dfs.runtime.daemon_threads import DaemonThreadPool

THREADS = 64
"""A small object takes one round trip: at 30 ms, 64 of them make 2,000 objects a second."""
_ITEMS_AHEAD = 4 * THREADS

Item = TypeVar("Item")
Result = TypeVar("Result")
Reserve = Callable[[int], None]
"""Waits until there is memory for so many bytes of a result."""


def ahead_of_caller(
    items: Iterable[Item],
    function: Callable[[Item, Reserve], Result],
    *,
    ordered: bool,
    max_bytes: int,
    close_s: float = 0.0,
) -> Generator[tuple[Item, Result | Exception]]:
    """Yield each item with what `function` returned for it, or with the Exception that it raised.

    `function` calls its second argument with the bytes that its result will take, before it takes
    them. Results that were not yielded yet, and that which the caller has, take `max_bytes` at
    most; a longer one is computed when it is the next, or without order when there is no other.
    What is not an Exception, such as a panic, is raised. `items` is iterated in the caller's
    thread, and its errors are raised there. The threads end with the generator, which waits
    `close_s` for them at most. Raises ValueError in a forked child, which has no threads.
    """
    work: _Work[Item, Result] = _Work(function, max_bytes, ordered=ordered)
    source = iter(items)
    close = partial(work.close, close_s)
    atexit.register(close)  # before the pool waits for its threads
    try:
        while True:
            for item in itertools.islice(source, _ITEMS_AHEAD - work.waiting):
                work.add(item)
            if not work.waiting:
                return
            task = work.next()
            if not isinstance(task.result, Exception) and isinstance(task.result, BaseException):
                raise task.result  # such as a panic of obstore
            yield task.item, task.result
            work.release(task)
    finally:
        atexit.unregister(close)
        close()


@dataclass(slots=True, eq=False)
class _Task(Generic[Item, Result]):
    """One item; `size` counts as used until the task is released."""

    item: Item
    result: Result | BaseException
    size: int = 0
    has_ended: bool = False


class _NotComputed(Exception):  # noqa: N818 - a state
    """A result that no thread has computed, which no caller sees."""


class _Work(Generic[Item, Result]):
    """The tasks of one iteration. `_lock` guards all state, and is not held during a task."""

    def __init__(
        self, function: Callable[[Item, Reserve], Result], max_bytes: int, *, ordered: bool
    ) -> None:
        self._function = function
        self._ordered = ordered
        self._max_bytes = max_bytes
        self._pool = DaemonThreadPool("read-many")
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._has_task = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)
        self._has_result = threading.Condition(self._lock)
        self._pending = deque[_Task[Item, Result]]()
        self._tasks = dict[_Task[Item, Result], None]()  # not yielded, in order
        self._ended = deque[_Task[Item, Result]]()  # without order
        self._wanted: _Task[Item, Result] | None = None  # the caller waits for this one
        self._used = 0
        self._threads = 0
        self._idle = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many tasks were not yielded."""
        return len(self._tasks)

    def add(self, item: Item) -> None:
        """Add a task, and a thread if none is free for it."""
        task = _Task[Item, Result](item, _NotComputed())
        with self._lock:
            self._tasks[task] = None
            self._pending.append(task)
            self._has_task.notify()
            needs_thread = self._threads < THREADS and self._idle < len(self._pending)
        if needs_thread and self._pool.submit(self._run, limit=THREADS):
            with self._lock:
                self._threads += 1

    def next(self) -> _Task[Item, Result]:
        """Wait for the first task, or for any that has ended, and return it."""
        if not self._threads:  # none can be started
            self._wanted = self._pending.popleft()
            self._run_one(self._wanted)
        first = next(iter(self._tasks)) if self._ordered else None
        with self._lock:
            self._wanted = first
            self._has_room.notify_all()
            if first is not None:
                self._has_result.wait_for(lambda: first.has_ended)
                task = first
            else:
                self._has_result.wait_for(lambda: self._ended)
                task = self._ended.popleft()
            self._wanted = None
            del self._tasks[task]
        return task

    def release(self, task: _Task[Item, Result]) -> None:
        """Give the memory of a task to others.

        Raises ValueError in a forked child, in which `_lock` may be held for ever: the caller comes
        here first when it goes on with an iteration of its parent.
        """
        if os.getpid() != self._pid:
            raise ValueError("this iteration began in another process; begin one in this process")
        with self._lock:
            self._used -= task.size
            self._has_room.notify_all()

    def close(self, wait_s: float) -> None:
        """Let all threads end when the tasks that they are in return, and wait for them.

        Not in a forked child.
        """
        if os.getpid() != self._pid:  # pragma: no cover -- a child is not measured
            return
        with self._lock:
            self._closed = True
            self._pending.clear()
            self._has_task.notify_all()
            self._has_room.notify_all()
        self._pool.close(wait_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                self._has_task.wait_for(lambda: self._closed or self._pending)
                self._idle -= 1
                if self._closed:
                    return
                task = self._pending.popleft()
            self._run_one(task)
            del task  # its result would be kept until the next one

    def _run_one(self, task: _Task[Item, Result]) -> None:
        try:
            task.result = self._function(task.item, lambda size: self._reserve(task, size))
        except BaseException as error:  # noqa: BLE001 - yielded or raised in the caller
            task.result = error
        with self._lock:
            task.has_ended = True
            if not self._ordered:
                self._ended.append(task)
            if self._wanted is None or self._wanted is task:
                self._has_result.notify()

    def _reserve(self, task: _Task[Item, Result], size: int) -> None:
        """Wait for memory; a task that the caller waits for gets it at once.

        A task that calls this again gives back what it has. Raises _NotComputed at the end.
        """
        with self._lock:
            self._used -= task.size
            task.size = 0
            self._has_room.notify_all()
            self._has_room.wait_for(lambda: self._closed or self._has_room_for(task, size))
            if self._closed:
                raise _NotComputed
            self._used += size
            task.size = size

    def _has_room_for(self, task: _Task[Item, Result], size: int) -> bool:
        if self._used + size <= self._max_bytes or task is self._wanted:
            return True
        return not self._ordered and not self._used
