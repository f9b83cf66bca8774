"""Live counters of one mount or filesystem, shown by `ego4dfs status`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final, Literal

RequestKind = Literal["head", "get", "manifest"]
StoreState = Literal["not asked", "online", "offline", "key refused"]
"""State of the store, by the last request whose outcome shows it."""

NOT_ASKED: Final[StoreState] = "not asked"
ONLINE: Final[StoreState] = "online"
OFFLINE: Final[StoreState] = "offline"
KEY_REFUSED: Final[StoreState] = "key refused"


@dataclass(slots=True)
class Metrics:
    """Counters since the start of the process.

    Safe from several threads: each counter is changed under one lock that is never held over I/O.
    `requests` counts attempts to send a request, retries included.
    """

    started_s: float = field(default_factory=time.monotonic)
    requests: dict[RequestKind, int] = field(
        default_factory=lambda: {"head": 0, "get": 0, "manifest": 0}
    )
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
    store: StoreState = NOT_ASKED
    throttled_answers: int = 0
    _throttled_until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def offline(self) -> bool:
        """Whether the last request was not answered."""
        return self.store == OFFLINE

    def add_request(self, kind: RequestKind) -> None:
        """Count one request."""
        with self._lock:
            self.requests[kind] += 1

    def add_bytes_fetched(self, count: int) -> None:
        """Count bytes that came from the store."""
        with self._lock:
            self.bytes_fetched += count

    def add_bytes_served(self, count: int) -> None:
        """Count bytes that a reader received, from any source."""
        with self._lock:
            self.bytes_served += count

    def add_bytes_from_copies(self, count: int) -> None:
        """Count bytes that a reader received from a local copy, which are served bytes too."""
        with self._lock:
            self.bytes_from_copies += count
            self.bytes_served += count

    def add_hit(self) -> None:
        """Count one block or part that was in the cache."""
        with self._lock:
            self.hits += 1

    def add_miss(self) -> None:
        """Count one block or part that was not in the cache."""
        with self._lock:
            self.misses += 1

    def add_evictions(self, count: int) -> None:
        """Count blocks that were removed from the cache to make room."""
        with self._lock:
            self.evictions += count

    def add_verified(self) -> None:
        """Count one object whose cached bytes agree with its ETag."""
        with self._lock:
            self.verified += 1

    def add_verify_failure(self) -> None:
        """Count one object whose cached bytes disagree with its ETag."""
        with self._lock:
            self.verify_failures += 1

    def add_error(self, message: str) -> None:
        """Count one error and keep its text as the last one."""
        with self._lock:
            self.errors += 1
            self.last_error = message

    def add_throttled_answer(self, until_s: float) -> None:
        """Count one answer that asked to slow down; requests wait until this monotonic time."""
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
