"""Throughput of bodies: the minimum that a connection must keep, and the last rate per bucket."""

from __future__ import annotations

import time

from ego4dfs.runtime.deadline import ATTEMPT_S, FLOOR_BYTES

_MEASURED_BYTES = 32 << 10  # the rate of a shorter body is not meaningful
_LONG_S = ATTEMPT_S / 3  # a body that is expected to take longer is read as a slow one
_COMPARED_BYTES = 1 << 20  # a shorter body may arrive in one burst, whatever the line is shared by
_OUTPACED = 64
"""A body that is this many times slower than a later one of its bucket has a bad connection. Bodies
that share a line differ by less."""


class BucketThroughput:
    """Bytes per second of the last body of each bucket. Safe from several threads."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}
        self._large: dict[str, tuple[float, float]] = {}  # when the last one began, and its rate

    def record(self, bucket: str, size: int, began_s: float) -> None:
        """Record a body of `size` bytes that began at `began_s`, of the monotonic clock."""
        rate = size / max(1e-6, time.monotonic() - began_s)
        if size >= _MEASURED_BYTES:
            self._rates[bucket] = rate
        if size >= _COMPARED_BYTES:
            self._large[bucket] = began_s, rate

    def record_slow(self, bucket: str) -> None:
        """Record a body that did not arrive in time."""
        self._rates[bucket] = 1.0

    def is_slow(self, bucket: str, size: int) -> bool:
        """Return whether `size` bytes may take so long that they must be read as they arrive."""
        rate = self._rates.get(bucket)
        return rate is not None and size > rate * _LONG_S

    def is_outpaced(self, bucket: str, rate: float, began_s: float) -> bool:
        """Return whether a body of this rate should be requested again, over another connection.

        A body that began later has been complete at a rate of more than `_OUTPACED` times this one.
        """
        later_s, later_rate = self._large.get(bucket, (0.0, 0.0))
        return later_s > began_s and rate * _OUTPACED < later_rate


class BodyThroughput:
    """The throughput of one body, and the minimum that it must keep. For one thread."""

    def __init__(self, bucket: str, rates: BucketThroughput) -> None:
        """Begin now; `rates` gets the rate of the whole body."""
        self._bucket = bucket
        self._rates = rates
        self._began_s = self._since_s = time.monotonic()
        self._bytes = self._bytes_before = 0
        self.was_outpaced = False  # whether it was enough in itself, but not beside others

    def is_missed(self, received: int) -> bool:
        """Add received bytes; return whether too few have arrived for too long.

        These are fewer than `FLOOR_BYTES` in `ATTEMPT_S`, or so few that the body is outpaced.
        """
        self._bytes += received
        now_s = time.monotonic()
        passed_s = now_s - self._since_s
        if passed_s < ATTEMPT_S:
            return False
        recent = self._bytes - self._bytes_before
        self._since_s, self._bytes_before = now_s, self._bytes
        if recent < FLOOR_BYTES:
            return True
        rate = recent / passed_s
        self.was_outpaced = self._rates.is_outpaced(self._bucket, rate, self._began_s)
        return self.was_outpaced

    def complete(self) -> None:
        """Record the rate of the body, all of which has arrived."""
        self._rates.record(self._bucket, self._bytes, self._began_s)
