"""MemoryStore: an ObjectStore of objects in a dictionary, for tests without a server."""

from __future__ import annotations

import hashlib
import threading
import time

from ego4dfs.errors import ObjectChanged, ObjectMissing, StoreError
from ego4dfs.store import Fetched, ObjectFacts, Sink, WrongSize, place_of, split_s3_url


class MemoryStore:
    """An ObjectStore whose objects are put by `put`. Safe from several threads."""

    def __init__(self, name: str = "memory") -> None:
        """Hold nothing yet; `name` is the source, which the cache keys contain."""
        self._name = name
        self._objects: dict[str, tuple[bytes, ObjectFacts]] = {}
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        """See ObjectStore."""
        return self._name

    def put(self, url: str, data: bytes) -> None:
        """Store or replace an object."""
        etag = hashlib.md5(data).hexdigest()  # noqa: S324 - as S3 does
        facts = ObjectFacts(len(data), etag, "", time.time_ns())
        with self._lock:
            self._objects[url] = (bytes(data), facts)

    def remove(self, url: str) -> None:
        """Remove an object, if it is there."""
        with self._lock:
            self._objects.pop(url, None)

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        return self._object(url)[1]

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        data, facts = self._object(url)
        if etag and etag != facts.etag:
            raise ObjectChanged(f"{url}: has another ETag", url=url)
        if size is not None and size != facts.size:
            raise WrongSize(url, size, facts.confirmed())
        place = place_of(start, stop, facts.size)
        if not place:
            raise StoreError(f"{url}: starts at or past the object's end", url=url)
        return Fetched(memoryview(data)[place.start : place.stop], place.start, facts.confirmed())

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
        sink(start, self.read_range(url, start, stop, etag=etag, size=size).data)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        data, facts = self._object(url)
        if unless_etag == facts.etag:
            return None
        return Fetched(memoryview(data), 0, facts.confirmed())

    def renew(self, url: str) -> None:
        """Do nothing: there are no connections."""

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _object(self, url: str) -> tuple[bytes, ObjectFacts]:
        split_s3_url(url)
        with self._lock:
            found = self._objects.get(url)
        if found is None:
            raise ObjectMissing(f"{url}: no such object", url=url)
        return found
