"""Replacements of `threading`, `time` and `queue` on the virtual clock of a Scheduler.

They promise what the standard library promises. Outside of tasks nothing waits.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from simulation.scheduler import EPOCH_S, Scheduler, Task

_NO_THREAD = 1 << 30
"""A native thread id that no thread has, so that no real one gets another priority."""


def time_module(scheduler: Scheduler) -> SimpleNamespace:
    """Return a replacement of the module `time`."""

    def sleep(seconds: float) -> None:
        scheduler.wait(seconds)

    return SimpleNamespace(
        monotonic=lambda: scheduler.now_s,
        perf_counter=lambda: scheduler.now_s,
        time=lambda: EPOCH_S + scheduler.now_s,
        time_ns=lambda: int((EPOCH_S + scheduler.now_s) * 1e9),
        thread_time=lambda: 0.0,
        sleep=sleep,
        strftime=time.strftime,
        localtime=time.localtime,
    )


def queue_module(scheduler: Scheduler) -> SimpleNamespace:
    """Return a replacement of the module `queue`, as far as it is used."""
    return SimpleNamespace(SimpleQueue=lambda: SimpleQueue(scheduler), Empty=queue.Empty)


def threading_module(scheduler: Scheduler) -> SimpleNamespace:
    """Return a replacement of the module `threading`."""

    def get_ident() -> int:
        return scheduler.current.number if scheduler.current else 0

    class SimulatedThread(Thread):
        _scheduler = scheduler

    class SimulatedTimer(Timer):
        _scheduler = scheduler

    return SimpleNamespace(
        Lock=lambda: Lock(scheduler),
        RLock=lambda: RLock(scheduler),
        Condition=lambda lock=None: Condition(scheduler, lock),
        Event=lambda: Event(scheduler),
        Semaphore=lambda value=1: Semaphore(scheduler, value),
        BoundedSemaphore=lambda value=1: Semaphore(scheduler, value),
        Thread=SimulatedThread,
        Timer=SimulatedTimer,
        local=lambda: Local(scheduler),
        get_ident=get_ident,
        get_native_id=lambda: _NO_THREAD,
        current_thread=lambda: SimpleNamespace(name=getattr(scheduler.current, "name", "main")),
        TIMEOUT_MAX=threading.TIMEOUT_MAX,
    )


class Waiters:
    """Tasks that wait for one thing, in order."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._tasks: deque[Task] = deque()

    def wait(self, seconds: float | None) -> bool:
        """Wait until `wake`; False after `seconds`."""
        task = self._scheduler.current
        if task is None:
            return False
        self._tasks.append(task)
        try:
            return self._scheduler.wait(seconds)
        except BaseException:
            if task not in self._tasks:
                self.wake(1)  # the one that was killed cannot use its turn
            raise
        finally:
            if task in self._tasks:
                self._tasks.remove(task)

    def wake(self, count: int) -> None:
        while self._tasks and count:
            self._scheduler.wake(self._tasks.popleft())
            count -= 1

    def wake_all(self) -> None:
        self.wake(len(self._tasks))


class Semaphore:
    """As threading.Semaphore."""

    def __init__(self, scheduler: Scheduler, value: int) -> None:
        self._scheduler = scheduler
        self._value = value
        self._waiters = Waiters(scheduler)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002
        self._scheduler.pause()
        task = self._scheduler.current
        if task is None or task.is_killed:
            self._value -= 1
            return True
        until_s = None if timeout is None or timeout < 0 else self._scheduler.now_s + timeout
        while self._value <= 0:
            left_s = None if until_s is None else until_s - self._scheduler.now_s
            if not blocking or (left_s is not None and left_s <= 0):
                return False
            self._waiters.wait(left_s)
        self._value -= 1
        return True

    def release(self) -> None:
        self._value += 1
        if self._value > 0:
            self._waiters.wake(1)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Lock(Semaphore):
    """As threading.Lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler, 1)

    def locked(self) -> bool:
        return self._value <= 0

    def release_all(self) -> int:
        self.release()
        return 1

    def acquire_again(self, count: int) -> None:
        del count
        self.acquire()


class RLock(Lock):
    """As threading.RLock."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._owner: Task | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002
        task = self._scheduler.current
        if task is not None and self._owner is task:
            self._count += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._owner, self._count = task, 1
        return True

    def release(self) -> None:
        self._count -= 1
        if self._count <= 0:
            self._owner = None
            super().release()

    def release_all(self) -> int:
        count, self._count, self._owner = self._count, 0, None
        Semaphore.release(self)
        return count

    def acquire_again(self, count: int) -> None:
        self.acquire()
        self._count = count


class Condition:
    """As threading.Condition."""

    def __init__(self, scheduler: Scheduler, lock: Lock | None = None) -> None:
        self._scheduler = scheduler
        self._lock = lock or RLock(scheduler)
        self._waiters = Waiters(scheduler)

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        count = self._lock.release_all()
        try:
            return self._waiters.wait(timeout)
        finally:
            self._lock.acquire_again(count)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        until_s = None if timeout is None else self._scheduler.now_s + timeout
        while not (found := predicate()):
            left_s = None if until_s is None else until_s - self._scheduler.now_s
            if left_s is not None and left_s <= 0:
                break
            if not self.wait(left_s) and self._scheduler.current is None:
                break
        return found

    def notify(self, n: int = 1) -> None:
        self._waiters.wake(n)

    def notify_all(self) -> None:
        self._waiters.wake_all()


class Event:
    """As threading.Event."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False
        self._waiters = Waiters(scheduler)

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._waiters.wake_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        self._scheduler.pause()
        if not self._is_set:
            self._waiters.wait(timeout)
        return self._is_set


class Thread:
    """As threading.Thread; `start` fails while the process may start no thread."""

    _scheduler: Scheduler

    def __init__(
        self,
        target: Callable[..., object] | None = None,
        name: str = "thread",
        args: tuple[Any, ...] = (),
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self.daemon = daemon
        self._target = target
        self._args = args
        self._task: Task | None = None

    def start(self) -> None:
        current = self._scheduler.current
        process = current.process if current else None
        if process is not None and process.thread_limit_reached:
            raise RuntimeError("can't start new thread")
        self._task = self._scheduler.spawn(self.run, self.name)
        self._scheduler.pause()

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_done

    def join(self, timeout: float | None = None) -> None:
        task, current = self._task, self._scheduler.current
        if task is None or task.is_done or current is None:
            return
        task.joining.append(current)
        self._scheduler.wait(timeout)


class Timer(Thread):
    """As threading.Timer."""

    def __init__(self, interval: float, function: Callable[[], object]) -> None:
        super().__init__(name="timer")
        self._interval_s = interval
        self._function = function
        self._finished = Event(self._scheduler)

    def cancel(self) -> None:
        self._finished.set()

    def run(self) -> None:
        if not self._finished.wait(self._interval_s):
            self._function()


class Local:
    """As threading.local."""

    def __init__(self, scheduler: Scheduler) -> None:
        object.__setattr__(self, "_scheduler", scheduler)

    def _values(self) -> dict[str, Any]:
        task = self._scheduler.current
        return {} if task is None else task.locals.setdefault(self, {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._values()[name] = value


class SimpleQueue:
    """As queue.SimpleQueue."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()
        self._waiters = Waiters(scheduler)

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._waiters.wake(1)
        self._scheduler.pause()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        until_s = None if timeout is None else self._scheduler.now_s + timeout
        while not self._items:
            left_s = None if until_s is None else until_s - self._scheduler.now_s
            if not block or (left_s is not None and left_s <= 0):
                raise queue.Empty
            if not self._waiters.wait(left_s) and self._scheduler.current is None:
                raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)
