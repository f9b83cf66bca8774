"""Hedge: when to send a request a second time because it takes far longer than others.

See "The Tail at Scale", https://research.google/pubs/the-tail-at-scale/: hedged requests.
"""

from __future__ import annotations

import threading
from collections import deque

from ego4dfs.blocks import PART_SIZE

MAX_BYTES = 4 * PART_SIZE
"""Longer requests are not sent again: they would cost many bytes."""
MIN_LATE_S = 0.1
"""No request is late before this."""
_TIMES, _QUANTILE = 3, 0.9
"""A request is late after three times what nine of ten others took at most."""
_KEPT, _NEEDED = 64, 16  # requests
_SHARE, _MAX_SAVED = 0.02, 4.0
"""One of 50 requests may be sent again, and four at a time after a long time without any."""


class Hedge:
    """How long the last requests took, and how many may be sent again.

    These are the requests of one store for MAX_BYTES or less. Safe from several threads.
    """

    def __init__(self) -> None:
        """Begin with no requests: none is late until some have been answered."""
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._late_s: float | None = None
        self._saved = _MAX_SAVED
        self._lock = threading.Lock()

    def late_s(self, size: int) -> float | None:
        """Return after how many seconds a request of `size` bytes is late; None if never."""
        return self._late_s if size <= MAX_BYTES else None

    def note(self, size: int, seconds: float) -> None:
        """Record that a request was answered."""
        if size > MAX_BYTES:
            return
        with self._lock:
            self._seconds.append(seconds)
            self._saved = min(_MAX_SAVED, self._saved + _SHARE)
            if len(self._seconds) >= _NEEDED:
                usual_s = sorted(self._seconds)[int(_QUANTILE * len(self._seconds))]
                self._late_s = max(MIN_LATE_S, _TIMES * usual_s)

    def take(self) -> bool:
        """Return whether one more request may be sent again now, and count it."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True
