"""Circuit breaker: requests fail at once while a bucket, or the whole store, is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ego4dfs.store.classify import NoConnection, Unreachable

OPEN_S = 5.0
STALE_S = 30.0
"""After so long without a request the outage may be over: a read of two requests sends both."""
SILENT_OBJECTS = 2
"""How many different objects must go unanswered: a single one may be the cause itself."""
_EVERYWHERE = ""


class CircuitOpen(Unreachable):
    """The request was not sent: the store did not answer a moment ago."""


@dataclass(slots=True)
class _Outage:
    since_s: float
    retry_at_s: float
    reason: str


class Breaker:
    """Records which buckets do not answer, so that thousands of requests do not wait for each.

    The circuit of a bucket opens when no connection can be made, or when requests for
    `SILENT_OBJECTS` of its objects were not answered and no other request for the bucket was
    answered meanwhile. The circuit of all buckets opens only when no connection can be made to the
    one host that serves all of them, or to the hosts of two of them. After OPEN_S one request is
    sent, and its outcome decides. Safe from several threads.
    """

    def __init__(
        self,
        endpoint: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        one_host: bool = True,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._one_host = one_host
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}
        self._answered_s: dict[str, float] = {}
        self._silent: dict[str, set[str]] = {}  # by bucket, since its last answer
        self._unconnected: set[str] = set()  # buckets, since the last answer of any

    def check(self, bucket: str, url: str) -> None:
        """Raise CircuitOpen if the circuit is open and this request is not the next probe."""
        now_s = self._clock()
        with self._lock:
            for scope in (_EVERYWHERE, bucket):
                outage = self._outages.get(scope)
                if outage is None:
                    continue
                if now_s < outage.retry_at_s:
                    raise self._refusal(outage, now_s, url)
                if now_s < outage.retry_at_s + STALE_S:
                    outage.retry_at_s = now_s + OPEN_S
                else:
                    del self._outages[scope]

    def answered(self, bucket: str) -> None:
        """Record an answer; a refusal is one too."""
        with self._lock:
            self._answered_s[bucket] = self._clock()
            self._silent.pop(bucket, None)
            self._unconnected.clear()
            if self._outages:
                self._outages.pop(bucket, None)
                self._outages.pop(_EVERYWHERE, None)

    def give_up(self, bucket: str, url: str, began_s: float, error: Unreachable) -> None:
        """Record that a request, first sent at `began_s`, was not answered; see the class."""
        now_s = self._clock()
        with self._lock:
            if self._answered_s.get(bucket, 0.0) > began_s:
                return
            scope = self._scope(bucket, url, began_s, is_connected=type(error) is not NoConnection)
            if scope is None:
                return
            reason = str(error).rpartition(": ")[2]
            outage = self._outages.setdefault(scope, _Outage(began_s, 0.0, reason))
            outage.retry_at_s = now_s + OPEN_S

    def _scope(self, bucket: str, url: str, began_s: float, *, is_connected: bool) -> str | None:
        """Return whose circuit opens: a bucket, all buckets, or None; `_lock` is held."""
        if is_connected:
            silent = self._silent.setdefault(bucket, set())
            if len(silent) < SILENT_OBJECTS:
                silent.add(url)
            return bucket if len(silent) >= SILENT_OBJECTS else None
        self._unconnected.add(bucket)
        if any(answered_s > began_s for answered_s in self._answered_s.values()):
            return bucket
        return _EVERYWHERE if self._one_host or len(self._unconnected) > 1 else bucket

    def _refusal(self, outage: _Outage, now_s: float, url: str) -> CircuitOpen:
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - now_s + outage.since_s))
        return CircuitOpen(
            f"{url}: {self._endpoint} has not answered since {since} ({outage.reason})",
            url=url,
            hint="check the network",
        )
