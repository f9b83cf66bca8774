"""A logger that repeats a warning at most once a minute, for faults that recur with each row."""

from __future__ import annotations

import logging
import threading
import time

_INTERVAL_S = 60.0


class ThrottledLog:
    """Logs one warning a minute at most; the others are dropped. Safe from several threads."""

    def __init__(self, log: logging.Logger) -> None:
        """Warn through `log`."""
        self._log = log
        self._next_s = float("-inf")
        self._lock = threading.Lock()

    def warning(self, message: str, *arguments: object, traceback: bool = False) -> None:
        """Log a warning, unless one was logged less than a minute ago."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._next_s:
                return
            self._next_s = now_s + _INTERVAL_S
        self._log.warning(message, *arguments, exc_info=traceback)
