"""RateLimit: at most so many per second, for all threads of a process together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

CREDIT_S = 0.05
"""What was not used in this time is used later, so that late wake-ups do not lower the rate."""
MIN_WAIT_S = 0.005
"""Shorter waits are added up: a sleep takes some tenths of a millisecond longer than it should."""


class RateLimit:
    """Spaces amounts, in the order in which they are reserved. Safe from several threads.

    In any time, at most `per_s` for each second of it pass, and the last amount that is reserved.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Limit to `per_s` in each second; 0 means no limit."""
        self._per_s = per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at_s = clock()

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return self._per_s > 0

    def wait_s(self, amount: float) -> float:
        """Reserve an amount; return how many seconds to wait before it may pass."""
        if not self or not amount:
            return 0.0
        with self._lock:
            now_s = self._clock()
            begins_s = max(self._free_at_s, now_s - CREDIT_S)
            self._free_at_s = begins_s + amount / self._per_s
        wait_s = begins_s - now_s
        return wait_s if wait_s >= MIN_WAIT_S else 0.0

    def give_back(self, amount: float) -> None:
        """Let others have an amount that was reserved and does not pass; less than 0 takes more."""
        if self:
            with self._lock:
                self._free_at_s -= amount / self._per_s
