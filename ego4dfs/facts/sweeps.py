"""Sweeps: many objects are asked about at once, in the background."""

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


class Sweeps:
    """Threads that ask about URLs, 96 at most for all sweeps, and end when none is left.

    Safe from several threads. They are daemons: nobody waits for an answer that does not come
    when the process ends. `_lock` guards what is left to ask and the number of threads; it is
    never held while somebody is asked.
    """

    def __init__(self, ask: Callable[[str], bool], finish: Callable[[], None]) -> None:
        """Call `ask` for each URL; False gives its sweep up. `finish` is called behind the last."""
        self._ask = ask
        self._finish = finish
        self._sweeps: deque[_Sweep] = deque()
        self._threads = 0
        self._finishing = 0
        self._closed = False
        self._lock = threading.Condition()

    def add(self, urls: Iterable[str]) -> None:
        """Ask about all of these."""
        wanted = list(urls)
        with self._lock:
            if self._closed or not wanted:
                return
            self._sweeps.append(_Sweep(iter(wanted)))
            more = min(_THREADS - self._threads, len(wanted))
            self._threads += more
        started = 0
        try:
            while started < more:
                threading.Thread(target=self._run, name="facts", daemon=True).start()
                started += 1
        except RuntimeError as error:  # no more threads are to be had
            log.info("a sweep has %d of %d threads: %s", started, more, error)
            self._leave(more - started)

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is left to ask; tell whether that is so."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._threads + self._finishing, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Ask no more, and wait for the answers that come in time."""
        with self._lock:
            self._closed = True
            self._sweeps.clear()
        if not self.wait(timeout_s):
            log.info("%d questions were left unanswered", self._threads)

    def _run(self) -> None:
        while (found := self._next()) is not None:
            sweep, url = found
            if not self._ask(url):
                self._give_up(sweep)
        self._finish_if_last()

    def _next(self) -> tuple[_Sweep, str] | None:
        """Return what to ask; None ends the thread, which is not counted any more then."""
        with self._lock:
            while self._sweeps:
                url = next(self._sweeps[0].urls, None)
                if url is not None:
                    return self._sweeps[0], url
                self._sweeps.popleft()
            self._threads -= 1
            return None

    def _leave(self, threads: int) -> None:
        with self._lock:
            self._threads -= threads
            if not self._threads:
                self._sweeps.clear()
            self._lock.notify_all()

    def _give_up(self, sweep: _Sweep) -> None:
        with self._lock:
            sweep.urls = iter(())

    def _finish_if_last(self) -> None:
        with self._lock:
            if self._threads:
                return
            self._finishing += 1
        try:
            self._finish()
        finally:
            with self._lock:
                self._finishing -= 1
                self._lock.notify_all()
