"""A range handed over piece by piece, for adapters that know only whole answers."""

from __future__ import annotations

from ego4dfs.store.protocol import ObjectStore, Sink

PIECE_BYTES = 8 << 20


def stream_in_pieces(
    store: ObjectStore, url: str, place: range, sink: Sink, *, etag: str, size: int | None
) -> None:
    """Serve `stream_range` by one `read_range` per piece."""
    start = place.start
    while start < place.stop:
        stop = min(place.stop, start + PIECE_BYTES)
        data = store.read_range(url, start, stop, etag=etag, size=size).data
        sink(start, data)
        start += len(data)
