"""PeriodicThread: a function that is called at an interval, and once more at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class PeriodicThread:
    """Calls `step` every `every_s` seconds from a daemon thread, and once more when it is closed.

    `begin` is called first. Neither may raise: that would end the thread. Where no thread can be
    started, nothing is called.
    """

    def __init__(
        self,
        step: Callable[[], None],
        every_s: float,
        *,
        name: str,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a thread with this name; `start` starts it."""
        self._begin, self._step, self._every_s = begin, step, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, if the system can."""
        with suppress(RuntimeError):
            self._thread.start()

    def close(self, wait_s: float) -> None:
        """Let the last step begin, and wait at most `wait_s` for its end: it may hang."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        self._begin()
        while not self._end.wait(self._every_s):
            self._step()
        self._step()
