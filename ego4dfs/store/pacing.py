"""Slow down together: a bucket whose store throttles is asked less by all who want some of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ego4dfs.metrics import Metrics

FIRST_S, MOST_S = 0.5, 16.0
RETRY_AFTER_MOST_S = 60.0


@dataclass(slots=True)
class _Pace:
    until_s: float = 0.0
    step_s: float = 0.0


class Pacing:
    """Pauses by bucket, doubled while the store asks for it and halved with each answer.

    Safe from several threads; nothing is waited for under the lock.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def slow_down(self, bucket: str, retry_after_s: float = 0.0) -> None:
        """Have nothing sent to `bucket` for a while: as long as the store says, or a step."""
        now_s = self._clock()
        with self._lock:
            pace = self._paces.setdefault(bucket, _Pace())
            if now_s >= pace.until_s:  # else another request of the same moment was told so too
                pace.step_s = min(MOST_S, max(FIRST_S, 2 * pace.step_s))
            pause_s = max(pace.step_s, min(retry_after_s, RETRY_AFTER_MOST_S))
            pace.until_s = max(pace.until_s, now_s + pause_s)
            until_s = pace.until_s + pace.step_s
        self._metrics.throttle(until_s)

    def answered(self, bucket: str) -> None:
        """Note that a request for `bucket` was not throttled."""
        if bucket in self._paces:
            with self._lock:
                pace = self._paces.get(bucket)
                if pace is not None:
                    pace.step_s /= 2
                    if pace.step_s <= FIRST_S / 2:
                        del self._paces[bucket]

    def pause_s(self, bucket: str) -> float:
        """Return how long a request for `bucket` is to wait now, with jitter."""
        if bucket not in self._paces:
            return 0.0
        with self._lock:
            pace = self._paces.get(bucket)
            left_s = pace.until_s - self._clock() if pace else 0.0
            if pace is None or left_s <= 0:
                return 0.0
            return left_s + random.uniform(0, pace.step_s)  # noqa: S311 - no secret
