"""Bytes on their way: who fetches what, how many bytes at once, and who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from ego4dfs.blocks import Entry
from ego4dfs.errors import StoreUnavailable
from ego4dfs.runtime.deadline import ANSWER_S, FLOOR_BYTES, THROTTLED_S, Deadline

MIB_S = 60.0
"""A read may take longer by this for each MiB of it: slow lines are slow for large reads."""
OVERDUE_S = 3.0
_LOOK_S = 0.5  # so often a reader that waits for memory looks for what is overdue


class ByteBudget:
    """A bound on bytes in memory. Safe from several threads."""

    def __init__(self, max_bytes: int, overdue_bytes: Callable[[], int] = lambda: 0) -> None:
        """Allow `max_bytes` at a time, and always at least one request.

        `overdue_bytes` is how much of what was taken was waited for and did not come: it takes no
        memory yet, and a store that hangs must not keep others waiting.
        """
        self._max_bytes = max_bytes
        self._overdue_bytes = overdue_bytes
        self._used = 0
        self._changed = threading.Condition()

    def take(self, amount: int, *, wait: bool) -> bool:
        """Take `amount` bytes; without `wait`, return False when they are not to be had now.

        Raises StoreUnavailable when they are not to be had in time.
        """
        deadline = Deadline.after(ANSWER_S)
        with self._changed:
            while self._used and self._used + amount > self._max_bytes:
                if not wait:
                    return False
                if self._used - self._overdue_bytes() + amount <= self._max_bytes:
                    break
                if deadline.has_passed:
                    raise StoreUnavailable("bytes that wait for the disk fill the memory for them")
                self._changed.wait(_LOOK_S)
            self._used += amount
            return True

    def give_back(self, amount: int) -> None:
        """Return bytes that were taken."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


class Flight:
    """A block or a part on its way: what of it has come, or why the rest will not.

    One thread hands bytes in, in order; any number take out what has come, without waiting for
    the rest. Safe from several threads.
    """

    __slots__ = ("_arrived", "_changed", "_data", "_error", "_made_s", "entry", "hurry", "is_begun")

    def __init__(self, entry: Entry) -> None:
        """Wait for the bytes of `entry`; memory is taken when the first ones come."""
        self.entry = entry
        self.hurry: Callable[[], None] | None = None  # called when somebody waits for it in a queue
        self.is_begun = False  # whether the request has left the queue
        self._made_s = time.monotonic()
        self._data = memoryview(b"")
        self._arrived = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition(threading.Lock())

    def __len__(self) -> int:
        """Count the bytes that are to come in all."""
        return self.entry.stop - self.entry.start

    @property
    def age_s(self) -> float:
        """Seconds since somebody asked for it."""
        return time.monotonic() - self._made_s

    @property
    def is_overdue(self) -> bool:
        """Whether it has been waited for for a while and next to nothing has come.

        Of its memory, pages that were not written to take no room.
        """
        return self._arrived < FLOOR_BYTES and self.age_s >= OVERDUE_S

    @property
    def data(self) -> memoryview:
        """The bytes; only once all have come."""
        return self._data

    def arrive(self, data: memoryview) -> int:
        """Take the next bytes out of `data` and return how many those were."""
        if not self._arrived:
            self._data = memoryview(bytearray(len(self)))
        start = self._arrived
        count = min(len(self) - start, len(data))
        self._data[start : start + count] = data[:count]
        self._progress(start + count)
        return count

    def land(self, data: memoryview) -> None:
        """Take all bytes at once, without a copy."""
        self._data = data
        self._progress(len(data))

    def fail(self, error: BaseException) -> None:
        """Fail all who wait for bytes that have not come."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `start` of the entry on, once they have come.

        Raises what the flight failed with, and StoreUnavailable when its time is over: a library
        that hangs keeps its thread, and nobody else.
        """
        stop = start + len(view)
        if self._arrived < stop:
            self._wait_for(stop, Deadline.after(THROTTLED_S + MIB_S * len(view) / 2**20))
        view[:] = self._data[start:stop]

    def _wait_for(self, stop: int, deadline: Deadline) -> None:
        hurry = self.hurry
        if hurry is not None:
            hurry()
        begin = Deadline.after(ANSWER_S)  # from now: in the queue it may have been for longer
        with self._changed:
            while self._arrived < stop:
                if self._error is not None:
                    raise self._error
                left_s = deadline.remaining_s
                if not self.is_begun:
                    left_s = min(left_s, begin.remaining_s)
                if left_s <= 0:
                    self._error = StoreUnavailable("the store did not send enough in time")
                    raise self._error
                self._changed.wait(left_s)

    def _progress(self, arrived: int) -> None:
        with self._changed:
            self._arrived = arrived
            self._changed.notify_all()


class Flights:
    """Blocks and parts that are being fetched or written to the cache, by key.

    One is in flight from its claim until it is on disk, so a reader finds it here or there.
    Safe from several threads; the lock is never held over I/O.
    """

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Flight | None:
        """Return the flight of a block or a part, or None."""
        return self._flights.get(key)

    def claim(self, entries: Iterable[tuple[Entry, tuple[str, ...]]]) -> list[Flight]:
        """Return flights for the entries that nobody fetches yet; they are the caller's to land.

        With each entry come the keys under which some of its bytes may be in flight as well.
        """
        claimed: list[Flight] = []
        with self._lock:
            for entry, others in entries:
                if entry.key in self._flights or any(key in self._flights for key in others):
                    continue
                flight = self._flights[entry.key] = Flight(entry)
                claimed.append(flight)
        return claimed

    def fail(self, flight: Flight, error: BaseException) -> None:
        """Fail all who wait, and end the flight: the next reader asks anew."""
        self.end(flight.entry.key)
        flight.fail(error)

    def fail_all(self, error: BaseException) -> None:
        """Fail all who wait for anything; what is under way may still arrive."""
        for flight in list(self._flights.values()):
            flight.fail(error)

    def overdue_bytes(self) -> int:
        """Count the bytes that were asked for a while ago and of which none have come."""
        return sum(len(flight) for flight in list(self._flights.values()) if flight.is_overdue)

    def end(self, key: str) -> None:
        """End the flight of what is on disk, or will never be."""
        with self._lock:
            del self._flights[key]


class Soon:
    """Blocks that are fetched before anybody asks, a few at a time. Safe from several threads."""

    def __init__(self, flights: Flights, most: int) -> None:
        """Let at most `most` of `flights` be of that kind."""
        self._flights = flights
        self._most = most
        self._entering: set[str] = set()
        self._flying: set[str] = set()
        self._lock = threading.Lock()  # guards both sets

    def enter(self, key: str) -> bool:
        """Take a place for a block that is about to be claimed; call `entered` when it is."""
        with self._lock:
            if key in self._entering or len(self._entering) + len(self) >= self._most:
                return False
            self._entering.add(key)
            return True

    def entered(self, key: str) -> None:
        """Note that the block is claimed, or will not be; its place is free once it has landed."""
        with self._lock:
            self._entering.discard(key)
            self._flying.add(key)
            self._flying = {key for key in self._flying if self._flights.get(key) is not None}

    def __len__(self) -> int:
        """Count those that are on their way."""
        return sum(self._flights.get(key) is not None for key in tuple(self._flying))
