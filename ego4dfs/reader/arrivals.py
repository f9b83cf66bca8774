"""Arrivals: when bytes last arrived. What waits for its turn has time as long as they do."""

from __future__ import annotations

import time
from math import inf

from ego4dfs.runtime.deadline import ANSWER_S


class Arrivals:
    """When bytes last arrived, by bucket.

    A read that waits for memory or for a thread waits for other requests. On a slow line that
    takes minutes, and is no failure of the store. Safe from several threads.
    """

    def __init__(self) -> None:
        """Know of none."""
        self._last_s: dict[str, float] = {}

    def note(self, bucket: str) -> None:
        """Record that bytes of a bucket arrive."""
        self._last_s[bucket] = time.monotonic()

    def left_s(self, began_s: float, bucket: str = "") -> float:
        """Return how much longer a wait that began at `began_s` may last if nothing arrives.

        That is until ANSWER_S after its begin, or after the last bytes of the bucket, or of any
        bucket; at least 0.
        """
        last_s = [self._last_s.get(bucket, -inf)] if bucket else [*self._last_s.values()]
        return max(0.0, max([began_s, *last_s]) + ANSWER_S - time.monotonic())
