"""Throughput of bodies: the minimum that a connection must keep, and the last rate per bucket."""

from __future__ import annotations

import time

from ego4dfs.runtime.deadline import ATTEMPT_S, FLOOR_BYTES

_MEASURED_BYTES = 32 << 10  # the rate of a shorter body is not meaningful
_LONG_S = ATTEMPT_S / 3  # a body that is expected to take longer is read as a slow one


class MinimumThroughput:
    """Checks that `FLOOR_BYTES` of a body arrive in each `ATTEMPT_S`. For one thread."""

    def __init__(self) -> None:
        """Begin now."""
        self._since_s = time.monotonic()
        self._bytes = 0

    def is_missed(self, received: int) -> bool:
        """Add received bytes; return whether they were too few for too long."""
        self._bytes += received
        now_s = time.monotonic()
        if now_s - self._since_s < ATTEMPT_S:
            return False
        is_missed = self._bytes < FLOOR_BYTES
        self._since_s, self._bytes = now_s, 0
        return is_missed


class BucketThroughput:
    """Bytes per second of the last body of each bucket. Safe from several threads."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def record(self, bucket: str, size: int, began_s: float) -> None:
        """Record a body of `size` bytes that began at `began_s`, of the monotonic clock."""
        if size >= _MEASURED_BYTES:
            self._rates[bucket] = size / max(1e-6, time.monotonic() - began_s)

    def record_slow(self, bucket: str) -> None:
        """Record a body that did not arrive in time."""
        self._rates[bucket] = 1.0

    def is_slow(self, bucket: str, size: int) -> bool:
        """Return whether `size` bytes may take so long that they must be read as they arrive."""
        rate = self._rates.get(bucket)
        return rate is not None and size > rate * _LONG_S
