"""The ObjectStore protocol, and the values that its methods return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ego4dfs.errors import ObjectChanged, StoreError
from ego4dfs.text import human_size

Sink = Callable[[int, memoryview], None]
"""Called with an offset and the bytes there; the buffer is reused when it returns."""


class SinkEnded(Exception):  # noqa: N818 - a state
    """A sink takes no more bytes: its request ends, and was answered."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """The metadata of one object.

    `etag` has no quotes, except a weak one, which is unchanged: `W/"x"`. `version_id` is empty
    where the bucket keeps no versions. `mtime_ns` is the store's LastModified in nanoseconds since
    the epoch. Facts that are not lasting must be fetched again by the next process, because the
    store reports no version. `has_confirmed_size` means that a response to a GET had this size;
    until then it is what one HEAD request reported. Facts that differ only in that are equal.
    """

    size: int
    etag: str
    version_id: str
    mtime_ns: int
    is_lasting: bool = field(default=True, kw_only=True)
    has_confirmed_size: bool = field(default=False, kw_only=True, compare=False)

    def confirmed(self) -> ObjectFacts:
        """Return the same facts as those of an answer to a GET."""
        if self.has_confirmed_size:
            return self
        return ObjectFacts(  # dataclasses.replace would take five times as long
            self.size,
            self.etag,
            self.version_id,
            self.mtime_ns,
            is_lasting=self.is_lasting,
            has_confirmed_size=True,
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes [start, start + len(data)) of an object, and the facts that came with them."""

    data: memoryview
    start: int
    facts: ObjectFacts


class WrongSize(ObjectChanged):
    """The object has the requested ETag and another size; `facts` has the true one."""

    def __init__(self, url: str, assumed: int, facts: ObjectFacts) -> None:
        super().__init__(f"{url}: it has {facts.size} bytes, not {assumed}", url=url)
        self.facts = facts


class ObjectStore(Protocol):
    """Read-only access to objects named by `s3://bucket/key` URLs.

    Safe from several threads. Every call either returns what was requested or raises a
    `StoreError`: `AccessDenied` (with `CredentialsRejected` when the key itself is refused),
    `ObjectMissing`, `ObjectChanged`, or `StoreUnavailable` for transient failures.
    """

    @property
    def source(self) -> str:
        """The name of the store; the same name means the same bytes per URL and ETag."""

    def head(self, url: str) -> ObjectFacts:
        """Fetch the facts of one object with one HEAD."""

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """Fetch bytes [start, stop), cut at the object's end; `stop > start`.

        A negative `start`, with a `stop` of 0, means the last `-start` bytes, or all if the object
        has fewer: a suffix range (RFC 9110, 14.1.2).
        With `etag` the bytes are of exactly that version, or `ObjectChanged` is raised; with
        `size` the object has exactly that size, or `WrongSize` is raised with the true facts.
        A truncated response is never returned as if it were complete. Raises `StoreError` when
        `start` is at or past the end.
        """

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
        """Pass bytes [start, stop) of exactly that version to `sink`, in order, as they arrive.

        `stop` is not past the object's end. When this raises, `sink` may have received a part;
        a retry requests only the rest. What `sink` raises is passed on unchanged.
        """

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """Fetch a whole small object, or None when its ETag is still `unless_etag`."""

    def renew(self, url: str) -> None:
        """Use new connections for the next request for the bucket of `url`."""

    def close(self) -> None:
        """Release connections and threads; running requests end, and none is retried."""


class Adapter(ObjectStore, Protocol):
    """An ObjectStore of one library: one attempt per call, over connections that it keeps."""


MAX_OBJECT_BYTES = 1 << 50
"""No object of S3 is larger; a response with a larger size is not S3's."""

MAX_TIME_NS = (1 << 63) - 1
"""The latest time that SQLite can store, in the year 2262; later ones are reduced to it."""

MAX_WHOLE_BYTES = 1 << 30
"""The largest object that is read as a whole; manifests of Ego4D have a few MiB."""


def check_whole(url: str, size: int) -> None:
    """Raise StoreError for an object that is too large to be read as a whole."""
    if size > MAX_WHOLE_BYTES:
        raise StoreError(
            f"{url}: has {human_size(size)}; a manifest has at most {human_size(MAX_WHOLE_BYTES)}",
            url=url,
        )


def place_of(start: int, stop: int, size: int) -> range:
    """Return which bytes of an object of `size` bytes the range of a `read_range` means."""
    if start < 0:
        return range(max(0, size + start), size)
    return range(start, min(stop, size))


RANGE_BYTES = 8 << 20


def stream_by_ranges(
    store: ObjectStore, url: str, place: range, sink: Sink, *, etag: str, size: int | None
) -> None:
    """Serve `stream_range` by one `read_range` per RANGE_BYTES, for adapters that cannot stream."""
    start = place.start
    while start < place.stop:
        stop = min(place.stop, start + RANGE_BYTES)
        data = store.read_range(url, start, stop, etag=etag, size=size).data
        sink(start, data)
        start += len(data)
