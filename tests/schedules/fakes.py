"""Fakes for simulated threads: an object store, and a block cache with a writer thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ego4dfs.store import Fetched, ObjectFacts
from schedules.scheduler import point
from schedules.simulated import SimpleQueue, Thread

PIECE_BYTES = 20


def run_threads(*bodies: Callable[[], object]) -> None:
    """Run each body in a thread, and return when all have ended."""
    threads = [Thread(body, "reader") for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def content(length: int, salt: int = 0) -> bytes:
    """Return bytes that differ from their neighbours."""
    return bytes((salt + 7 * number) % 251 for number in range(length))


class Store:
    """An object store that records GETs and answers in pieces; other threads run in between."""

    source = "fake"

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.gets: list[tuple[str, int, int]] = []
        self.obey: Callable[[str, int, int], object] = lambda _url, _start, _stop: None
        """Called for each GET, and before each further piece; may raise, or let time pass."""

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        self._begin(url, start, stop)
        data = memoryview(self.objects[url])[start:stop]
        return Fetched(data, start, ObjectFacts(len(self.objects[url]), etag, "", 0))

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Callable[[int, memoryview], None],
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        self._begin(url, start, stop)
        data = memoryview(self.objects[url])
        for first in range(start, stop, PIECE_BYTES):
            sink(first, data[first : min(first + PIECE_BYTES, stop)])
            point("between two pieces of a body")
            self.obey(url, first + PIECE_BYTES, stop)

    def _begin(self, url: str, start: int, stop: int) -> None:
        self.gets.append((url, start, stop))
        point("GET is sent")
        self.obey(url, start, stop)
        point("GET is answered")

    def times_fetched(self, url: str) -> Counter[int]:
        """Count how often each byte of an object was requested."""
        return Counter(
            byte for of, start, stop in self.gets if of == url for byte in range(start, stop)
        )


class Ranges:
    """RangeLocks in memory; `beside` are those of another process."""

    def __init__(self, beside: Ranges | None = None) -> None:
        self.may_wait = True
        self._owners: dict[int, Ranges] = beside._owners if beside is not None else {}

    def acquire(self, start: int, length: int = 1) -> bool:
        point("locks a range")
        places = range(start, start + length)
        if any(self._owners.get(place, self) is not self for place in places):
            return False
        self._owners |= dict.fromkeys(places, self)
        return True

    def release(self, start: int, length: int = 1) -> None:
        point("unlocks a range")
        for place in range(start, start + length):
            if self._owners.get(place) is self:
                del self._owners[place]

    def note_failed_wait(self) -> None:
        self.may_wait = False

    @property
    def is_idle(self) -> bool:
        return not self._owners


class Cache:
    """A BlockCache in memory: its writer thread keeps what `keeps` allows.

    `beside` is the cache of another process, in the same directory.
    """

    def __init__(self, beside: Cache | None = None) -> None:
        self.blocks: dict[str, bytes] = beside.blocks if beside is not None else {}
        self.fetching = Ranges(beside.fetching if beside is not None else None)
        self.keeps: Callable[[str], bool] = lambda _key: True
        self._puts: SimpleQueue = SimpleQueue()
        self._writer: Thread | None = None

    def contains(self, key: str) -> bool:
        point("looks for a file")
        return key in self.blocks

    def has_any(self, object_id: str) -> bool:
        point("looks for rows")
        return any(key.startswith(object_id) for key in self.blocks)

    def read_into(self, key: str, start: int, view: memoryview, *, is_use: bool = True) -> bool:
        point("opens a file")
        data = self.blocks.get(key)
        if data is None:
            return False
        point("reads a file")
        view[:] = data[start : start + len(view)]
        return True

    def put(self, key: str, url: str, data: memoryview, done: Callable[[bool], None]) -> None:
        if self._writer is None:
            self._writer = Thread(self._write, "writer")
            self._writer.start()
        self._puts.put((key, bytes(data), done))

    def evict(self) -> None:
        """Remove the oldest block."""
        point("evicts")
        if self.blocks:
            del self.blocks[next(iter(self.blocks))]

    def close(self) -> None:
        """Write what was put."""
        if self._writer is not None:
            self._puts.put(None)
            self._writer.join()

    def _write(self) -> None:
        while (item := self._puts.get()) is not None:
            key, data, done = item
            is_kept = self.keeps(key)
            if is_kept:
                self.blocks[key] = data
            point("wrote a file")
            done(is_kept)


def facts(version: int, *, size: int = 100) -> Any:
    """Return the facts of a version of an object: a later version has a larger number."""
    return ObjectFacts(size, f"{version:032x}", "", version)
