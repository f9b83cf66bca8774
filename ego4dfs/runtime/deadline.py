"""Deadlines: how long each wait in the process may take, in one place.

A user did one thing: opened a file, read, asked for attributes. It ends within `ANSWER_S` when the
store is silent or sends next to nothing, within `THROTTLED_S` when the store asks to slow down.
The other figures follow from these two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

CONNECT_S = 5.0
QUIET_S = 10.0
"""A connection over which nothing came for so long is given up. Two attempts fit into `BEGIN_S`."""
ATTEMPT_S = 15.0
"""One request on a line that is not known to be slow; on a slow one `FLOOR_BYTES` must come in it.
Two attempts, the second begun before `BEGIN_S`, end within `ANSWER_S`."""
FLOOR_BYTES = 8 << 10
"""Less than this in `ATTEMPT_S` is no progress. A line of 1 Mbit/s that 200 requests share brings
more to each."""
BEGIN_S = 20.0
"""No attempt begins later than this after the first."""
ANSWER_S = 40.0
"""What a user did ends with an error after so long without progress."""
THROTTLED_S = 300.0
"""S3 throttles for minutes while it splits a partition; a program is to slow down, not to fail."""
CREDENTIALS_S = 30.0
"""A credential process, SSO or a machine's role hands out keys within this."""
CLOSE_S = 4.0
"""An unmount does not wait longer for what hangs."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, 0 once it has passed."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s <= 0.0
