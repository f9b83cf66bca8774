"""Blocks on their way: who fetches what, how many bytes at once, and who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future

from ego4dfs.blocks import ObjectRef, block_key

Flight = Future[memoryview]
"""A block on its way: its bytes, or why it did not come."""


class ByteBudget:
    """A bound on bytes in memory. Safe from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """Allow `max_bytes` at a time, and always at least one request."""
        self._max_bytes = max_bytes
        self._used = 0
        self._changed = threading.Condition()

    def take(self, amount: int, *, wait: bool) -> bool:
        """Take `amount` bytes; without `wait`, return False when they are not to be had now."""
        with self._changed:
            while self._used and self._used + amount > self._max_bytes:
                if not wait:
                    return False
                self._changed.wait()
            self._used += amount
            return True

    def give_back(self, amount: int) -> None:
        """Return bytes that were taken."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


class Flights:
    """Blocks that are being fetched or written to the cache, by key.

    A block is in flight from its claim until it is on disk, so a reader finds it here or there.
    Safe from several threads; the lock is never held over I/O.
    """

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Flight | None:
        """Return the flight of a block, or None."""
        return self._flights.get(key)

    def claim(self, ref: ObjectRef, indexes: Iterable[int]) -> dict[int, Flight]:
        """Return flights for the blocks that nobody fetches yet; they are the caller's to land."""
        claimed: dict[int, Flight] = {}
        with self._lock:
            for index in indexes:
                key = block_key(ref.object_id, index)
                if key not in self._flights:
                    claimed[index] = self._flights[key] = Future()
        return claimed

    def land(self, key: str, data: memoryview) -> None:
        """Give the block to all who wait for it; it stays in flight until `end`."""
        self._flights[key].set_result(data)

    def fail(self, key: str, error: BaseException) -> None:
        """Fail all who wait for the block, and end its flight: the next reader asks anew."""
        with self._lock:
            flight = self._flights.pop(key)
        flight.set_exception(error)

    def end(self, key: str) -> None:
        """End the flight of a block that is on disk, or will never be."""
        with self._lock:
            del self._flights[key]
