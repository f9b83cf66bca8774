"""Simulated threading, time, queue and concurrent.futures, for tasks of the scheduler.

Each acquisition, release, wait and notification is a switch point. While no schedule runs, nothing
waits: modules may be imported and objects be collected then.
"""

from __future__ import annotations

import queue as real_queue
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError  # noqa: A004 - as modules import it
from types import SimpleNamespace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from greenlet import GreenletExit, getcurrent

from schedules import scheduler
from schedules.scheduler import Task, point

EPOCH_S = 1_700_000_000.0


def now_s() -> float:
    """Return the virtual time."""
    return scheduler.active.now_s if scheduler.active is not None else 0.0


def sleep(seconds: float) -> None:
    """Let `seconds` of virtual time pass."""
    if scheduler.active is not None:
        scheduler.active.block("the clock", seconds)


def _current() -> Task | None:
    return scheduler.active.current if scheduler.active is not None else None


def _wake(tasks: Iterable[Task]) -> None:
    if scheduler.active is not None:
        for task in tasks:
            scheduler.active.wake(task)


class Lock:
    """threading.Lock, and threading.RLock in the subclass."""

    _is_reentrant = False

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._depth = 0
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002
        if scheduler.active is None:
            return True
        point("acquires a lock")
        return self._acquire(blocking=blocking, timeout_s=None if timeout < 0 else timeout)

    def _acquire(self, *, blocking: bool = True, timeout_s: float | None = None) -> bool:
        running = scheduler.active
        if running is None:
            raise GreenletExit
        task = running.current
        if self._owner is task and self._is_reentrant:
            self._depth += 1
            return True
        while self._owner is not None:
            if not blocking:
                return False
            self._waiting.append(task)
            name = f"a lock that {self._owner} holds"
            if not running.block(name, timeout_s):
                self._waiting.remove(task)
                return False
        self._owner, self._depth = task, 1
        return True

    def release(self) -> None:
        if scheduler.active is None:
            return
        if self._owner is not scheduler.active.current:
            raise RuntimeError("release of a lock that this thread does not hold")
        self._depth -= 1
        if not self._depth:
            self._free()
        point("released a lock")

    def _free(self) -> None:
        self._owner = None
        waiting, self._waiting = self._waiting, []
        _wake(waiting)

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """threading.RLock."""

    _is_reentrant = True


class Condition:
    """threading.Condition: waiters are woken in the order in which they came."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self._waiting: list[Task] = []
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        running = scheduler.active
        if running is None:
            raise GreenletExit
        if self._lock._owner is not running.current:
            raise RuntimeError("wait on a condition without its lock")
        task, depth = running.current, self._lock._depth
        self._waiting.append(task)
        self._lock._free()
        is_notified = running.block("a condition", timeout)
        if not is_notified and task in self._waiting:
            self._waiting.remove(task)
        self._lock._acquire()
        self._lock._depth = depth
        return is_notified

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        until_s = None if timeout is None else now_s() + timeout
        while not (result := predicate()):
            left_s = None if until_s is None else until_s - now_s()
            if left_s is not None and left_s <= 0:
                break
            self.wait(left_s)
        return result

    def notify(self, n: int = 1) -> None:
        if scheduler.active is None:
            return
        if self._lock._owner is not scheduler.active.current:
            raise RuntimeError("notification of a condition without its lock")
        woken, self._waiting = self._waiting[:n], self._waiting[n:]
        _wake(woken)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Event:
    """threading.Event."""

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._is_set, timeout))


class Thread:
    """threading.Thread. `limits` has the number that may be alive, by name."""

    limits: ClassVar[dict[str, int]] = {}

    def __init__(
        self,
        target: Callable[..., object],
        name: str = "thread",
        args: tuple[Any, ...] = (),
        *,
        daemon: bool | None = None,
    ) -> None:
        self._target, self._args = target, args
        self.name, self.daemon = name, daemon
        self._task: Task | None = None

    def start(self) -> None:
        running = scheduler.active
        if running is None:
            raise RuntimeError("can't start new thread")
        alive = sum(not task.is_done and task.name == self.name for task in running.tasks)
        if alive >= self.limits.get(self.name, alive + 1):
            raise RuntimeError("can't start new thread")
        self._task = running.spawn(lambda: self._target(*self._args), self.name)
        point("started a thread")

    def join(self, timeout: float | None = None) -> None:
        running, task = scheduler.active, self._task
        if running is not None and task is not None and not task.is_done:
            task.joiners.append(running.current)
            if not running.block(f"the end of {task}", timeout):
                task.joiners.remove(running.current)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_done


class Local:
    """threading.local: each greenlet, which stands for a thread, has its own attributes."""

    def __init__(self) -> None:
        vars(self)["by_greenlet"] = WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["by_greenlet"][getcurrent()][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["by_greenlet"].setdefault(getcurrent(), {})[name] = value

    def __delattr__(self, name: str) -> None:
        del vars(self)["by_greenlet"][getcurrent()][name]


class Timer(Thread):
    """threading.Timer."""

    def __init__(self, interval: float, function: Callable[[], object]) -> None:
        super().__init__(self._fire, "timer")
        self._interval, self._function = interval, function
        self._cancelled = Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def _fire(self) -> None:
        if not self._cancelled.wait(self._interval):
            self._function()


class SimpleQueue:
    """queue.SimpleQueue."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._changed = Condition(Lock())

    def put(self, item: object) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        with self._changed:
            if block:
                self._changed.wait_for(lambda: self._items, timeout)
            if not self._items:
                raise real_queue.Empty
            return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)


class Future:
    """concurrent.futures.Future, as far as it is used without an executor."""

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._is_done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def __class_getitem__(cls, _item: object) -> type[Future]:
        return cls

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: object) -> None:
        self._settle(result, None)

    def set_exception(self, error: BaseException) -> None:
        self._settle(None, error)

    def _settle(self, result: object, error: BaseException | None) -> None:
        with self._changed:
            if self._is_done and scheduler.active is not None:
                raise RuntimeError("a future was settled twice")
            self._result, self._error, self._is_done = result, error, True
            self._changed.notify_all()

    def result(self, timeout: float | None = None) -> Any:
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_done, timeout):
                raise TimeoutError
        return self._error


def wait(futures: list[Future], timeout: float | None = None) -> SimpleNamespace:
    """concurrent.futures.wait for one future."""
    (future,) = futures
    with future._changed:
        future._changed.wait_for(future.done, timeout)
    return SimpleNamespace(done={future} if future.done() else set())


def get_ident() -> int:
    task = _current()
    return task.number if task is not None else -1


def get_native_id() -> int:
    return 1 << 22  # no process has this number


threading = SimpleNamespace(
    Lock=Lock,
    RLock=RLock,
    Condition=Condition,
    Event=Event,
    Thread=Thread,
    Timer=Timer,
    local=Local,
    get_ident=get_ident,
    get_native_id=get_native_id,
)
time = SimpleNamespace(
    monotonic=now_s, time=lambda: EPOCH_S + now_s(), sleep=sleep, thread_time=lambda: 0.0
)
queue = SimpleNamespace(SimpleQueue=SimpleQueue, Empty=real_queue.Empty)

__all__ = ["Future", "TimeoutError", "queue", "threading", "time", "wait"]
