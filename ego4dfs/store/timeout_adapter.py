"""TimeoutAdapter: a time limit for each call to a mirror, whose library or disk may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ego4dfs.errors import StoreUnavailable
from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.runtime.deadline import ATTEMPT_S
from ego4dfs.store.classify import past_end
from ego4dfs.store.protocol import (
    Adapter,
    Fetched,
    ObjectFacts,
    Sink,
    check_whole,
    place_of,
)

Result = TypeVar("Result")

MIN_BYTES, FIRST_BYTES, MAX_BYTES = 64 << 10, 1 << 20, 8 << 20
MAX_CALLS = 512
"""Maximum number of calls at a time: each call that hangs keeps a thread."""
_FAST_S = 1.0  # after a faster piece the next one is larger


class TimeoutAdapter:
    """An adapter whose calls end after ATTEMPT_S; a thread whose call hangs is abandoned.

    The progress of a call cannot be observed, so bytes are requested in pieces, as large as can
    arrive in time. Safe from several threads where the adapter is.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._piece_bytes = FIRST_BYTES
        self._calls = threading.BoundedSemaphore(MAX_CALLS)

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._adapter.source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        return self._call(url, lambda: self._adapter.head(url))

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        if start < 0:
            facts = self.head(url)
            place, etag = place_of(start, stop, facts.size), etag or facts.etag
            if not place:
                raise past_end(url)
            start, stop = place.start, place.stop
        first = self._piece(url, start, stop, etag, size)
        stop = min(stop, first.facts.size)
        if start + len(first.data) == stop:
            return first
        data = bytearray(first.data)
        while start + len(data) < stop:
            data += self._piece(url, start + len(data), stop, first.facts.etag, size).data
        return Fetched(memoryview(data), start, first.facts)

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
        """See ObjectStore."""
        while start < stop:
            data = self._piece(url, start, stop, etag, size).data
            sink(start, data)
            start += len(data)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        facts = self.head(url)
        if unless_etag and facts.etag == unless_etag:
            return None
        check_whole(url, facts.size)
        if facts.size <= self._piece_bytes:
            return self._call(url, lambda: self._adapter.read(url))
        return self.read_range(url, 0, facts.size, etag=facts.etag)

    def renew(self, url: str) -> None:
        """See ObjectStore."""
        self._adapter.renew(url)

    def close(self) -> None:
        """See ObjectStore."""
        self._adapter.close()

    def _piece(self, url: str, start: int, stop: int, etag: str, size: int | None) -> Fetched:
        """Fetch the first bytes of a range, as many as can arrive in time."""
        requested = self._piece_bytes
        end, began_s = min(stop, start + requested), time.monotonic()
        fetched = self._call(
            url, lambda: self._adapter.read_range(url, start, end, etag=etag, size=size)
        )
        took_s = time.monotonic() - began_s
        if took_s > ATTEMPT_S / 3:
            self._piece_bytes = max(MIN_BYTES, requested // 2)
        elif took_s < _FAST_S and end - start == requested:
            self._piece_bytes = min(MAX_BYTES, requested * 2)
        return fetched

    def _call(self, url: str, request: Callable[[], Result]) -> Result:
        if not self._calls.acquire(timeout=ATTEMPT_S):
            raise StoreUnavailable(f"{url}: {MAX_CALLS} calls to the mirror hang", url=url)
        try:
            return call_with_timeout(ATTEMPT_S, partial(self._counted, request), name="mirror")
        except CallTimeout:
            self._piece_bytes = MIN_BYTES
            text = f"{url}: the mirror did not answer in time"
            raise StoreUnavailable(text, url=url) from None

    def _counted(self, request: Callable[[], Result]) -> Result:
        try:
            return request()
        finally:
            self._calls.release()
