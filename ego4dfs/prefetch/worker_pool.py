"""A pool of threads with several queues: for small files, and for ranges of large ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ego4dfs.errors import ProcessLimit

Task = Callable[[], None]
Next = Callable[[], Task | None]


class WorkerPool:
    """Runs tasks on daemon threads until there are no more, or until it is stopped.

    A queue is a function that returns the next task. It is called under one lock, so it may use
    shared lists. If it returns None, its threads wait as long as any task is running, because
    that may add more. If none is running, they take the tasks of the other queues, whose own
    threads may have ended before these were added. The threads are daemons because a running
    request cannot be interrupted, and Ctrl-C must not wait for it.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        """Report an exception of a task to `on_error`, and stop."""
        self._on_error = on_error
        self._changed = threading.Condition()
        self._busy = 0
        self.stopping = threading.Event()  # no further tasks
        self.abandoned = threading.Event()  # and running ones end as soon as they can
        self._pool: list[list[threading.Thread]] = []
        self._queues: list[Next] = []
        # Python 3.10 and 3.11 count a thread as ended if Ctrl-C interrupts its `join`.
        self._ends = threading.Condition()  # guards _running
        self._running = 0

    def add(self, name: str, take: Next, count: int) -> None:
        """Serve a queue with `count` threads, once `run` is called."""
        self._queues.append(take)
        self._pool.append(
            [
                threading.Thread(target=self._work, args=(take,), name=f"{name}-{i}", daemon=True)
                for i in range(count)
            ]
        )

    def run(self, tick: Callable[[], None], every_s: float = 0.1) -> None:
        """Work until all tasks are done or the pool is stopped, and call `tick` meanwhile.

        If not all threads can be started, fewer work. Raises OSError if a queue has none.
        """
        try:
            self._start()
            while not (self.ended(every_s) or self.stopping.is_set()):
                tick()
            tick()
        finally:
            self.stop()

    def _start(self) -> None:
        rest = [thread for queue in self._pool for thread in queue[1:]]
        for started, thread in enumerate((*(queue[0] for queue in self._pool), *rest)):
            self._count(1)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads can be started
                self._count(-1)
                if started < len(self._pool):
                    raise ProcessLimit("no more threads can be started") from error
                return

    def _count(self, threads: int) -> None:
        with self._ends:
            self._running += threads
            self._ends.notify_all()

    def stop(self) -> None:
        """Start no more tasks."""
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()

    def ended(self, within_s: float) -> bool:
        """Wait for the threads, no longer than that, and return whether all have ended."""
        with self._ends:
            return self._ends.wait_for(lambda: not self._running, within_s)

    def update(self, change: Callable[[], None]) -> None:
        """Change the lists that the queues read, under their lock."""
        with self._changed:
            change()
            self._changed.notify_all()

    def _work(self, take: Next) -> None:
        try:
            while task := self._next(take):
                self._do(task)
        finally:
            self._count(-1)

    def _do(self, task: Task) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - the run must receive it
            self._on_error(error)
            self.stop()
        finally:
            self._end()

    def _next(self, take: Next) -> Task | None:
        with self._changed:
            while not self.stopping.is_set():
                queues = (take,) if self._busy else (take, *self._queues)
                task = next(filter(None, (each() for each in queues)), None)
                if task is not None:
                    self._busy += 1
                    return task
                if not self._busy:
                    break
                self._changed.wait()
        return None

    def _end(self) -> None:
        with self._changed:
            self._busy -= 1
            if not self._busy:  # new tasks before that are announced by `update`
                self._changed.notify_all()


class Ticks:
    """Calls one function each time, and another one every `rare_every_s` seconds."""

    def __init__(
        self, often: Callable[[], None], rarely: Callable[[], None], rare_every_s: float
    ) -> None:
        self._often = often
        self._rarely = rarely
        self._every_s = rare_every_s
        self._next_s = time.monotonic() + rare_every_s

    def __call__(self) -> None:
        """Call the functions that are due."""
        self._often()
        if time.monotonic() >= self._next_s:
            self._rarely()
            self._next_s = time.monotonic() + self._every_s
