"""The store that the rest of ego4dfs uses: an adapter with retries, limits and counters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.metrics import KEY_REFUSED, OFFLINE, ONLINE, Metrics, RequestKind
from ego4dfs.runtime.deadline import ANSWER_S, ATTEMPT_S, Deadline, call_remaining_s, call_within
from ego4dfs.runtime.forks import renew_lock_in_children
from ego4dfs.store.breaker import Breaker, CircuitOpen
from ego4dfs.store.bucket_limits import ConcurrencyLimit, Throttle
from ego4dfs.store.classify import (
    NoConnection,
    Stalled,
    Throttled,
    Unexplained,
    Unreachable,
    WrongRegion,
    is_past_end,
)
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.protocol import (
    Adapter,
    Fetched,
    ObjectFacts,
    ObjectStore,
    Sink,
    SinkEnded,
    WrongSize,
)
from ego4dfs.store.rate_limit import RateLimit
from ego4dfs.store.request_results import counted
from ego4dfs.store.retry import MANIFESTS, OBJECTS, RetryPolicy

Result = TypeVar("Result")
FIRST_BYTES = 64 << 10
"""What is expected of an object of unknown size, until some were fetched. More is asked for, and
a limit on bytes that counted all of it would slow down small files by the difference."""
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MAX_REMEDIES = 2  # one request may meet a wrong region and a renewed key


@dataclass(frozen=True, slots=True)
class Limiters:
    """What requests wait for before they are sent."""

    concurrency: ConcurrencyLimit
    throttle: Throttle
    bytes_per_s: RateLimit
    requests_per_s: RateLimit


@dataclass(frozen=True, slots=True)
class Transport:
    """The objects that all requests of one process use; a forked child creates its own."""

    adapter: Adapter
    credentials: Credentials | None
    breaker: Breaker
    limiters: Limiters


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of this store's users, which may send several requests."""

    transport: Transport
    throttled_until: Deadline
    """How long its requests may wait in all for a store that throttles."""


class ResilientStore:
    """An ObjectStore that retries transient failures, and nothing else.

    The number of running requests is limited for each bucket. StoreUnavailable is retried with
    back-off; a rejected key once the AWS chain has another; a wrong region once the right one is
    known. When a bucket throttles, all requests for it wait. When it is down, further requests
    fail at once.

    Safe from several threads. A forked child makes a Transport of its own, because locks that are
    held and threads that run in the parent do not work in the child; `_lock` guards its creation.
    """

    def __init__(
        self, source: str, metrics: Metrics, make_transport: Callable[[], Transport]
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._make_transport = make_transport
        self._made: Transport | None = None
        self._inherited: list[Transport] = []
        # A running mean of the bytes in first answers; a race of two threads loses one value.
        self._first_bytes: float = FIRST_BYTES
        self.renew_lock()
        renew_lock_in_children(self)

    def renew_lock(self) -> None:
        """Begin without a Transport, as a forked child does."""
        if self._made is not None:
            # Kept: to delete it would close connections that the parent still uses.
            self._inherited.append(self._made)
        self._made = None
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore. A HEAD refused without a reason is followed by a GET of one byte."""
        return self._with_retries(url, OBJECTS, lambda call: self._head(call, url))

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        began_s = time.monotonic()
        expected = stop - start if etag else min(stop - start, int(self._first_bytes))
        wanted = range(start, stop) if start >= 0 else range(0)  # what is not known has no place

        def request(store: ObjectStore) -> Fetched:
            fetched = store.read_range(url, start, stop, etag=etag, size=size)
            self._transport().limiters.bytes_per_s.give_back(expected - len(fetched.data))
            return fetched

        try:
            fetched = self._with_retries(
                url, OBJECTS, lambda call: self._send(call, "get", url, request, wanted, expected)
            )
        except StoreError as error:
            self._check_size(url, size, error, began_s)
            raise
        if not etag and start >= 0:
            self._first_bytes += (len(fetched.data) - self._first_bytes) / 8
        self._metrics.add_bytes_fetched(len(fetched.data))
        return fetched

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Sink,
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        """See ObjectStore. A retry requests only what was not passed on yet."""
        counting, began_s = _CountingSink(start, sink, self._metrics), time.monotonic()

        def request(store: ObjectStore) -> None:
            if counting.position == stop:  # the attempt that failed had brought all
                return
            store.stream_range(url, counting.position, stop, counting, etag=etag, size=size)

        try:
            self._with_retries(
                url,
                OBJECTS,
                lambda call: self._send(call, "get", url, request, range(counting.position, stop)),
                lambda: counting.position,
            )
        except StoreError as error:
            self._check_size(url, size, error, began_s)
            raise

    def _check_size(self, url: str, assumed: int | None, error: StoreError, began_s: float) -> None:
        """Raise WrongSize if a range was refused because the object is smaller than assumed.

        A refusal of a range (416) does not say how large the object is. Nothing is asked if the
        call, which began at `began_s`, would take longer than ANSWER_S.
        """
        if assumed is None or type(error) is not StoreError:
            return
        with call_within(began_s + ANSWER_S - time.monotonic()):
            if call_remaining_s() < ATTEMPT_S:
                return
            facts = self._with_retries(url, OBJECTS, lambda call: self._facts_by_get(call, url))
        if facts.size != assumed:
            raise WrongSize(url, assumed, facts) from None

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore. It gives up sooner than other methods: callers have cached copies."""

        def request(store: ObjectStore) -> Fetched | None:
            return store.read(url, unless_etag=unless_etag)

        fetched = self._with_retries(
            url, MANIFESTS, lambda call: self._send(call, "manifest", url, request)
        )
        if fetched is not None:  # its size was not known before: later requests wait for it
            self._transport().limiters.bytes_per_s.wait_s(len(fetched.data))
        return fetched

    def renew(self, url: str) -> None:
        """See ObjectStore."""
        self._transport().adapter.renew(url)

    def close(self) -> None:
        """See ObjectStore. A forked child closes only what it made itself."""
        self._stop.set()
        if self._made is not None:
            self._made.adapter.close()

    def _with_retries(
        self,
        url: str,
        policy: RetryPolicy,
        attempt: Callable[[_Call], Result],
        position: Callable[[], int] = lambda: 0,
    ) -> Result:
        transport, began_s = self._transport(), time.monotonic()
        throttled_s = min(policy.throttled_s, call_remaining_s() - ATTEMPT_S)
        call = _Call(transport, Deadline(began_s + throttled_s))
        try:
            return policy.call(lambda: _with_remedies(call, attempt), self._stop, position)
        except (StoreError, ConfigError) as error:
            if isinstance(error, Unreachable) and not isinstance(error, CircuitOpen):
                transport.breaker.give_up(_bucket(url), url, began_s, error)
            if isinstance(error, CredentialsRejected):
                self._metrics.store = KEY_REFUSED
            if not is_past_end(error):  # which an object of 0 bytes answers, too
                self._metrics.add_error(str(error))
            raise

    def _head(self, call: _Call, url: str) -> ObjectFacts:
        is_signed = call.transport.credentials is not None
        try:
            facts = self._send(call, "head", url, lambda store: store.head(url))
            if facts.size or not is_signed or facts.etag == EMPTY_MD5:
                return facts
        except CredentialsRejected:
            raise
        except (AccessDenied, ObjectMissing, Unexplained):
            if not is_signed:
                raise
            return self._facts_by_get(call, url)
        # An object without bytes is never fetched, so no later request would show a wrong size.
        try:
            return self._facts_of_first_byte(call, url)
        except StoreError as error:
            if not is_past_end(error):  # such as the answer to another request
                raise
            return facts

    def _facts_by_get(self, call: _Call, url: str) -> ObjectFacts:
        """Return facts without a HEAD, which was refused or had the wrong size.

        A proxy that sends too much can shift the answers of a connection: each request gets that
        of the one before. So a size is not confirmed by an answer that no known ETag and size
        were compared with, and an empty object only over a new connection.
        """
        try:
            return self._facts_of_first_byte(call, url)
        except StoreError as error:
            if not is_past_end(error) or call_remaining_s() < ATTEMPT_S:
                raise
            call.transport.adapter.renew(url)
            whole = self._send(call, "get", url, lambda store: store.read(url))
            if whole is None or whole.facts.size:  # not an empty object, which has no first byte
                raise
            return whole.facts.confirmed()

    def _facts_of_first_byte(self, call: _Call, url: str) -> ObjectFacts:
        """Return facts by a GET: its answer has headers, and error codes, that a HEAD lacks."""
        byte = self._send(call, "get", url, lambda store: store.read_range(url, 0, 1), range(1))
        return byte.facts

    def _send(
        self,
        call: _Call,
        kind: RequestKind,
        url: str,
        request: Callable[[ObjectStore], Result],
        wanted: range = range(0),
        expected: int | None = None,
    ) -> Result:
        """Send one request within the bucket's limits, and record whether anything answered.

        Of the `wanted` bytes, the object may have only those that are `expected`.
        """
        transport, bucket = call.transport, _bucket(url)
        if transport.credentials is not None:
            transport.credentials.keys()  # without a key there is no request to count
        self._wait_for_turn(call, url, len(wanted) if expected is None else expected)
        slot = transport.limiters.concurrency.slot(bucket, url)
        try:
            transport.breaker.check(bucket, url)
            send = partial(request, transport.adapter)
            result = counted(self._metrics, kind, send, url, wanted)
        except CircuitOpen:
            raise
        except SinkEnded:
            self._answered(transport, bucket)
            raise
        except Unreachable as error:
            self._metrics.store = OFFLINE
            if not isinstance(error, NoConnection):
                transport.adapter.renew(url)  # its connections may be broken
            raise
        except StoreError as error:
            self._answered(transport, bucket, error)
            if isinstance(error, Stalled):
                transport.adapter.renew(url)
            raise
        finally:
            slot.release()
        self._answered(transport, bucket)
        return result

    def _wait_for_turn(self, call: _Call, url: str, count: int) -> None:
        """Wait for the bucket's pause, and for the limits on requests and on `count` bytes.

        If the store asks to pause past the deadline, one attempt is left. Raises StoreUnavailable
        if this process has no turn until then.
        """
        limiters, left_s = call.transport.limiters, call.throttled_until.remaining_s
        turn_s = max(limiters.requests_per_s.wait_s(1), limiters.bytes_per_s.wait_s(count))
        if turn_s > left_s:
            limiters.requests_per_s.give_back(1)
            limiters.bytes_per_s.give_back(count)
            text = f"{url}: no turn within {left_s:.0f} s, by --limit-rate or --limit-requests"
            raise StoreUnavailable(text, url=url)
        wait_s = max(turn_s, min(limiters.throttle.pause_s(_bucket(url)), left_s))
        if wait_s and self._stop.wait(wait_s):
            raise StoreUnavailable(f"{url}: the filesystem is closed", url=url)

    def _answered(self, transport: Transport, bucket: str, error: StoreError | None = None) -> None:
        if not isinstance(error, AccessDenied):  # which may be about the key, or the object
            self._metrics.store = ONLINE
        transport.breaker.answered(bucket)
        if isinstance(error, Throttled):
            transport.limiters.throttle.throttled(bucket, error.retry_after_s)
        else:
            transport.limiters.throttle.answered(bucket)

    def _transport(self) -> Transport:
        """Return the Transport of this process, made at its first request."""
        with self._lock:
            if self._made is None:
                self._made = self._make_transport()
            return self._made


class _CountingSink:
    """A sink that counts bytes and records the position reached."""

    def __init__(self, start: int, sink: Sink, metrics: Metrics) -> None:
        self.position = start
        self._sink = sink
        self._metrics = metrics

    def __call__(self, offset: int, data: memoryview) -> None:
        self._metrics.add_bytes_fetched(len(data))
        self._sink(offset, data)
        self.position = offset + len(data)


def _with_remedies(call: _Call, attempt: Callable[[_Call], Result]) -> Result:
    """Attempt once, and again for each refusal whose cause could be removed."""
    credentials = call.transport.credentials
    for _ in range(_MAX_REMEDIES):
        generation = credentials.generation if credentials else 0
        try:
            return attempt(call)
        except WrongRegion as error:
            if not error.region:
                raise
        except AccessDenied as error:
            rejected = isinstance(error, CredentialsRejected)
            if credentials is None or not credentials.refresh(generation, rejected=rejected):
                raise
    return attempt(call)


def _bucket(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
