"""Single flight: each block or part that is being fetched, who waits for it, and memory bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager

from ego4dfs.blocks import Extent
from ego4dfs.errors import StoreUnavailable, detach, renewed
from ego4dfs.runtime.deadline import (
    ANSWER_S,
    FLOOR_BYTES,
    THROTTLED_S,
    Deadline,
    call_remaining_s,
)
from ego4dfs.runtime.watch import Watches

SECONDS_PER_MIB = 60.0
"""What each MiB of a read adds to its time limit: large reads take long on slow lines."""
OVERDUE_S = 3.0
"""A flight is overdue if next to nothing has arrived for this long."""
_POLL_S = 0.5  # how often a reader that waits for memory looks for overdue flights


class ByteBudget:
    """A bound on bytes in memory. Safe from several threads."""

    def __init__(self, max_bytes: int, overdue_bytes: Callable[[], int] = lambda: 0) -> None:
        """Allow `max_bytes` at a time, and always at least one request.

        `overdue_bytes` counts what was requested long ago and has not arrived: it takes no memory
        yet, and a store that hangs must not block other readers.
        """
        self._max_bytes = max_bytes
        self._overdue_bytes = overdue_bytes
        self._used = 0
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        """Bytes that are acquired now."""
        return self._used

    def acquire(self, amount: int, *, wait: bool) -> bool:
        """Acquire `amount` bytes; without `wait`, return False when they are not free now.

        Raises StoreUnavailable when they do not become free in time.
        """
        deadline: Deadline | None = None
        with self._changed:
            while self._used and self._used + amount > self._max_bytes:
                if not wait:
                    return False
                if self._used - self._overdue_bytes() + amount <= self._max_bytes:
                    break
                deadline = deadline or Deadline.after(ANSWER_S)
                if deadline.has_passed:
                    raise StoreUnavailable("the memory for bytes that wait for the disk is full")
                self._changed.wait(_POLL_S)
            self._used += amount
            return True

    def release(self, amount: int) -> None:
        """Return bytes that were acquired."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


class Flight:
    """One block or part that is being fetched: the bytes that have arrived, or the error.

    One thread adds bytes, in order; any number read what has arrived, without waiting for the
    rest. Safe from several threads.
    """

    __slots__ = (
        "_arrived",
        "_changed",
        "_created_s",
        "_data",
        "_error",
        "_is_stored",
        "expedite",
        "extent",
        "is_started",
    )

    def __init__(self, extent: Extent) -> None:
        """Wait for the bytes of `extent`; memory is allocated when the first ones arrive."""
        self.extent = extent
        self.expedite: Callable[[], None] | None = None  # called when a reader waits for it
        self.is_started = False  # whether the request has left the queue
        self._created_s = time.monotonic()
        self._data = memoryview(b"")
        self._arrived = 0
        self._error: BaseException | None = None
        self._is_stored: bool | None = None  # None until the cache has reported
        self._changed = threading.Condition(threading.Lock())

    def __len__(self) -> int:
        """Count the bytes of the extent."""
        return self.extent.stop - self.extent.start

    @property
    def age_s(self) -> float:
        """Seconds since it was requested."""
        return time.monotonic() - self._created_s

    @property
    def is_overdue(self) -> bool:
        """Whether it was requested OVERDUE_S ago and fewer than FLOOR_BYTES have arrived.

        Pages of its buffer that were not written take no memory.
        """
        return self._arrived < FLOOR_BYTES and self.age_s >= OVERDUE_S

    @property
    def data(self) -> memoryview:
        """The bytes; only once all have arrived."""
        return self._data

    def append(self, data: memoryview) -> int:
        """Copy the next bytes from `data` and return how many were needed."""
        if not self._arrived:
            self._data = memoryview(bytearray(len(self)))
        start = self._arrived
        count = min(len(self) - start, len(data))
        self._data[start : start + count] = data[:count]
        self._progress(start + count)
        return count

    def complete(self, data: memoryview) -> None:
        """Take all bytes at once, without a copy."""
        self._data = data
        self._progress(len(data))

    def fail(self, error: BaseException) -> None:
        """Raise `error` in all readers that wait for bytes that have not arrived."""
        with self._changed:
            self._error = detach(error)
            self._changed.notify_all()

    def report_stored(self, *, is_stored: bool) -> None:
        """Record whether the cache has stored the bytes."""
        with self._changed:
            self._is_stored = is_stored
            self._changed.notify_all()

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `start` of the extent on, once they have arrived.

        Raises the error of the flight, and StoreUnavailable at its deadline, so that a library
        that hangs does not block readers for ever.
        """
        stop = start + len(view)
        if self._arrived < stop:
            self._wait_for(stop, Deadline.after(THROTTLED_S + SECONDS_PER_MIB * len(view) / 2**20))
        view[:] = self._data[start:stop]

    def wait_stored(self, timeout_s: float) -> bool:
        """Wait for all bytes, then `timeout_s` at most for the cache; return whether it has them.

        Raises what `read_into` raises.
        """
        size = len(self)
        self._wait_for(size, Deadline.after(THROTTLED_S + SECONDS_PER_MIB * size / 2**20))
        with self._changed:
            self._changed.wait_for(lambda: self._is_stored is not None, timeout_s)
            return bool(self._is_stored)

    def _wait_for(self, stop: int, deadline: Deadline) -> None:
        expedite = self.expedite
        if expedite is not None:
            expedite()
        start = Deadline.after(ANSWER_S)  # from now on: it may have waited in the queue for longer
        with self._changed:
            while self._arrived < stop:
                if self._error is not None:
                    raise renewed(self._error)
                left_s = deadline.remaining_s
                if not self.is_started:
                    left_s = min(left_s, start.remaining_s)
                if left_s <= 0:
                    text = "the store did not send enough in time"
                    if call_remaining_s() > 0:  # else others may have more time than this call
                        self._error = StoreUnavailable(text)
                    raise StoreUnavailable(text)
                self._changed.wait(left_s)

    def _progress(self, arrived: int) -> None:
        with self._changed:
            self._arrived = arrived
            self._changed.notify_all()


class Flights:
    """Blocks and parts that are being fetched or written to the cache, by key.

    An extent is in flight from its claim until it is on disk, so a reader finds it in one of the
    two. Safe from several threads; the lock is never held over I/O.
    """

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()
        self._watches = Watches(self._lock)

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: str) -> Flight | None:
        """Return the flight of a block or a part, or None."""
        return self._flights.get(key)

    def ended(self) -> AbstractContextManager[AbstractSet[str]]:
        """Collect the keys that leave within the block: they are on disk, or have failed."""
        return self._watches.changes()

    def claim(
        self,
        extents: Iterable[tuple[Extent, tuple[str, ...]]],
        ended: AbstractSet[str] = frozenset(),
    ) -> list[Flight]:
        """Return flights for the extents that are not being fetched; the caller must fetch them.

        With each extent come its key and those under which some of its bytes may be in flight.
        Extents with a key in `ended` are left out: whether they are missing must be checked again.
        """
        claimed: list[Flight] = []
        with self._lock:
            for extent, keys in extents:
                if any(key in self._flights or key in ended for key in keys):
                    continue
                flight = self._flights[extent.key] = Flight(extent)
                claimed.append(flight)
        return claimed

    def fail(self, flight: Flight, error: BaseException) -> None:
        """Remove the flight and raise `error` in its readers: the next one requests it again."""
        self.remove(flight.extent.key)
        flight.fail(error)

    def fail_all(self, error: BaseException) -> None:
        """Raise `error` in all readers; what was requested may still arrive."""
        for flight in list(self._flights.values()):
            flight.fail(error)

    def overdue_bytes(self) -> int:
        """Count the bytes of the flights that are overdue."""
        return sum(len(flight) for flight in list(self._flights.values()) if flight.is_overdue)

    def remove(self, key: str) -> None:
        """Remove the flight of an extent that is on disk or has failed."""
        with self._lock:
            del self._flights[key]
            self._watches.note(key)


class SpeculativeSlots:
    """A bound on blocks that are fetched before a reader wants them. Safe from several threads."""

    def __init__(self, flights: Flights, max_blocks: int) -> None:
        """Let at most `max_blocks` of `flights` be speculative."""
        self._flights = flights
        self._max_blocks = max_blocks
        self._reserved: set[str] = set()
        self._in_flight: set[str] = set()
        self._lock = threading.Lock()  # guards both sets

    def reserve(self, key: str) -> bool:
        """Reserve a slot for a block that is about to be claimed; False when none is free."""
        with self._lock:
            if key in self._reserved or len(self._reserved) + len(self) >= self._max_blocks:
                return False
            self._reserved.add(key)
            return True

    def submitted(self, key: str) -> None:
        """End a reservation: the slot is free once the block is not in flight any more."""
        with self._lock:
            self._reserved.discard(key)
            self._in_flight.add(key)
            self._in_flight = {key for key in self._in_flight if self._flights.get(key) is not None}

    def __len__(self) -> int:
        """Count those that are in flight."""
        return sum(self._flights.get(key) is not None for key in tuple(self._in_flight))
