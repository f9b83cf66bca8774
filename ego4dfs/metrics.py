"""Live counters of one mount or filesystem, shown by `ego4dfs status`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

NOT_ASKED, ONLINE, OFFLINE, KEY_REFUSED = "not asked", "online", "offline", "key refused"
"""States of the store, by the last request that says something about it."""


@dataclass(slots=True)
class Metrics:
    """Counters since the start; all byte figures are bytes.

    Safe from several threads: each counter is changed under one lock that is never held over I/O.
    `requests` counts attempts that reached for the network, retries included.
    """

    started_s: float = field(default_factory=time.monotonic)
    requests: dict[str, int] = field(default_factory=lambda: {"head": 0, "get": 0, "manifest": 0})
    bytes_fetched: int = 0
    bytes_served: int = 0
    bytes_from_copies: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    verified: int = 0
    verify_failures: int = 0
    errors: int = 0
    last_error: str = ""
    store: str = NOT_ASKED
    throttled_answers: int = 0
    _throttled_until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def offline(self) -> bool:
        """Whether the last request found nobody to answer."""
        return self.store == OFFLINE

    def request(self, kind: str) -> None:
        """Count one request of kind `head`, `get` or `manifest`."""
        with self._lock:
            self.requests[kind] += 1

    def add(self, counter: str, amount: int = 1) -> None:
        """Add `amount` to the counter of that name."""
        with self._lock:
            setattr(self, counter, getattr(self, counter) + amount)

    def error(self, message: str) -> None:
        """Count one error and keep its text as the last one."""
        with self._lock:
            self.errors += 1
            self.last_error = message

    def throttle(self, until_s: float) -> None:
        """Count one answer that asked to slow down, obeyed until this monotonic time."""
        with self._lock:
            self.throttled_answers += 1
            self._throttled_until_s = max(self._throttled_until_s, until_s)

    def snapshot(self) -> dict[str, object]:
        """Return the counters as plain values, consistent with each other."""
        with self._lock:
            return {
                "uptime_s": round(time.monotonic() - self.started_s, 3),
                "requests": dict(self.requests),
                "bytes_fetched": self.bytes_fetched,
                "bytes_served": self.bytes_served,
                "bytes_from_copies": self.bytes_from_copies,
                "hits": self.hits,
                "misses": self.misses,
                "evictions": self.evictions,
                "verified": self.verified,
                "verify_failures": self.verify_failures,
                "errors": self.errors,
                "last_error": self.last_error,
                "offline": self.offline,
                "store": self.store,
                "throttled": time.monotonic() < self._throttled_until_s,
                "throttled_answers": self.throttled_answers,
            }
