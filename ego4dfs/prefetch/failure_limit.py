"""FailureLimit: the number of failures in a row after which a run gives up."""

from __future__ import annotations

import threading


class FailureLimit:
    """Counts consecutive failures, up to the number at which further attempts will fail too.

    Safe from several threads.
    """

    def __init__(self, failures: int) -> None:
        """Give up after this many consecutive failures."""
        self._limit = failures
        self._lock = threading.Lock()  # guards the count
        self._kind: object = None
        self._consecutive_failures = 0

    def failed(self, kind: object = None) -> bool:
        """Count a failure and return whether to give up; another `kind` begins a new count."""
        with self._lock:
            if kind != self._kind:
                self._kind, self._consecutive_failures = kind, 0
            self._consecutive_failures += 1
            return self._consecutive_failures >= self._limit

    def succeeded(self) -> None:
        """Begin a new count."""
        with self._lock:
            self._consecutive_failures = 0
