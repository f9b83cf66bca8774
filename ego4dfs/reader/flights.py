"""Single flight: the blocks and parts that are being fetched, by key, and bounds on bytes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable

from ego4dfs.blocks import BLOCK_SIZE, Extent
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.arrivals import Arrivals
from ego4dfs.reader.flight import Flight
from ego4dfs.runtime.deadline import THROTTLED_S, Deadline

MAX_UNWRITTEN_BYTES = 4 * BLOCK_SIZE
"""A reader goes on when no more than this is to be written: what a process loses when it is killed,
beside a few blocks that arrive at that moment."""
DISK_WAIT_S = 0.5
NO_DISK_WAIT_S = 10.0
SCARCE_S = 1.0
"""Memory is scarce when a read has waited for it for so long: a fast line frees some earlier."""

CLOSED = "the filesystem is closed"
_NO_MEMORY = "no memory became free: bytes of other reads do not arrive, or the disk takes none"
_NO_MEMORY_HINT = "`ego4dfs status` shows the state of the store and of the cache"
_POLL_S = 0.5  # how often a reader that waits for memory looks for overdue flights


class ByteBudget:
    """A bound on bytes in memory, which callers get in the order in which they ask.

    Safe from several threads; `_changed` guards all state.
    """

    def __init__(
        self,
        max_bytes: int,
        overdue_bytes: Callable[[], int] = lambda: 0,
        arrivals: Arrivals | None = None,
    ) -> None:
        """Allow `max_bytes` at a time, and always at least one request.

        `overdue_bytes` counts what was requested long ago and has not arrived: it takes no memory
        yet, and a store that hangs must not block other readers. Callers wait as long as
        `arrivals` come.
        """
        self._max_bytes = max_bytes
        self._overdue_bytes = overdue_bytes
        self._arrivals = arrivals or Arrivals()
        self._used = 0
        self._turns = itertools.count()
        self._waiting: dict[int, float] = {}  # since when each caller waits, by its turn
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        """Bytes that are acquired now."""
        return self._used

    @property
    def is_scarce(self) -> bool:
        """Whether a caller has waited for SCARCE_S."""
        with self._changed:
            since_s = next(iter(self._waiting.values()), None)
        return since_s is not None and time.monotonic() - since_s >= SCARCE_S

    def acquire(self, amount: int, *, wait: bool) -> bool:
        """Acquire `amount` bytes; without `wait`, return False when they are not free now.

        They are not free for that either while others wait: read-ahead comes after reads.
        Raises StoreUnavailable when they do not become free in time: ANSWER_S after the last
        arrival, or THROTTLED_S.
        """
        with self._changed:
            if wait:
                self._wait_for(amount)
            elif self._waiting or not self._fits(amount):
                return False
            self._used += amount
            return True

    def _fits(self, amount: int) -> bool:
        return not self._used or self._used + amount <= self._max_bytes

    def _wait_for(self, amount: int) -> None:
        """Wait until it is this caller's turn and `amount` bytes are free; `_changed` is held."""
        turn, began_s = next(self._turns), time.monotonic()
        deadline = Deadline.after(THROTTLED_S)
        self._waiting[turn] = began_s
        try:
            while not (turn == next(iter(self._waiting)) and self._may_take(amount)):
                if self._is_closed:
                    raise StoreUnavailable(CLOSED)
                if deadline.has_passed or not self._arrivals.left_s(began_s):
                    raise StoreUnavailable(_NO_MEMORY, hint=_NO_MEMORY_HINT)
                self._changed.wait(_POLL_S)
        finally:
            del self._waiting[turn]
            if self._waiting:
                self._changed.notify_all()  # there may be room for the next one, too

    def _may_take(self, amount: int) -> bool:
        if self._fits(amount):
            return True
        return self._used - self._overdue_bytes() + amount <= self._max_bytes

    def close(self) -> None:
        """Fail those that wait, and those that would have to wait later."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def release(self, amount: int) -> None:
        """Return bytes that were acquired."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


class Flights:
    """Blocks and parts that are being fetched or written to the cache, by key.

    An extent is in flight from its claim until it is on disk, so a reader finds it in one of the
    two. A flight that was given up is not found any more, and its extent can be claimed again.
    Safe from several threads; the lock is never held over I/O.
    """

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._flights: dict[str, Flight] = {}
        self._replaced: set[Flight] = set()  # given up, claimed again, and still being fetched
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flights) + len(self._replaced)

    def get(self, key: str) -> Flight | None:
        """Return the flight of a block or a part, or None."""
        flight = self._flights.get(key)
        return None if flight is None or flight.is_given_up else flight

    def claim(self, extents: Iterable[tuple[Extent, tuple[str, ...]]]) -> list[Flight]:
        """Return flights for the extents that are not being fetched; the caller must fetch them.

        With each extent come its key and those under which some of its bytes may be in flight.
        """
        claimed: list[Flight] = []
        with self._lock:
            for extent, keys in extents:
                if any(self.get(key) is not None for key in keys):
                    continue
                flight = Flight(extent)
                claimed.append(flight)
                before = self._flights.get(extent.key)
                if before is not None:
                    self._replaced.add(before)
                self._flights[extent.key] = flight
        return claimed

    def fail(self, flight: Flight, error: BaseException) -> None:
        """Remove the flight and raise `error` in its readers: the next one requests it again."""
        self.remove(flight)
        flight.fail(error)

    def fail_all(self, error: BaseException) -> None:
        """Raise `error` in all readers; what was requested may still arrive."""
        for flight in self._all():
            flight.fail(error)

    def overdue_bytes(self) -> int:
        """Count the bytes of the flights that are overdue."""
        return sum(len(flight) for flight in self._all() if flight.is_overdue)

    def remove(self, flight: Flight) -> None:
        """Remove a flight whose extent is on disk or has failed."""
        key = flight.extent.key
        with self._lock:
            self._replaced.discard(flight)
            if self._flights.get(key) is flight:
                del self._flights[key]

    def _all(self) -> list[Flight]:
        with self._lock:
            return [*self._flights.values(), *self._replaced]


class UnwrittenBytes:
    """Bytes that have arrived and are not on disk yet: they are lost when the process is killed.

    Safe from several threads.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._count = 0
        self._no_wait_until_s = 0.0
        self._changed = threading.Condition()

    def add(self, amount: int) -> None:
        """Count bytes that were handed to the cache; less than 0 for those it has written."""
        with self._changed:
            self._count += amount
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no more than MAX_UNWRITTEN_BYTES are left; not for long if the disk is slow.

        After DISK_WAIT_S no call waits for NO_DISK_WAIT_S.
        """
        if self._count <= MAX_UNWRITTEN_BYTES or time.monotonic() < self._no_wait_until_s:
            return
        with self._changed:
            if not self._changed.wait_for(self._are_few, DISK_WAIT_S):
                self._no_wait_until_s = time.monotonic() + NO_DISK_WAIT_S

    def _are_few(self) -> bool:
        return self._count <= MAX_UNWRITTEN_BYTES


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
