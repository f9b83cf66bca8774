"""Who fetches what the flights wait for: threads shared out by bucket, and objects given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.flights import ByteBudget, Flight, Flights
from ego4dfs.reader.request import Request
from ego4dfs.runtime.deadline import CLOSE_S
from ego4dfs.runtime.workers import Workers
from ego4dfs.store import CircuitOpen, ObjectStore

FETCH_THREADS = 24
"""Of one bucket, for what nobody waits for yet."""
URGENT_THREADS = 96
"""Of one bucket, for what somebody waits for: requests that hang are that many before others have
to queue behind them."""
SLOW_FAILURE_S = 5.0
"""A failure that took longer is remembered: the kernel asks again page by page, at once."""
REMEMBERED_S = 5.0
NOT_SENT_S = 1.0
"""Likewise when it was not sent: what the kernel asks next may be let through, and wait."""
CLOSED = "the filesystem is closed"


class Dispatch:
    """Sends requests, one thread each, and tells their flights what came of them.

    What was asked for ahead waits for a thread until somebody waits for it.
    Where no thread is to be had, the caller's own is used. Safe from several threads; `_lock`
    guards `_given_up`.
    """

    def __init__(
        self,
        store: ObjectStore,
        flights: Flights,
        budget: ByteBudget,
        keep: Callable[[ObjectRef, Flight], None],
    ) -> None:
        """Fetch from `store`; `keep` is called with each flight that is complete."""
        self._store = store
        self._flights = flights
        self._budget = budget
        self._keep = keep
        self._workers = Workers("fetch")
        self._given_up: dict[str, tuple[float, StoreUnavailable]] = {}
        self._lock = threading.Lock()
        self.closed = False

    def send(self, ref: ObjectRef, flights: list[Flight], far: int, *, urgent: bool) -> None:
        """Fetch what `flights` are to bring; piece by piece what begins before `far`."""
        if self.closed:
            self._crash(ref, flights, StoreUnavailable(CLOSED, url=ref.url))
        elif (error := self._remembered(ref)) is not None:
            self._crash(ref, flights, error)
        else:
            group = ref.url.partition("://")[2].partition("/")[0]
            most = URGENT_THREADS if urgent else FETCH_THREADS
            fly = partial(self._fly, ref, flights, far)
            if not urgent:
                hurry = partial(self._workers.hurry, fly, URGENT_THREADS)
                for flight in flights:
                    flight.hurry = hurry
            if not self._workers.submit(fly, group=group, most=most):
                fly()

    def close(self) -> None:
        """Wait for requests under way, for a bounded time; then fail who still waits for them."""
        self.closed = True
        if not self._workers.close(CLOSE_S / 2):
            self._flights.fail_all(StoreUnavailable(CLOSED))

    def _fly(self, ref: ObjectRef, flights: list[Flight], far: int) -> None:
        request = Request(ref.url, flights, partial(self._keep, ref))
        start, stop = flights[0].entry.start, flights[-1].entry.stop
        for flight in flights:
            flight.is_begun, flight.hurry = True, None
        try:
            if self.closed:  # nobody waits for what is still in the queue
                raise StoreUnavailable(CLOSED, url=ref.url)  # noqa: TRY301 - as other errors
            if start < far:
                self._store.stream_range(
                    ref.url, start, stop, request, etag=ref.etag, size=ref.size
                )
            else:
                # Half the CPU time of a stream, which copies each byte and wakes us for each piece.
                fetched = self._store.read_range(ref.url, start, stop, etag=ref.etag, size=ref.size)
                request.land(fetched.start, fetched.data)
            request.check_end()
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            self._crash(ref, request.waiting, error)

    def _crash(self, ref: ObjectRef, flights: Iterable[Flight], error: BaseException) -> None:
        for flight in flights:
            if isinstance(error, StoreUnavailable) and flight.age_s >= SLOW_FAILURE_S:
                self._remember(ref, error, REMEMBERED_S)
            elif isinstance(error, CircuitOpen):
                self._remember(ref, error, NOT_SENT_S)
            self._budget.give_back(len(flight))
            self._flights.fail(flight, error)

    def _remember(self, ref: ObjectRef, error: StoreUnavailable, seconds: float) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._given_up = {key: kept for key, kept in self._given_up.items() if now_s < kept[0]}
            self._given_up[ref.object_id] = (now_s + seconds, error)

    def _remembered(self, ref: ObjectRef) -> StoreUnavailable | None:
        """Return the error with which requests for the object fail now, a new one each time."""
        kept = self._given_up.get(ref.object_id)
        if kept is None or time.monotonic() >= kept[0]:
            return None
        return StoreUnavailable(str(kept[1]), url=ref.url, hint=kept[1].hint)
