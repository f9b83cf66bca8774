"""What the rest of ego4dfs asks of a store of objects, and the values it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from ego4dfs.errors import ObjectChanged, StoreError
from ego4dfs.text import human_size

Sink = Callable[[int, memoryview], None]
"""Takes the bytes of an object from an offset on; they are the store's again when it returns."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store says about one object without its bytes.

    `etag` carries no quotes, but for a weak one, which is as it came: `W/"x"`. `version_id` is
    empty where the bucket keeps no versions. `mtime_ns` is the store's LastModified in nanoseconds
    since the epoch. Facts that are not lasting must be asked for again by the next process: the
    store tells no version. `has_confirmed_size` says that an answer to a GET had this size; until
    then it is what one HEAD request reported. Facts that differ only in that are equal.
    """

    size: int
    etag: str
    version_id: str
    mtime_ns: int
    is_lasting: bool = field(default=True, kw_only=True)
    has_confirmed_size: bool = field(default=False, kw_only=True, compare=False)

    def confirmed(self) -> ObjectFacts:
        """Return the same facts as those of an answer to a GET."""
        return replace(self, has_confirmed_size=True)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes [start, start + len(data)) of an object, and the facts that came with them."""

    data: memoryview
    start: int
    facts: ObjectFacts


class WrongSize(ObjectChanged):
    """The object has the ETag that was asked for and another size; `facts` are the true ones."""

    def __init__(self, url: str, assumed: int, facts: ObjectFacts) -> None:
        super().__init__(f"{url}: it has {facts.size} bytes and not {assumed}", url=url)
        self.facts = facts


class ObjectStore(Protocol):
    """Read-only access to objects named by `s3://bucket/key` URLs.

    Safe from several threads. Every call either returns what was asked for or raises a
    `StoreError`: `AccessDenied` (with `CredentialsRejected` when the key itself is refused),
    `ObjectMissing`, `ObjectChanged`, or `StoreUnavailable` for everything that may pass.
    """

    @property
    def source(self) -> str:
        """Name where the bytes come from; the same name means the same bytes per URL and ETag."""

    def head(self, url: str) -> ObjectFacts:
        """Fetch the facts of one object with one HEAD."""

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """Fetch bytes [start, stop), cut at the object's end; `stop > start`.

        With `etag` the bytes are of exactly that version, or `ObjectChanged` is raised; with
        `size` the object has exactly that size, or `WrongSize` is raised with the true facts.
        A short answer is never returned as if it were whole. Raises `StoreError` when `start`
        is at or past the end.
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
        """Hand bytes [start, stop) of exactly that version to `sink`, in order, as they arrive.

        `stop` is not behind the object's end. When this raises, a part may have been handed
        over; whoever asks again asks for the rest only. What `sink` raises comes out as it is.
        """

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """Fetch a whole small object, or None when its ETag is still `unless_etag`."""

    def renew(self, url: str) -> None:
        """Let the next request for the bucket of `url` use new connections only."""

    def close(self) -> None:
        """Let go of connections and threads; requests under way end, and none is tried again."""


class Adapter(ObjectStore, Protocol):
    """An ObjectStore of one transport: one attempt per call, over connections that it keeps."""


WHOLE_MOST_BYTES = 1 << 30
"""No more is read at once; manifests of Ego4D have some MiB."""


def check_whole(url: str, size: int) -> None:
    """Raise StoreError for an object that is too large to be read at once, before it is."""
    if size > WHOLE_MOST_BYTES:
        raise StoreError(
            f"{url}: has {human_size(size)}; a manifest has at most {human_size(WHOLE_MOST_BYTES)}",
            url=url,
        )


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
