"""EmulatedNetwork: an adapter with added latency, limited bandwidth and failures, for tests.

It stands below retries and limits of the number of requests, and above time limits of bodies.
"""

from __future__ import annotations

import random
import threading
import time

from ego4dfs.config.emulation import CUT, Emulation
from ego4dfs.errors import StoreUnavailable
from ego4dfs.store.classify import Answer, error_of, truncated
from ego4dfs.store.protocol import Adapter, Fetched, ObjectFacts, Sink

_ANSWERS = {
    "500": Answer(500, "InternalError"),
    "503": Answer(503, "SlowDown"),
}


class EmulatedNetwork:
    """An adapter behind an emulated network. Safe from several threads where the adapter is."""

    def __init__(self, adapter: Adapter, emulation: Emulation) -> None:
        """Pass requests on to `adapter` as `emulation` says."""
        self._adapter = adapter
        self._emulation = emulation
        self._kinds = (*(kind for kind, _ in emulation.failures), "")
        shares = [share for _, share in emulation.failures]
        self._shares = (*shares, max(0.0, 1 - sum(shares)))
        self._random = random.Random(emulation.seed)  # noqa: S311 - not for secrets
        self._closed = threading.Event()
        self._lock = threading.Lock()  # guards _random

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._adapter.source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        if self._begin(url):
            raise error_of(Answer(begun=True, reason="the answer was cut"), url)
        return self._adapter.head(url)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        if self._begin(url):
            raise truncated(url, (stop - start) // 2, stop - start)
        fetched = self._adapter.read_range(url, start, stop, etag=etag, size=size)
        self._transfer(url, len(fetched.data))
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
        """See ObjectStore."""
        is_cut = self._begin(url)
        end = (start + stop) // 2 if is_cut else stop
        began_s = time.monotonic()

        def paced(offset: int, data: memoryview) -> None:
            took_s = time.monotonic() - began_s
            self._transfer(url, offset + len(data) - start, took_s)
            sink(offset, data)

        if end > start:
            self._adapter.stream_range(url, start, end, paced, etag=etag, size=size)
        if is_cut:
            raise truncated(url, end - start, stop - start)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        is_cut = self._begin(url)
        fetched = self._adapter.read(url, unless_etag=unless_etag)
        if fetched is not None:
            if is_cut:
                raise truncated(url, len(fetched.data) // 2, len(fetched.data))
            self._transfer(url, len(fetched.data))
        return fetched

    def renew(self, url: str) -> None:
        """See ObjectStore."""
        self._adapter.renew(url)

    def close(self) -> None:
        """See ObjectStore."""
        self._closed.set()
        self._adapter.close()

    def _begin(self, url: str) -> bool:
        """Wait for one round trip; return whether the answer is to be cut, or raise a failure."""
        self._wait(url, self._emulation.rtt_s)
        with self._lock:
            (kind,) = self._random.choices(self._kinds, self._shares)
        if kind and kind != CUT:
            raise error_of(_ANSWERS[kind], url)
        return kind == CUT

    def _transfer(self, url: str, count: int, took_s: float = 0.0) -> None:
        """Wait until `count` bytes of a body would have arrived, of which `took_s` have passed."""
        if self._emulation.bytes_per_s:
            self._wait(url, count / self._emulation.bytes_per_s - took_s)

    def _wait(self, url: str, seconds: float) -> None:
        if seconds > 0 and self._closed.wait(seconds):
            raise StoreUnavailable(f"{url}: the filesystem is closed", url=url)
