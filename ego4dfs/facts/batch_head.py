"""Sweeps: requests for the facts of many objects at a time, in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

_THREADS = 96


@dataclass(slots=True)
class _Sweep:
    urls: Iterator[str]
    fetch: Callable[[str], bool]


class Sweeps:
    """Threads that call a function for each URL, at most 96 for all sweeps together.

    Safe from several threads. The threads end when no URL is left. They are daemons, so the end of
    the process waits for no request. `_lock` guards the queued URLs and the number of threads; it
    is never held during a call.
    """

    def __init__(self, finish: Callable[[], None]) -> None:
        """Call `finish` after the last URL."""
        self._finish = finish
        self._sweeps: deque[_Sweep] = deque()
        self._threads = 0
        self._finishing = 0
        self._closed = False
        self._lock = threading.Condition()

    def add(
        self, urls: Iterable[str], fetch: Callable[[str], bool], *, before_others: bool = False
    ) -> bool:
        """Queue a sweep: call `fetch` for each of these URLs; False ends it.

        `before_others`: it takes the next free threads, before what is left of other sweeps.

        Returns False if nothing is queued, because this is closed or no thread can be started.
        """
        wanted = list(urls)
        with self._lock:
            if self._closed or not wanted:
                return False
            add = self._sweeps.appendleft if before_others else self._sweeps.append
            add(_Sweep(iter(wanted), fetch))
            more = min(_THREADS - self._threads, len(wanted))
            self._threads += more
        started = 0
        try:
            while started < more:
                threading.Thread(target=self._run, name="facts-head", daemon=True).start()
                started += 1
        except RuntimeError as error:  # no more threads can be started
            log.info("a sweep uses %d of %d threads: %s", started, more, error)
            return self._leave(more - started)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until all sweeps have ended; return False after `timeout_s`."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._threads + self._finishing, timeout_s)

    def close(self, timeout_s: float) -> None:
        """End the sweeps, and wait up to `timeout_s` for requests in progress."""
        with self._lock:
            self._closed = True
            self._sweeps.clear()
        if not self.wait(timeout_s):
            log.info("%d HEAD requests were abandoned", self._threads)

    def _run(self) -> None:
        while (found := self._next()) is not None:
            sweep, url = found
            if not sweep.fetch(url):
                self._end_sweep(sweep)
        self._finish_if_last()

    def _next(self) -> tuple[_Sweep, str] | None:
        """Return the next URL; None ends the thread, which then counts as finishing."""
        with self._lock:
            while self._sweeps:
                url = next(self._sweeps[0].urls, None)
                if url is not None:
                    return self._sweeps[0], url
                self._sweeps.popleft()
            self._threads -= 1
            self._finishing += 1
            return None

    def _leave(self, threads: int) -> bool:
        """Count threads that were not started; return whether any runs, else nothing is queued."""
        with self._lock:
            self._threads -= threads
            is_running = self._threads > 0
            if not is_running:
                self._sweeps.clear()
            self._lock.notify_all()
        return is_running

    def _end_sweep(self, sweep: _Sweep) -> None:
        with self._lock:
            sweep.urls = iter(())

    def _finish_if_last(self) -> None:
        with self._lock:
            is_last = not self._threads
        try:
            if is_last:
                self._finish()
        finally:
            with self._lock:
                self._finishing -= 1
                self._lock.notify_all()
