"""Live counters of one mount or filesystem, shown by `ego4dfs status`."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from ego4dfs.access_patterns import AccessPatterns
from ego4dfs.activity import RecentReads, SlowRequests

RequestKind = Literal["head", "get", "manifest"]
RequestResult = Literal[
    "ok", "missing", "denied", "changed", "throttled", "interrupted", "no answer", "failed"
]
FileCall = Literal["open", "read"]
StoreState = Literal["not asked", "online", "offline", "key refused"]
"""State of the store, by the last request whose outcome shows it."""

NOT_ASKED: Final[StoreState] = "not asked"
ONLINE: Final[StoreState] = "online"
OFFLINE: Final[StoreState] = "offline"
KEY_REFUSED: Final[StoreState] = "key refused"

KINDS: Final[tuple[RequestKind, ...]] = get_args(RequestKind)
RESULTS: Final[tuple[RequestResult, ...]] = get_args(RequestResult)
NearState = Literal["off", "ok", "failing"]
"""State of the near tier: not used, used, or not asked for a while because requests failed."""

NEAR_OFF: Final[NearState] = "off"
NEAR_OK: Final[NearState] = "ok"
NEAR_FAILING: Final[NearState] = "failing"
NEAR_STATES: Final[tuple[NearState, ...]] = get_args(NearState)
STORE_STATES: Final[tuple[StoreState, ...]] = get_args(StoreState)
FILE_CALLS: Final[tuple[FileCall, ...]] = get_args(FileCall)

DURATION_BOUNDS_S: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the buckets of a Histogram; a last bucket has what took longer."""


class Histogram:
    """Durations, counted in buckets. Not safe from several threads: Metrics has the lock."""

    def __init__(self) -> None:
        self._counts = [0] * (len(DURATION_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def snapshot(self) -> dict[str, object]:
        """Return `sum_s`, and by upper bound how many durations were at most as long."""
        total, buckets = 0, {}
        for bound, count in zip((*DURATION_BOUNDS_S, "+Inf"), self._counts, strict=True):
            total += count
            buckets[str(bound)] = total
        return {"sum_s": round(self._sum_s, 6), "buckets": buckets}


@dataclass(slots=True)
class Metrics:
    """Counters since the start of the process.

    Safe from several threads: each counter is changed under one lock that is never held over I/O.
    `requests` counts attempts to send a request, retries included, and `results` those that have
    ended, with their durations in `durations`.
    """

    started_s: float = field(default_factory=time.monotonic)
    requests: dict[RequestKind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    results: dict[RequestKind, dict[RequestResult, int]] = field(
        default_factory=lambda: {kind: dict.fromkeys(RESULTS, 0) for kind in KINDS}
    )
    durations: dict[RequestKind, Histogram] = field(
        default_factory=lambda: {kind: Histogram() for kind in KINDS}
    )
    hedged_requests: int = 0
    bytes_fetched: int = 0
    bytes_served: int = 0
    bytes_from_cache: int = 0
    bytes_from_copies: int = 0
    bytes_from_near: int = 0
    bytes_to_near: int = 0
    near_failures: int = 0
    near: NearState = NEAR_OFF
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    verified: int = 0
    verify_failures: int = 0
    errors: int = 0
    read_errors: dict[FileCall, int] = field(default_factory=lambda: dict.fromkeys(FILE_CALLS, 0))
    open_files: int = 0
    last_error: str = ""
    metrics_url: str = ""
    """Where a Prometheus server can read these counters, or empty."""
    store: StoreState = NOT_ASKED
    throttled_answers: int = 0
    recent_reads: RecentReads = field(default_factory=RecentReads)
    slow_requests: SlowRequests = field(default_factory=SlowRequests)
    patterns: AccessPatterns = field(default_factory=AccessPatterns)
    _throttled_until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def offline(self) -> bool:
        """Whether the last request was not answered."""
        return self.store == OFFLINE

    @property
    def is_throttled(self) -> bool:
        """Whether requests wait now because the store asked to slow down."""
        return time.monotonic() < self._throttled_until_s

    def add_request(self, kind: RequestKind) -> None:
        """Count one request."""
        with self._lock:
            self.requests[kind] += 1

    def add_result(self, kind: RequestKind, result: RequestResult, seconds: float) -> None:
        """Count one request that has ended, and how long it took, its body included."""
        with self._lock:
            self.results[kind][result] += 1
            self.durations[kind].add(seconds)

    def add_hedged_request(self) -> None:
        """Count one GET that was sent because an earlier one for the same bytes was late."""
        with self._lock:
            self.hedged_requests += 1

    def add_bytes_fetched(self, count: int) -> None:
        """Count bytes that came from the store."""
        with self._lock:
            self.bytes_fetched += count

    def add_bytes_served(self, count: int, *, from_cache: int = 0) -> None:
        """Count bytes that a reader received, and how many of them were cached before the read."""
        with self._lock:
            self.bytes_served += count
            self.bytes_from_cache += from_cache

    def add_bytes_from_copies(self, count: int) -> None:
        """Count bytes that a reader received from a local copy, which are served bytes too."""
        with self._lock:
            self.bytes_from_copies += count
            self.bytes_served += count

    def add_bytes_from_near(self, count: int) -> None:
        """Count bytes that came from the near tier, and had their checksum."""
        with self._lock:
            self.bytes_from_near += count

    def add_bytes_to_near(self, count: int) -> None:
        """Count bytes that were written to the near tier."""
        with self._lock:
            self.bytes_to_near += count

    def add_near_failure(self) -> None:
        """Count one request to the near tier that failed, was slow, or brought damaged bytes."""
        with self._lock:
            self.near_failures += 1

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

    def add_read_error(self, call: FileCall) -> None:
        """Count one open or read of a file that a mount ended with an error."""
        with self._lock:
            self.read_errors[call] += 1

    def add_open_files(self, count: int) -> None:
        """Count files that a mount has opened, or with -1 closed."""
        with self._lock:
            self.open_files += count

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
                "results": {kind: dict(counts) for kind, counts in self.results.items()},
                "durations": {kind: one.snapshot() for kind, one in self.durations.items()},
                "hedged_requests": self.hedged_requests,
                "bytes_fetched": self.bytes_fetched,
                "bytes_served": self.bytes_served,
                "bytes_from_cache": self.bytes_from_cache,
                "bytes_from_copies": self.bytes_from_copies,
                "bytes_from_near": self.bytes_from_near,
                "bytes_to_near": self.bytes_to_near,
                "near": self.near,
                "near_failures": self.near_failures,
                "hits": self.hits,
                "misses": self.misses,
                "evictions": self.evictions,
                "verified": self.verified,
                "verify_failures": self.verify_failures,
                "errors": self.errors,
                "read_errors": dict(self.read_errors),
                "open_files": self.open_files,
                "last_error": self.last_error,
                "offline": self.offline,
                "store": self.store,
                "throttled": self.is_throttled,
                "throttled_answers": self.throttled_answers,
                "metrics_url": self.metrics_url,
            }
