"""Thread pool of GETs, with limits for each bucket; recent failures are remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.arrivals import Arrivals
from ego4dfs.reader.fetch_locks import FetchLocks
from ego4dfs.reader.flight import Flight, Request
from ego4dfs.reader.flights import CLOSED, ByteBudget, Flights
from ego4dfs.reader.hedging import HedgedGet, Hedging, Overtaken
from ego4dfs.reader.response_sink import ResponseSink
from ego4dfs.runtime.daemon_threads import DaemonThreadPool
from ego4dfs.runtime.deadline import CLOSE_S
from ego4dfs.runtime.heap import keep_heap_trimmed
from ego4dfs.store import TOO_SLOW, CircuitOpen, ObjectStore

FETCH_THREADS = 24
"""For each bucket, for read-ahead."""
URGENT_THREADS = 96
"""For each bucket, for requests that a reader waits for: this many may hang before others queue."""
SLOW_FAILURE_S = 5.0
"""A failure that took longer is remembered: the kernel repeats such a read page by page."""
REMEMBERED_S = 5.0
"""How long it is remembered."""
NOT_SENT_S = 1.0
"""How long the failure of a request that was not sent is remembered: the next one may be sent."""


class FetchPool:
    """Sends GETs, each in a thread, and completes or fails their flights.

    Read-ahead uses fewer threads, until a reader waits for it. If no thread can be started, the
    caller's own is used. Safe from several threads; `_lock` guards `_recent_failures`.
    """

    def __init__(
        self,
        store: ObjectStore,
        flights: Flights,
        budget: ByteBudget,
        locks: FetchLocks,
        arrivals: Arrivals,
        on_complete: Callable[[ObjectRef, Flight, bool], None],
        hedging: Hedging | None = None,
    ) -> None:
        """Fetch from `store` what no other process fetches or has fetched, as `locks` says.

        `on_complete` is called with each flight that is complete, and whether it was fetched.
        `hedging` says when a second GET is sent for what a reader waits for.
        """
        self._store = store
        self._flights = flights
        self._budget = budget
        self._locks = locks
        self._arrivals = arrivals
        self._on_complete = on_complete
        self._hedging = hedging
        self._workers = DaemonThreadPool("fetch")
        self._recent_failures: dict[str, tuple[float, StoreUnavailable]] = {}
        self._lock = threading.Lock()
        self.closed = False

    def submit(
        self, ref: ObjectRef, flights: list[Flight], stream_before: int, *, urgent: bool
    ) -> None:
        """Fetch adjacent `flights` by one request; streamed if it begins before `stream_before`."""
        keep_heap_trimmed()  # not earlier: a program that forks has no threads before it reads
        if self.closed:
            self._fail_all(ref, flights, StoreUnavailable(CLOSED, url=ref.url))
        else:
            bucket = _bucket(ref)
            limit = URGENT_THREADS if urgent else FETCH_THREADS
            left_s = partial(self._arrivals.left_s, bucket=bucket)
            request = Request(flights, partial(self._remember_given_up, ref), left_s)
            request.is_hedged = self._hedging is not None
            download = partial(self._download, ref, request, stream_before)
            if not urgent:
                request.expedite = partial(self._workers.expedite, download, URGENT_THREADS)
            if not self._workers.submit(download, group=bucket, limit=limit):
                download()

    def recent_failure(self, ref: ObjectRef) -> StoreUnavailable | None:
        """Return the error with which reads of the object fail now, a new one each time."""
        kept = self._recent_failures.get(ref.object_id)
        if kept is None or time.monotonic() >= kept[0]:
            return None
        return StoreUnavailable(str(kept[1]), url=ref.url, hint=kept[1].hint)

    def close(self) -> None:
        """Wait for running requests for CLOSE_S / 2; then fail all reads that still wait."""
        self.closed = True
        self._locks.end_waits()
        if not self._workers.close(CLOSE_S / 2):
            self._flights.fail_all(StoreUnavailable(CLOSED))

    def _download(self, ref: ObjectRef, request: Request, stream_before: int) -> None:
        flights = request.flights
        arrived = partial(self._arrived, ref)
        sink = ResponseSink(ref.url, flights, partial(self._on_complete, ref), arrived)
        start, stop = flights[0].extent.start, flights[-1].extent.stop
        try:
            self._check_open(ref)
            taken = partial(self._taken, ref, request, sink)
            start = self._locks.wait(ref, start, stop, taken)
            request.start()
            for piece, data in self._locks.pieces(ref, start, stop):
                if data is not None:
                    taken(data)
                else:
                    self._fetch(ref, piece, request, sink, is_streamed=piece.start < stream_before)
            sink.check_complete()
        except BaseException as error:  # noqa: BLE001 - all readers must get it
            self._fail_all(ref, sink.incomplete, error)
        finally:
            request.end()

    def _fetch(
        self,
        ref: ObjectRef,
        piece: range,
        request: Request,
        sink: ResponseSink,
        *,
        is_streamed: bool,
    ) -> None:
        """Fetch adjacent bytes: by one GET, or by two of which the faster one goes on."""
        get = partial(self._get, ref, sink, is_streamed=is_streamed)
        if self._hedging is None:
            get(piece)
            return
        kind = _bucket(ref), 0 if is_streamed else len(piece).bit_length()
        submit = partial(self._workers.submit, group=_bucket(ref), limit=URGENT_THREADS)
        request.hedged = HedgedGet(self._hedging, kind, len(piece), partial(get, piece), submit)
        rest = range(0)
        try:
            request.hedged.send_first()
        except Overtaken:
            rest = range(sink.position, piece.stop)
        if rest:  # the second one has broken off
            get(rest)

    def _get(
        self,
        ref: ObjectRef,
        sink: ResponseSink,
        piece: range,
        take: Callable[[], None] = lambda: None,
        *,
        is_streamed: bool,
    ) -> None:
        """Fetch adjacent bytes by one GET; `take` is called before they are passed on."""
        self._check_open(ref)
        start, stop = piece.start, piece.stop

        def pass_on(offset: int, data: memoryview) -> None:
            take()
            sink(offset, data)

        if is_streamed:
            self._store.stream_range(ref.url, start, stop, pass_on, etag=ref.etag, size=ref.size)
        else:
            # Half the CPU time of a stream, which copies each byte and wakes us for each piece.
            fetched = self._store.read_range(ref.url, start, stop, etag=ref.etag, size=ref.size)
            take()
            sink.take_all(fetched.start, stop, fetched.data)

    def _check_open(self, ref: ObjectRef) -> None:
        if self.closed:  # no reader waits for what is still in the queue
            raise StoreUnavailable(CLOSED, url=ref.url)

    def _fail_all(self, ref: ObjectRef, flights: Iterable[Flight], error: BaseException) -> None:
        for flight in flights:
            if isinstance(error, StoreUnavailable) and flight.age_s >= SLOW_FAILURE_S:
                self._remember(ref, error, REMEMBERED_S)
            elif isinstance(error, CircuitOpen):
                self._remember(ref, error, NOT_SENT_S)
            self._budget.release(len(flight))
            self._locks.release(flight.extent)
            self._flights.fail(flight, error)

    def _arrived(self, ref: ObjectRef) -> None:
        self._arrivals.note(_bucket(ref))
        if self._recent_failures:
            with self._lock:
                self._recent_failures.pop(ref.object_id, None)

    def _taken(
        self, ref: ObjectRef, request: Request, sink: ResponseSink, data: memoryview
    ) -> None:
        """Take bytes of another process: from then on its progress counts, not the time in a queue.

        They say that bytes arrive, but not that the store answers this process.
        """
        self._arrivals.note(_bucket(ref))
        request.start()
        sink.add_cached(data)

    def _remember_given_up(self, ref: ObjectRef) -> None:
        error = StoreUnavailable(f"{ref.url}: {TOO_SLOW}", url=ref.url)
        self._remember(ref, error, REMEMBERED_S)

    def _remember(self, ref: ObjectRef, error: StoreUnavailable, seconds: float) -> None:
        now_s = time.monotonic()
        with self._lock:
            failures = self._recent_failures.items()
            self._recent_failures = {key: kept for key, kept in failures if now_s < kept[0]}
            self._recent_failures[ref.object_id] = (now_s + seconds, error)


def _bucket(ref: ObjectRef) -> str:
    return ref.url.partition("://")[2].partition("/")[0]
