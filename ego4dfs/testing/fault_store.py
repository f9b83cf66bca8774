"""FaultStore: an ObjectStore that fails on demand, in front of another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.store import Fetched, ObjectFacts, ObjectStore, Sink


@dataclass(frozen=True)
class StoreFault:
    """How requests fail: `error` is raised by every `every`th request.

    With `after_bytes`, a stream brings so many bytes before. `head_size_off` is added to the size
    that HEAD requests report, as by a proxy that changes answers, if the result is positive.
    """

    error: type[StoreError] | None = None
    every: int = 1
    after_bytes: int = 0
    head_size_off: int = 0


UNAVAILABLE = StoreFault(StoreUnavailable)
UNSTABLE = StoreFault(StoreUnavailable, every=2)
CUT = StoreFault(StoreUnavailable, after_bytes=70_000)
REFUSED = StoreFault(AccessDenied)
MISSING = StoreFault(ObjectMissing)
HEAD_TOO_SMALL = StoreFault(head_size_off=-137)
HEAD_TOO_LARGE = StoreFault(head_size_off=137)


class FaultStore:
    """Passes calls on to `inner`, and fails as `faults` say. Safe from several threads.

    `faults` has the fault of each URL; "" stands for all. While `is_key_expired`, every request
    fails with CredentialsRejected.
    """

    def __init__(self, inner: ObjectStore) -> None:
        """Fail in no way yet."""
        self._inner = inner
        self.faults: dict[str, StoreFault] = {}
        self.is_key_expired = False
        self._count = 0
        self._lock = threading.Lock()  # guards _count

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._inner.source

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        fault = self._struck(url)
        facts = self._inner.head(url)
        size = facts.size + fault.head_size_off
        return replace(facts, size=size) if size > 0 else facts

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        self._struck(url)
        return self._inner.read_range(url, start, stop, etag=etag, size=size)

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
        cut = self._faults(url).after_bytes
        if cut and not self.is_key_expired:
            part = min(stop, start + cut)
            self._inner.stream_range(url, start, part, sink, etag=etag, size=size)
        self._struck(url)
        self._inner.stream_range(url, start, stop, sink, etag=etag, size=size)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        self._struck(url)
        return self._inner.read(url, unless_etag=unless_etag)

    def renew(self, url: str) -> None:
        """See ObjectStore."""
        self._inner.renew(url)

    def close(self) -> None:
        """Do nothing: the owner of `inner` closes it."""

    def _faults(self, url: str) -> StoreFault:
        return self.faults.get(url) or self.faults.get("") or StoreFault()

    def _struck(self, url: str) -> StoreFault:
        """Raise the error of a fault if it is this request's turn; else return the fault."""
        fault = self._faults(url)
        if self.is_key_expired:
            raise CredentialsRejected(f"{url}: the key has expired", url=url)
        if fault.error is None:
            return fault
        with self._lock:
            self._count += 1
            is_turn = self._count % fault.every == 0
        if is_turn:
            raise _made(fault.error, url)
        return fault


def _made(error: Callable[..., StoreError], url: str) -> StoreError:
    return error(f"{url}: a fault of this test", url=url)
