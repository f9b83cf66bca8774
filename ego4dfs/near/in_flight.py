"""InFlight: the chunks that this process is fetching, so that each of them is fetched once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ego4dfs.near.chunks import Chunk


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
