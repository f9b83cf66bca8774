"""Warnings that a bad disk would repeat for each row and each block."""

from __future__ import annotations

import logging
import threading
import time

_EVERY_S = 60.0


class Seldom:
    """Warns at most once a minute; what comes in between is left out. Safe from several threads."""

    def __init__(self, log: logging.Logger) -> None:
        """Warn through `log`."""
        self._log = log
        self._next_s = float("-inf")
        self._lock = threading.Lock()

    def warning(self, message: str, *arguments: object, traceback: bool = False) -> None:
        """Log a warning, unless there was one less than a minute ago."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._next_s:
                return
            self._next_s = now_s + _EVERY_S
        self._log.warning(message, *arguments, exc_info=traceback)
