"""A range handed over piece by piece, for adapters that know only whole answers."""

from __future__ import annotations

from ego4dfs.store.protocol import ObjectStore, Sink

PIECE_BYTES = 8 << 20


def stream_in_pieces(
    store: ObjectStore, url: str, start: int, stop: int, sink: Sink, *, etag: str
) -> None:
    """Serve `stream_range` by one `read_range` per piece."""
    while start < stop:
        data = store.read_range(url, start, min(stop, start + PIECE_BYTES), etag=etag).data
        sink(start, data)
        start += len(data)
