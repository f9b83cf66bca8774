"""Time limits of all waits in the process, and a deadline on the monotonic clock.

One call of a user (an open, a read, a stat) ends within `ANSWER_S` when the store does not answer
or sends almost nothing, and within `THROTTLED_S` when the store throttles. The other limits follow
from these two.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CONNECT_S = 5.0
"""Limit of making a connection."""
QUIET_S = 10.0
"""A connection without data for this long is abandoned. Two attempts fit into `BEGIN_S`."""
ATTEMPT_S = 15.0
"""Limit of one request on a connection that is not known to be slow; on a slow one `FLOOR_BYTES`
must arrive in this time. Two attempts, the second begun before `BEGIN_S`, end within `ANSWER_S`."""
FLOOR_BYTES = 8 << 10
"""Less than this in `ATTEMPT_S` is no progress. 200 requests that share a connection of 1 Mbit/s
each receive more."""
BEGIN_S = 20.0
"""No attempt begins later than this after the first."""
ANSWER_S = 40.0
"""A call of a user ends with an error after this time without progress."""
THROTTLED_S = 300.0
"""S3 throttles for minutes while it splits a partition; a program should slow down, not fail."""
CREDENTIALS_S = 30.0
"""Limit of a credential process, SSO or the role of a machine to return keys."""
CLOSE_S = 4.0
"""An unmount waits no longer for calls that hang."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now, or that of the call of this thread if earlier."""
        return cls(min(time.monotonic() + seconds, getattr(_call, "ends_s", math.inf)))

    @property
    def remaining_s(self) -> float:
        """Seconds that remain, 0 once it has passed."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time remains."""
        return self.remaining_s <= 0.0


_call = threading.local()


@contextmanager
def call_within(seconds: float) -> Iterator[None]:
    """End the waits of this thread `seconds` from now at the latest, whatever they wait for.

    Within another call, the earlier end counts.

    For callers that lose more than one call if it takes longer. Requests that other threads send
    for it continue.
    """
    before_s = getattr(_call, "ends_s", math.inf)
    _call.ends_s = min(before_s, time.monotonic() + seconds)
    try:
        yield
    finally:
        _call.ends_s = before_s


def call_remaining_s() -> float:
    """Return the seconds that the call of this thread has left, infinity if it has no limit."""
    ends_s = getattr(_call, "ends_s", math.inf)
    return float(ends_s - time.monotonic())
