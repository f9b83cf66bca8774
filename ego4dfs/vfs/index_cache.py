"""IndexCache: the parsed indexes of videos, and cuts of them, in memory that is limited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING

from ego4dfs.errors import MediaError, StoreUnavailable, detach, renewed
from ego4dfs.runtime.deadline import ANSWER_S, Deadline
from ego4dfs.runtime.memory_limit import within_memory_limit
from ego4dfs.runtime.recent import Recent

if TYPE_CHECKING:
    from ego4dfs.media import Cut, MediaIndex, Read

MAX_INDEXES_BYTES = 48 << 20
"""How much memory indexes take: about 6 MB for a video of full_scale."""
_LEAST_INDEXES_BYTES = 16 << 20  # where memory is limited: an index of an hour must be kept
MAX_CUTS_BYTES = 16 << 20
"""How much memory cuts take: about 2 KB for two seconds."""
LONG_READ_BYTES = 4 << 20
"""A longer index, of more than two hours, is read and parsed by one thread at a time."""
_PIECE_BYTES = 128  # a range and its ends, as objects


class IndexCache:
    """Keeps the last indexes and cuts, and the errors of videos without a usable index.

    One thread at a time parses or cuts, because that takes some hundred MiB for the longest index;
    `computing` is held then, and not during I/O. Safe from several threads.
    """

    def __init__(self) -> None:
        """Begin with nothing kept."""
        most = within_memory_limit(MAX_INDEXES_BYTES, least=_LEAST_INDEXES_BYTES)
        self._indexes: Recent[MediaIndex | MediaError] = Recent(most)
        self._cuts: Recent[Cut] = Recent(within_memory_limit(MAX_CUTS_BYTES))
        self.computing = threading.Lock()
        self._long_reads = threading.Semaphore(1)

    def __contains__(self, version: str) -> bool:
        """Return whether the index of a version of an object is in memory."""
        return self._indexes.get(version) is not None

    def index(
        self, version: str, size: int, read: Read, on_parsed: Callable[[MediaIndex], None]
    ) -> MediaIndex:
        """Return the index of a version of an object of `size` bytes, which `read` returns.

        `on_parsed` is called with an index that was not in memory.
        Raises MediaError if it has none that can be used, StoreUnavailable if long indexes of
        other videos do not arrive in time, and what `read` raises.
        """
        found = self._indexes.get(version)
        if found is None:
            with ExitStack() as held:
                found = self._load(version, size, partial(self._read, held, read))
            if not isinstance(found, MediaError):
                on_parsed(found)
        if isinstance(found, MediaError):
            raise renewed(found)
        return found

    def cut(
        self, version: str, start_s: float, end_s: float, index: Callable[[], MediaIndex]
    ) -> Cut:
        """Return a window of a version of an object; `index` is called if it is not kept.

        Raises ValueError as `cut_inside` does, and what `index` raises.
        """
        from ego4dfs.media import cut_inside  # noqa: PLC0415 - numpy takes 0.1 s

        key = f"{version} {start_s!r} {end_s!r}"
        found = self._cuts.get(key)
        if found is None:
            made_of = index()
            with self.computing:
                found = self._cuts.get(key) or cut_inside(made_of, start_s, end_s)
            self._cuts.put(key, found, len(found.header) + _PIECE_BYTES * len(found.pieces))
        return found

    def _load(self, version: str, size: int, read: Read) -> MediaIndex | MediaError:
        from ego4dfs.media import find_index, parse_index  # noqa: PLC0415 - numpy takes 0.1 s

        try:
            located = find_index(size, read)
            with self.computing:
                found = self._indexes.get(version) or parse_index(located)
                return self._indexes.put(version, found, _index_bytes(found))
        except MediaError as error:
            return self._indexes.put(version, detach(error), _PIECE_BYTES)

    def _read(self, held: ExitStack, read: Read, offset: int, length: int) -> bytes:
        if length > LONG_READ_BYTES:
            if not self._long_reads.acquire(timeout=Deadline.after(ANSWER_S).remaining_s):
                raise StoreUnavailable("the long indexes of other videos do not arrive")
            held.callback(self._long_reads.release)
        return read(offset, length)


def _index_bytes(index: MediaIndex | MediaError) -> int:
    if isinstance(index, MediaError):
        return _PIECE_BYTES
    boxes = sum(len(box) for track in index.tracks for box in astuple(track.boxes))
    return boxes + sum(track.samples.nbytes for track in index.tracks)
