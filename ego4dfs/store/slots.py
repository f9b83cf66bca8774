"""How many requests are under way for each bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ego4dfs.deadline import BEGIN_S
from ego4dfs.errors import StoreUnavailable


class Slots:
    """So many requests at a time for each bucket: a silent one takes nothing from the others.

    Safe from several threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._semaphores: dict[str, threading.BoundedSemaphore] = {}

    @contextmanager
    def taken(self, bucket: str, url: str) -> Iterator[None]:
        """Hold a slot. Raises StoreUnavailable when none is free within BEGIN_S."""
        with self._lock:
            semaphore = self._semaphores.get(bucket)
            if semaphore is None:
                semaphore = threading.BoundedSemaphore(self._most)
                self._semaphores[bucket] = semaphore
        if not semaphore.acquire(timeout=BEGIN_S):
            raise StoreUnavailable(
                f"{url}: {self._most} requests for this bucket are under way and none ends", url=url
            )
        try:
            yield
        finally:
            semaphore.release()
