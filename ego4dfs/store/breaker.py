"""Fail at once while a store is known to be gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ego4dfs.store.classify import Unreachable

OPEN_S = 5.0
_EVERYWHERE = ""


class CircuitOpen(Unreachable):
    """The request was not sent: the store did not answer a moment ago."""


@dataclass(slots=True)
class _Outage:
    since_s: float
    retry_at_s: float
    reason: str


class Breaker:
    """Remember which buckets do not answer, so that ten thousand requests do not wait for each.

    A bucket is given up when the patience with one request for it is spent and no other request
    for it was answered meanwhile; if no bucket answered either, all are. After OPEN_S one request
    is let through, and its outcome decides. Safe from several threads.
    """

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}
        self._answered_s: dict[str, float] = {}

    def check(self, bucket: str, url: str) -> None:
        """Raise CircuitOpen when `bucket` is given up and this request is not the next probe."""
        now_s = self._clock()
        with self._lock:
            for outage in (self._outages.get(_EVERYWHERE), self._outages.get(bucket)):
                if outage is None:
                    continue
                if now_s < outage.retry_at_s:
                    raise self._refusal(outage, now_s, url)
                outage.retry_at_s = now_s + OPEN_S

    def answered(self, bucket: str) -> None:
        """Take note of any answer, refusals included."""
        with self._lock:
            self._answered_s[bucket] = self._clock()
            if self._outages:
                self._outages.pop(bucket, None)
                self._outages.pop(_EVERYWHERE, None)

    def give_up(self, bucket: str, began_s: float, reason: str) -> None:
        """Fail requests for OPEN_S; `began_s` is when the vain request was first sent."""
        now_s = self._clock()
        with self._lock:
            if self._answered_s.get(bucket, 0.0) > began_s:
                return
            alone = any(answered_s > began_s for answered_s in self._answered_s.values())
            scope = bucket if alone else _EVERYWHERE
            outage = self._outages.setdefault(scope, _Outage(began_s, 0.0, reason))
            outage.retry_at_s = now_s + OPEN_S

    def _refusal(self, outage: _Outage, now_s: float, url: str) -> CircuitOpen:
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - now_s + outage.since_s))
        return CircuitOpen(
            f"{url}: {self._endpoint} has not answered since {since} ({outage.reason})",
            url=url,
            hint="check the network; the store is tried again every few seconds",
        )
