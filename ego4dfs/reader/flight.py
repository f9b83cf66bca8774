"""One block or part that is being fetched, the GET that fetches it, and who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from math import inf

from ego4dfs.blocks import Extent
from ego4dfs.errors import StoreError, StoreUnavailable, detach, renewed
from ego4dfs.reader.arrivals import Arrivals
from ego4dfs.reader.hedging import MIN_DELAY_S, HedgedGet
from ego4dfs.runtime.deadline import (
    ANSWER_S,
    ATTEMPT_S,
    FLOOR_BYTES,
    THROTTLED_S,
    Deadline,
    call_remaining_s,
)
from ego4dfs.store import TOO_SLOW

SECONDS_PER_MIB = 60.0
"""What each MiB of a read adds to its time limit: large reads take long on slow lines."""
OVERDUE_S = 3.0
"""A flight is overdue if next to nothing has arrived for this long."""


class GivenUpError(StoreError):
    """A reader has waited for a request for as long as one may: it ends, and can be sent again."""


class Request:
    """The state that the flights of one GET share. The fetching thread and readers change it."""

    __slots__ = (
        "_moved_s",
        "_new_bytes",
        "_on_give_up",
        "expedite",
        "flights",
        "hedged",
        "is_given_up",
        "is_hedged",
        "is_started",
        "queue_left_s",
    )

    def __init__(
        self,
        flights: Iterable[Flight] = (),
        on_give_up: Callable[[], None] = lambda: None,
        queue_left_s: Callable[[float], float] | None = None,
    ) -> None:
        """Begin as one that is in the queue, for `flights`.

        `queue_left_s` says how much longer a reader waits for its turn, by when it began to; by
        default ANSWER_S in all.
        """
        self.flights = list(flights)
        self._on_give_up = on_give_up
        self.queue_left_s = queue_left_s or Arrivals().left_s
        self._new_bytes = 0  # since `_moved_s`
        self._moved_s = -inf  # when it had last brought FLOOR_BYTES
        self.expedite: Callable[[], None] | None = None  # called when a reader waits for it
        self.is_started = False  # whether it has left the queue
        self.is_given_up = False  # whether a reader has waited for it for as long as one may
        self.is_hedged = False  # whether a second GET is sent if the first one is late
        self.hedged: HedgedGet | None = None  # once the first one is sent
        for flight in self.flights:
            flight.request = self

    def start(self) -> None:
        """Record that it is being sent."""
        self.is_started, self.expedite = True, None

    def received(self, count: int) -> None:
        """Record that it has brought bytes."""
        self._new_bytes += count
        if self._new_bytes >= FLOOR_BYTES:
            self._new_bytes, self._moved_s = 0, time.monotonic()

    def is_filling(self, flight: Flight) -> bool:
        """Return whether bytes come, and this flight gets the next ones."""
        if time.monotonic() - self._moved_s >= ATTEMPT_S:
            return False
        return flight is next((f for f in self.flights if not f.has_arrived(len(f))), None)

    def hedge(self) -> float:
        """Send a second GET if the first one is late; return after how many seconds to call again.

        A reader that waits calls it.
        """
        hedged = self.hedged
        if hedged is None:
            return MIN_DELAY_S if self.is_hedged else inf
        late_in_s = hedged.late_in_s
        if late_in_s <= 0:
            hedged.send_second()
            return inf
        return late_in_s

    def end(self) -> None:
        """Forget the flights, which have ended: they refer to this, and have large buffers."""
        self.flights = []
        self.is_hedged, self.hedged = False, None

    def give_up(self) -> None:
        """Raise GivenUpError in readers that still wait, and in the sink at the next bytes.

        A request that was not sent yet is not given up.
        """
        if self.is_started:
            self.is_given_up = True
            self._on_give_up()
            for flight in self.flights:
                flight.notify()


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
        "extent",
        "request",
    )

    def __init__(self, extent: Extent) -> None:
        """Wait for the bytes of `extent`; memory is allocated when the first ones arrive."""
        self.extent = extent
        self.request = _UNSENT
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

        Pages of its buffer that were not written take no memory. The one that its request fills
        next is not overdue while bytes come: on a slow line it was requested long ago.
        """
        if self._arrived >= FLOOR_BYTES or self.age_s < OVERDUE_S:
            return False
        return not self.request.is_filling(self)

    @property
    def is_given_up(self) -> bool:
        """Whether new readers must request the bytes again: they have not arrived in time."""
        return self.request.is_given_up and self._arrived < len(self)

    def has_arrived(self, stop: int) -> bool:
        """Return whether the bytes before `stop` of the extent have arrived."""
        return self._arrived >= stop

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

    def notify(self) -> None:
        """Let those that wait look at the state of the request."""
        with self._changed:
            self._changed.notify_all()

    def read_into(self, start: int, view: memoryview, deadline: Deadline | None = None) -> None:
        """Fill `view` with the bytes from `start` of the extent on, once they have arrived.

        Raises the error of the flight; StoreUnavailable at the deadline, by default that of a read
        of this length, so that neither a library that hangs nor a slow connection blocks readers
        for ever; and GivenUpError if another reader of the same request has reached its deadline.
        """
        stop = start + len(view)
        if self._arrived < stop:
            self._wait_for(stop, deadline or read_deadline(len(view)))
        view[:] = self._data[start:stop]

    def wait_stored(self, timeout_s: float) -> bool:
        """Wait for all bytes, then `timeout_s` at most for the cache; return whether it has them.

        Raises the error of the flight, and StoreUnavailable if the bytes do not arrive in time.
        """
        size = len(self)
        try:
            self._wait_for(size, read_deadline(size))
        except GivenUpError as error:
            raise StoreUnavailable(str(error)) from None
        with self._changed:
            self._changed.wait_for(lambda: self._is_stored is not None, timeout_s)
            return bool(self._is_stored)

    def _wait_for(self, stop: int, deadline: Deadline) -> None:
        expedite = self.request.expedite
        if expedite is not None:
            expedite()
        with self._changed:
            if self._arrives(stop, deadline):
                return
        # Others may have more time than this call; and a request that has just begun, after this
        # reader had waited for another one or for the queue, is not slow.
        is_slow = deadline.has_passed and self.age_s >= ANSWER_S
        if is_slow and call_remaining_s() > 0:
            self.request.give_up()
        raise StoreUnavailable(TOO_SLOW)

    def _arrives(self, stop: int, deadline: Deadline) -> bool:
        """Wait for bytes up to `stop`; return False at the deadline. `_changed` is held."""
        began_s = time.monotonic()  # from now on: it may have waited in the queue for longer
        while self._arrived < stop:
            if self._error is not None:
                raise renewed(self._error)
            left_s = deadline.remaining_s
            if not self.request.is_started:
                left_s = min(left_s, self.request.queue_left_s(began_s))
            if left_s <= 0:
                return False
            if self.request.is_given_up:
                raise GivenUpError(TOO_SLOW)
            self._changed.wait(min(left_s, self.request.hedge()))
        return True

    def _progress(self, arrived: int) -> None:
        self.request.received(arrived - self._arrived)
        with self._changed:
            self._arrived = arrived
            self._changed.notify_all()


_UNSENT = Request()
"""The request of a flight that was claimed and not submitted yet."""


def read_deadline(size: int) -> Deadline:
    """Return the deadline of a read of `size` bytes that begins now."""
    return Deadline.after(THROTTLED_S + SECONDS_PER_MIB * size / 2**20)
