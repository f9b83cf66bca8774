"""Limits on requests per bucket: how many at a time, and a pause while the store throttles."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.deadline import ATTEMPT_S, BEGIN_S, call_remaining_s

FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 16.0
MAX_RETRY_AFTER_S = 60.0


class ConcurrencyLimit:
    """At most `limit` requests at a time for each bucket: a silent one does not block the others.

    Safe from several threads.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._semaphores: dict[str, threading.BoundedSemaphore] = {}

    def slot(self, bucket: str, url: str) -> threading.BoundedSemaphore:
        """Take one slot of the bucket, and return the semaphore to release.

        Raises StoreUnavailable when none is free within BEGIN_S, or in what the call has left.
        """
        with self._lock:
            semaphore = self._semaphores.get(bucket)
            if semaphore is None:
                semaphore = threading.BoundedSemaphore(self._limit)
                self._semaphores[bucket] = semaphore
        wait_s = max(0.0, min(BEGIN_S, call_remaining_s() - ATTEMPT_S))
        if not semaphore.acquire(timeout=wait_s):
            raise StoreUnavailable(
                f"{url}: {self._limit} requests for this bucket are running, and this one did not"
                f" begin within {wait_s:.0f} s",
                url=url,
                hint="the store or the network is slow: read with fewer programs at a time",
            )
        return semaphore


@dataclass(slots=True)
class _Pause:
    until_s: float = 0.0
    step_s: float = 0.0


class Throttle:
    """Pauses all requests for a bucket that throttles.

    The pause is doubled with each throttled answer and halved with each other answer. Safe from
    several threads; no thread waits while it holds the lock.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}

    def throttled(self, bucket: str, retry_after_s: float = 0.0) -> None:
        """Pause requests for `bucket` as long as the store requests, or one step longer."""
        now_s = self._clock()
        with self._lock:
            pause = self._pauses.setdefault(bucket, _Pause())
            if now_s >= pause.until_s:  # else another request of the same moment was throttled too
                pause.step_s = min(MAX_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause.step_s))
            pause_s = max(pause.step_s, min(retry_after_s, MAX_RETRY_AFTER_S))
            pause.until_s = max(pause.until_s, now_s + pause_s)
            until_s = pause.until_s + pause.step_s
        self._metrics.add_throttled_answer(until_s)

    def answered(self, bucket: str) -> None:
        """Record that a request for `bucket` was not throttled."""
        with self._lock:
            pause = self._pauses.get(bucket)
            if pause is not None:
                pause.step_s /= 2
                if pause.step_s <= FIRST_PAUSE_S / 2:
                    del self._pauses[bucket]

    def pause_s(self, bucket: str) -> float:
        """Return how long the next request for `bucket` must wait, with jitter."""
        with self._lock:
            pause = self._pauses.get(bucket)
            remaining_s = pause.until_s - self._clock() if pause is not None else 0.0
            if pause is None or remaining_s <= 0:
                return 0.0
            return remaining_s + random.uniform(0, pause.step_s)  # noqa: S311 - no secret
