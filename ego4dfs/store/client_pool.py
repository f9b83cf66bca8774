"""Pool of HTTP clients: how many there are, their time-outs, and when one is replaced.

A client holds a pool of connections. These break without notice when the network changes (VPN,
Wi-Fi, resume). So the first time-out is short, and a request that exceeds it is repeated by a new
client with a long time-out.
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
"""How long a response, or its next bytes, may take before the connection counts as broken."""

RENEWED_S = 30.0
"""How long after a renewal the long time-out applies: a slow response is then the store's."""

SLOW_S = 600.0
"""How long the long time-out applies after a response that needed it."""

MAX_CLIENTS = 32


@dataclass(slots=True)
class _Pool(Generic[Client]):
    settings: Hashable
    timeout_s: float
    client: Client
    made_s: float


class ClientPool(Generic[Client]):
    """Clients by name: of buckets or of regions.

    At most MAX_CLIENTS are kept; the least recently used is dropped, and its connections end with
    its last request. Safe from several threads; `_lock` is held while a client is made.
    """

    def __init__(self, timeout_s: Callable[[], float]) -> None:
        """Create an empty pool; `timeout_s()` is the long time-out of its clients."""
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pools: OrderedDict[str, _Pool[Client]] = OrderedDict()
        self._long_until_s: dict[str, float] = {}

    def client(self, name: str, settings: Hashable, make: Callable[[float], Client]) -> Client:
        """Return the client of `name`; `make(read time-out)` creates it when settings changed."""
        with self._lock:
            timeout_s = self._current_timeout_s(name)
            pool = self._pools.get(name)
            if pool is None or (pool.settings, pool.timeout_s) != (settings, timeout_s):
                pool = _Pool(settings, timeout_s, make(timeout_s), time.monotonic())
                self._pools[name] = pool
            self._pools.move_to_end(name)
            while len(self._pools) > MAX_CLIENTS:
                self._pools.popitem(last=False)
            return pool.client

    def renew(self, name: str) -> None:
        """Use a new client for the next request, with new connections and the long time-out.

        If many requests fail together on broken connections, only the first has this effect.
        """
        with self._lock:
            pool = self._pools.get(name)
            age_s = time.monotonic() - pool.made_s if pool else 0.0
            if pool is None or age_s >= FIRST_TIMEOUT_S or name not in self._long_until_s:
                self._pools.pop(name, None)
            self._use_long_timeout(name, RENEWED_S)

    def answered(self, name: str, took_s: float) -> None:
        """Record how long a response took to begin."""
        if took_s > FIRST_TIMEOUT_S:
            with self._lock:
                self._use_long_timeout(name, SLOW_S)

    def clear(self) -> None:
        """Drop all clients."""
        with self._lock:
            self._pools.clear()

    def _use_long_timeout(self, name: str, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        self._long_until_s[name] = max(until_s, self._long_until_s.get(name, 0.0))

    def _current_timeout_s(self, name: str) -> float:
        """Return the read time-out of `name` now; `_lock` is held."""
        until_s = self._long_until_s.get(name)
        if until_s is not None and time.monotonic() < until_s:
            return self._timeout_s()
        self._long_until_s.pop(name, None)
        return min(FIRST_TIMEOUT_S, self._timeout_s())
