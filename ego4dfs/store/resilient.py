"""The store everyone gets: an adapter made patient, bounded, counted and quick to give up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.metrics import KEY_REFUSED, OFFLINE, ONLINE, Metrics
from ego4dfs.store.breaker import Breaker, CircuitOpen
from ego4dfs.store.bucket_limits import ConcurrencyLimit, Throttle
from ego4dfs.store.classify import (
    NoConnection,
    Stalled,
    Throttled,
    Unexplained,
    Unreachable,
    WrongRegion,
)
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.patience import MANIFESTS, OBJECTS, Patience
from ego4dfs.store.protocol import (
    Adapter,
    Fetched,
    ObjectFacts,
    ObjectStore,
    Sink,
    WrongSize,
)

Result = TypeVar("Result")
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_REMEDIES = 2  # a wrong region and a renewed key can meet in one request


@dataclass(frozen=True, slots=True)
class Parts:
    """What the requests of one process go through."""

    adapter: Adapter
    credentials: Credentials | None
    breaker: Breaker
    concurrency: ConcurrencyLimit
    throttle: Throttle


class ResilientStore:
    """An ObjectStore that retries what may pass, and nothing else.

    At most as many requests are under way for each bucket as it has slots. StoreUnavailable is
    tried again with back-off; a rejected key once the AWS chain gives another; a wrong region once
    the right one is learned. When the store asks to slow down, all requests for that bucket wait.
    When it is gone, further requests fail at once.

    Safe from several threads. A forked child makes `Parts` of its own, for locks held and
    threads run by the parent do not come along; `_lock` guards that making.
    """

    def __init__(self, source: str, metrics: Metrics, make: Callable[[], Parts]) -> None:
        self._source = source
        self._metrics = metrics
        self._make = make
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._parts: Parts | None = None
        self._inherited: list[Parts] = []

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore. A HEAD refused without a reason costs a GET of one byte to learn it."""
        return self._patiently(url, OBJECTS, lambda parts: self._head(parts, url))

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""

        def ask(store: ObjectStore) -> Fetched:
            return store.read_range(url, start, stop, etag=etag, size=size)

        with self._true_size(url, size):
            fetched = self._patiently(
                url, OBJECTS, lambda parts: self._send(parts, "get", url, ask)
            )
        self._metrics.add("bytes_fetched", len(fetched.data))
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
        """See ObjectStore. A retry asks for what is not handed over yet."""
        flow = _Flow(start, sink, self._metrics)

        def ask(store: ObjectStore) -> None:
            store.stream_range(url, flow.position, stop, flow, etag=etag, size=size)

        with self._true_size(url, size):
            self._patiently(
                url,
                OBJECTS,
                lambda parts: self._send(parts, "get", url, ask),
                lambda: flow.position,
            )

    @contextmanager
    def _true_size(self, url: str, assumed: int | None) -> Iterator[None]:
        """Look whether a refused range was behind the end of an object that was taken for larger.

        Raises WrongSize then: what refuses a range (416) does not tell the transports the size.
        """
        try:
            yield
        except StoreError as error:
            if assumed is None or type(error) is not StoreError:
                raise
            facts = self._facts_of_get(url)
            if facts.size == assumed:
                raise
            raise WrongSize(url, assumed, facts) from None

    def _facts_of_get(self, url: str) -> ObjectFacts:
        """Return facts by a GET of one byte: a HEAD may be what was wrong."""
        try:
            return self.read_range(url, 0, 1).facts
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return self.head(url)  # an empty object has no first byte

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore. It gives up sooner than the others: callers keep copies."""
        return self._patiently(
            url,
            MANIFESTS,
            lambda parts: self._send(
                parts, "manifest", url, lambda store: store.read(url, unless_etag=unless_etag)
            ),
        )

    def renew(self, url: str) -> None:
        """See ObjectStore."""
        self._mine().adapter.renew(url)

    def close(self) -> None:
        """See ObjectStore. In a forked child only what the child itself made is closed."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        if self._parts is not None:
            self._parts.adapter.close()

    def _patiently(
        self,
        url: str,
        patience: Patience,
        attempt: Callable[[Parts], Result],
        position: Callable[[], int] = lambda: 0,
    ) -> Result:
        parts, began_s = self._mine(), time.monotonic()
        try:
            return patience.spend(lambda: _with_remedies(parts, attempt), self._stop, position)
        except (StoreError, ConfigError) as error:
            if isinstance(error, Unreachable) and not isinstance(error, CircuitOpen):
                parts.breaker.give_up(_bucket(url), url, began_s, error)
            if isinstance(error, CredentialsRejected):
                self._metrics.store = KEY_REFUSED
            self._metrics.error(str(error))
            raise

    def _head(self, parts: Parts, url: str) -> ObjectFacts:
        try:
            facts = self._send(parts, "head", url, lambda store: store.head(url))
            if facts.size or parts.credentials is None or facts.etag == EMPTY_MD5:
                return facts
        except CredentialsRejected:
            raise
        except (AccessDenied, ObjectMissing, Unexplained):
            if parts.credentials is None:
                raise
            return self._first_byte(parts, url)
        # Nothing is ever fetched of an object without bytes, so nothing else would find out.
        try:
            return self._first_byte(parts, url)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return facts

    def _first_byte(self, parts: Parts, url: str) -> ObjectFacts:
        """Return facts by a GET: its answer has what a HEAD's lacks, the code of a refusal too."""
        byte = self._send(parts, "get", url, lambda store: store.read_range(url, 0, 1))
        return byte.facts

    def _send(
        self, parts: Parts, kind: str, url: str, ask: Callable[[ObjectStore], Result]
    ) -> Result:
        """Send one request, in a slot, and take note of whether anything answered."""
        if parts.credentials is not None:
            parts.credentials.keys()  # without a key there is no request to count
        bucket = _bucket(url)
        pause_s = parts.throttle.pause_s(bucket)
        if kind == "manifest":
            pause_s = min(pause_s, MANIFESTS.throttled_s)  # a kept copy is better than the wait
        if pause_s and self._stop.wait(pause_s):
            raise StoreUnavailable(f"{url}: the filesystem is closed", url=url)
        with parts.concurrency.slot(bucket, url):
            parts.breaker.check(bucket, url)
            self._metrics.request(kind)
            try:
                result = ask(parts.adapter)
            except Unreachable as error:
                self._metrics.store = OFFLINE
                if not isinstance(error, NoConnection):
                    parts.adapter.renew(url)  # its connections may be of a network that is gone
                raise
            except StoreError as error:
                self._answered(parts, bucket, error)
                if isinstance(error, Stalled):
                    parts.adapter.renew(url)
                raise
        self._answered(parts, bucket)
        return result

    def _answered(self, parts: Parts, bucket: str, error: StoreError | None = None) -> None:
        if not isinstance(error, AccessDenied):  # which may be about the key, or the object
            self._metrics.store = ONLINE
        parts.breaker.answered(bucket)
        if isinstance(error, Throttled):
            parts.throttle.throttled(bucket, error.retry_after_s)
        else:
            parts.throttle.answered(bucket)

    def _mine(self) -> Parts:
        """Return this process's parts, made at its first request."""
        if self._pid != os.getpid():
            if self._parts is not None:
                # Kept, for letting go of it would close connections that the parent still uses.
                self._inherited.append(self._parts)
            self._lock, self._stop = threading.Lock(), threading.Event()
            self._parts, self._pid = None, os.getpid()
        with self._lock:
            if self._parts is None:
                self._parts = self._make()
            return self._parts


class _Flow:
    """A sink that knows how far it has got."""

    def __init__(self, start: int, sink: Sink, metrics: Metrics) -> None:
        self.position = start
        self._sink = sink
        self._metrics = metrics

    def __call__(self, offset: int, data: memoryview) -> None:
        self._metrics.add("bytes_fetched", len(data))
        self._sink(offset, data)
        self.position = offset + len(data)


def _with_remedies(parts: Parts, attempt: Callable[[Parts], Result]) -> Result:
    """Attempt once, and again for each refusal whose cause could be removed."""
    for _ in range(_REMEDIES):
        generation = parts.credentials.generation if parts.credentials else 0
        try:
            return attempt(parts)
        except WrongRegion as error:
            if not error.region:
                raise
        except AccessDenied as error:
            rejected = isinstance(error, CredentialsRejected)
            if parts.credentials is None or not parts.credentials.refresh(
                generation, rejected=rejected
            ):
                raise
    return attempt(parts)


def _bucket(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
