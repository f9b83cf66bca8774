"""The HTTP clients of one store: how many there are, how long each waits, and when one is renewed.

A client holds a pool of connections. Those die without a sign when the network changes (VPN,
Wi-Fi, resume), so the wait for an answer is short, and what does not come in time is asked for
again with a new client, whose wait is long.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Client = TypeVar("Client")

FIRST_TIMEOUT_S = 3.0
"""How long an answer, or the next bytes of one, may take before the connection is doubted."""

RENEWED_S = 30.0
"""How long after a renewal the long time-out holds: whatever is slow then is the store."""

SLOW_S = 600.0
"""How long it holds for a store that was seen to need it."""

MOST_CLIENTS = 32


@dataclass(slots=True)
class _Pool(Generic[Client]):
    settings: Hashable
    timeout_s: float
    client: Client
    made_s: float


class ClientPool(Generic[Client]):
    """Clients by name: of buckets or of regions.

    At most MOST_CLIENTS are kept; the one not used for longest is let go of, and its connections
    end with its last request. Safe from several threads; `_lock` is held while a client is made.
    """

    def __init__(self, timeout_s: Callable[[], float]) -> None:
        """Make clients whose long time-out is `timeout_s()`."""
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pools: OrderedDict[str, _Pool[Client]] = OrderedDict()
        self._patient_until_s: dict[str, float] = {}

    def client(self, name: str, settings: Hashable, make: Callable[[float], Client]) -> Client:
        """Return the client of `name`, made by `make(read time-out)` when the settings changed."""
        with self._lock:
            timeout_s = self._current_timeout_s(name)
            pool = self._pools.get(name)
            if pool is None or (pool.settings, pool.timeout_s) != (settings, timeout_s):
                pool = _Pool(settings, timeout_s, make(timeout_s), time.monotonic())
                self._pools[name] = pool
            self._pools.move_to_end(name)
            while len(self._pools) > MOST_CLIENTS:
                self._pools.popitem(last=False)
            return pool.client

    def renew(self, name: str) -> None:
        """Make a new client for the next request, with new connections and the long time-out.

        Of many requests that fail together on dead connections only the first one does so.
        """
        with self._lock:
            pool = self._pools.get(name)
            age_s = time.monotonic() - pool.made_s if pool else 0.0
            if pool is None or age_s >= FIRST_TIMEOUT_S or name not in self._patient_until_s:
                self._pools.pop(name, None)
            self._be_patient(name, RENEWED_S)

    def answered(self, name: str, took_s: float) -> None:
        """Take note of how long an answer took to begin."""
        if took_s > FIRST_TIMEOUT_S:
            with self._lock:
                self._be_patient(name, SLOW_S)

    def clear(self) -> None:
        """Let go of all clients."""
        with self._lock:
            self._pools.clear()

    def _be_patient(self, name: str, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        self._patient_until_s[name] = max(until_s, self._patient_until_s.get(name, 0.0))

    def _current_timeout_s(self, name: str) -> float:
        """Return the read time-out that holds for `name` now; `_lock` is held."""
        until_s = self._patient_until_s.get(name)
        if until_s is not None and time.monotonic() < until_s:
            return self._timeout_s()
        self._patient_until_s.pop(name, None)
        return min(FIRST_TIMEOUT_S, self._timeout_s())
