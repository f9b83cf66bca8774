"""Fake stores: they serve from a dict, record requests, and fail or stall on demand.

There is no transport and no S3 in them: tests of those use a real server.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import ObjectChanged, ObjectMissing, StoreError
from ego4dfs.store import Fetched, ObjectFacts, Sink, WrongSize, place_of

MTIME_NS = 1_600_000_000 * 10**9


class CountingStore:
    """An ObjectStore of objects in memory that records every call.

    `gets` are the requested ranges as (url, start, stop), `heads` the URLs; `in_flight` and `peak`
    are the bytes of the ranges being fetched, now and at most.
    """

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.etags: dict[str, tuple[bytes, str]] = {}
        self.gets: list[tuple[str, int, int]] = []
        self.heads: list[str] = []
        self.reads: list[str] = []
        self.renewed: list[str] = []
        self.closed = False
        self.in_flight = self.peak = 0
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        return "memory"

    def put(self, url: str, data: bytes) -> ObjectRef:
        """Store an object and return the reference by which a reader reads it."""
        self.objects[url] = data
        return self.ref(url)

    def ref(self, url: str) -> ObjectRef:
        facts = self.facts_of(url)
        return ObjectRef.of(self.source, url, facts.size, facts.etag)

    def head(self, url: str) -> ObjectFacts:
        with self._lock:
            self.heads.append(url)
        self.before_answer(url)
        return self.facts_of(url)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        if start < 0:
            place = place_of(start, stop, len(self.objects[url]))
            start, stop = place.start, place.stop
        with self._lock:
            self.gets.append((url, start, stop))
            self.in_flight += stop - start
            self.peak = max(self.peak, self.in_flight)
        try:
            self.before_answer(url)
            facts = self.facts_of(url)
            if etag and etag != facts.etag:
                raise ObjectChanged(f"{url}: has another ETag", url=url)
            if size is not None and size != facts.size:
                raise WrongSize(url, size, facts.confirmed())
            if start >= facts.size:
                raise StoreError(f"{url}: starts past the end", url=url)
            return Fetched(memoryview(self.objects[url])[start:stop], start, facts)
        finally:
            with self._lock:
                self.in_flight -= stop - start

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
        sink(start, self.read_range(url, start, stop, etag=etag, size=size).data)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        with self._lock:
            self.reads.append(url)
        self.before_answer(url)
        facts = self.facts_of(url)
        if unless_etag == facts.etag:
            return None
        return Fetched(memoryview(self.objects[url]), 0, facts)

    def renew(self, url: str) -> None:
        with self._lock:
            self.renewed.append(url)

    def close(self) -> None:
        self.closed = True

    def before_answer(self, url: str) -> None:
        """Do nothing; subclasses fail or stall here, before each answer."""

    def blocks_requested(self, block_size: int) -> Counter[tuple[str, int]]:
        """Count how often each block was requested."""
        return Counter(
            (url, index)
            for url, start, stop in self.gets
            for index in range(start // block_size, -(-stop // block_size))
        )

    def facts_of(self, url: str) -> ObjectFacts:
        if url not in self.objects:
            raise ObjectMissing(f"{url}: no such object", url=url)
        data = self.objects[url]
        hashed, etag = self.etags.get(url, (b"", ""))
        if hashed is not data:
            etag = hashlib.md5(data).hexdigest()  # noqa: S324
            self.etags[url] = (data, etag)
        return ObjectFacts(len(data), etag, "", MTIME_NS)


class FailingStore(CountingStore):
    """Raises `error` for URLs that contain `only`, for the next `times` requests or always."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        super().__init__(objects)
        self.error: Exception | None = None
        self.times: int | None = None
        self.only = ""

    def fail(self, error: Exception | None, *, times: int | None = None, only: str = "") -> None:
        self.error, self.times, self.only = error, times, only

    def before_answer(self, url: str) -> None:
        with self._lock:
            if self.error is None or self.only not in url or self.times == 0:
                return
            if self.times is not None:
                self.times -= 1
        raise self.error


class StallingStore(FailingStore):
    """Answers nothing until `gate` is set; `requested` is set when a request waits."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        super().__init__(objects)
        self.gate = threading.Event()
        self.requested = threading.Event()

    def before_answer(self, url: str) -> None:
        self.requested.set()
        assert self.gate.wait(600), "the test never opened the gate"  # longer than a test may take
        super().before_answer(url)


class FlippingStore(CountingStore):
    """Flips one bit of the byte at `flip_at` of each object in `flipped`."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        super().__init__(objects)
        self.flipped: set[str] = set()
        self.flip_at = 0

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        fetched = super().read_range(url, start, stop, etag=etag, size=size)
        if url not in self.flipped or not start <= self.flip_at < stop:
            return fetched
        data = bytearray(fetched.data)
        data[self.flip_at - start] ^= 1
        return Fetched(memoryview(data), start, fetched.facts)
