"""A pool of threads with several queues: for small files, and for ranges of large ones."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

Task = Callable[[], None]
Next = Callable[[], Task | None]


class WorkerPool:
    """Runs tasks on daemon threads until there are no more, or until it is stopped.

    A lane is a function that hands out the next task, called under one lock, so it may look at
    shared lists; None means none now. A lane's threads wait then, as long as a task that may
    bring more is running anywhere. The threads are daemons because a request under way cannot
    be interrupted, and Ctrl-C must not wait for it.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        """Report what a task raises to `on_error`, and stop then."""
        self._on_error = on_error
        self._changed = threading.Condition()
        self._busy = 0
        self.stopping = threading.Event()  # no further tasks
        self.abandoned = threading.Event()  # and those under way end as soon as they can
        self._pool: list[list[threading.Thread]] = []
        self._threads: list[threading.Thread] = []

    def add(self, name: str, take: Next, count: int) -> None:
        """Serve a lane with `count` threads, once `start` is called."""
        self._pool.append(
            [
                threading.Thread(target=self._work, args=(take,), name=f"{name}-{i}", daemon=True)
                for i in range(count)
            ]
        )

    def run(self, tick: Callable[[], None], every_s: float = 0.1) -> None:
        """Work until all is done or stopped, calling `tick` from this thread meanwhile.

        Where threads are scarce, fewer do. Raises OSError if there is not one for each lane.
        """
        try:
            self._start()
            for thread in self._threads:
                while thread.is_alive() and not self.stopping.is_set():
                    thread.join(every_s)
                    tick()
        finally:
            self.stop()

    def _start(self) -> None:
        rest = [thread for lane in self._pool for thread in lane[1:]]
        for thread in (*(lane[0] for lane in self._pool), *rest):
            try:
                thread.start()
            except RuntimeError as error:  # no more threads can be started
                if len(self._threads) < len(self._pool):
                    raise OSError(errno.EAGAIN, "no more threads can be started") from error
                return
            self._threads.append(thread)

    def stop(self) -> None:
        """Hand out no more tasks."""
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()

    def ended(self, within_s: float) -> bool:
        """Wait for the threads, no longer than that, and return whether all have ended."""
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def update(self, change: Callable[[], None]) -> None:
        """Change what pool look at, under their lock."""
        with self._changed:
            change()
            self._changed.notify_all()

    def _work(self, take: Next) -> None:
        while task := self._next(take):
            self._do(task)

    def _do(self, task: Task) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - the run must hear of it
            self._on_error(error)
            self.stop()
        finally:
            self._end()

    def _next(self, take: Next) -> Task | None:
        with self._changed:
            while not self.stopping.is_set():
                task = take()
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
        """Call what is due."""
        self._often()
        if time.monotonic() >= self._next_s:
            self._rarely()
            self._next_s = time.monotonic() + self._every_s
