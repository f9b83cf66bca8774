"""Chunks in memory: those of which only a part was read, and which are being fetched."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from ego4dfs.near.chunks import Chunk


class ChunkMemory:
    """The last chunks, of at most `max_bytes`. Safe from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """Begin without a chunk."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, memoryview] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> memoryview | None:
        """Return a chunk, or None."""
        with self._lock:
            return self._kept.get(name)

    def put(self, name: str, data: memoryview) -> None:
        """Keep a chunk in place of the oldest ones."""
        with self._lock:
            self._drop(name)
            self._kept[name] = data
            self._bytes += len(data)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def drop(self, name: str) -> None:
        """Forget a chunk."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        data = self._kept.pop(name, None)
        self._bytes -= len(data) if data is not None else 0


class InFlight:
    """The chunks that this process is fetching from the far store. Safe from several threads.

    Nothing waits while it has claimed something, so no two threads wait for each other.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._names: set[str] = set()
        self._changed = threading.Condition()

    def claim(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Claim the first of `chunks` up to one that is in flight; return them, maybe none."""
        with self._changed:
            count = 0
            while count < len(chunks) and chunks[count].name not in self._names:
                count += 1
            claimed = list(chunks[:count])
            self._names.update(chunk.name for chunk in claimed)
            return claimed

    def end(self, chunks: Sequence[Chunk]) -> None:
        """Give up the claims."""
        with self._changed:
            self._names.difference_update(chunk.name for chunk in chunks)
            self._changed.notify_all()

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until a chunk is not in flight; return whether that was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: name not in self._names, timeout_s)
