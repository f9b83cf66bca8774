"""A queue of changes to the facts table: writes in batches, deferred while it is locked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TypeVar

from ego4dfs.facts.table import LOCKED_S, FactsTable
from ego4dfs.store import ObjectFacts

_MAX_CHANGES = 100_000
"""Limit of unwritten changes; each one dropped costs a HEAD request in the next process."""
_MAX_WAITING = 1000
"""Limit of functions that wait for a write: each has locked names, which the kernel keeps in a
list."""


_Change = TypeVar("_Change")


class WriteQueue:
    """Unwritten changes by URL: new facts, None to delete the row, or the row's size confirmed.

    Safe from several threads. If another process has locked the table, it is written later, in
    the background. `_lock` guards the changes and is never held during I/O.
    """

    def __init__(self, table: FactsTable) -> None:
        """Write to `table`."""
        self._table = table
        self._changes: dict[str, ObjectFacts | None] = {}
        self._confirmed: dict[str, ObjectFacts] = {}
        self._waiting: list[tuple[Collection[str], Callable[[], None]]] = []
        self._timer: threading.Timer | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # one transaction at a time, in the order of the changes

    def add(self, url: str, facts: ObjectFacts | None) -> int:
        """Add a change without a write; return how many are unwritten."""
        with self._lock:
            self._confirmed.pop(url, None)
            self._changes.pop(url, None)
            self._changes[url] = facts
            return self._bounded()

    def confirm(self, url: str, facts: ObjectFacts) -> int:
        """Add that a GET has confirmed the size of facts that were added before.

        If their row is on disk, it is not written again. Ignored if it is to be deleted.
        Returns how many changes are unwritten.
        """
        with self._lock:
            if url not in self._changes:
                self._confirmed[url] = facts
            elif self._changes[url] is not None:
                self._changes[url] = facts
            return self._bounded()

    def is_changed(self, url: str) -> bool:
        """Return whether the row on disk is waiting to be replaced or deleted."""
        return url in self._changes

    def write(self, urls: Collection[str], call: Callable[[], None]) -> None:
        """Write the changes of these URLs, and call a function as `when_written` does."""
        if any(map(self.is_changed, urls)):
            self.flush()
        self.when_written(urls, call)

    def when_written(self, urls: Collection[str], call: Callable[[], None]) -> None:
        """Call a function once no change of these URLs is unwritten: now, or after a later write.

        It must not use the queue. The oldest of more than _MAX_WAITING are called before that, and
        none after the close.
        """
        with self._lock:
            if not self._changes.keys().isdisjoint(urls):
                self._waiting.append((urls, call))
                if len(self._waiting) <= _MAX_WAITING:
                    return
                call = self._waiting.pop(0)[1]
        call()

    def flush(self) -> None:
        """Write all changes now, or later if another process has locked the table."""
        with self._writing:
            is_written = self._write()
        if not is_written:
            self._write_later()

    def write_batches(self, size: int) -> None:
        """Write while `size` or more changes are unwritten, unless another thread does that.

        So no thread waits for another one's write, and fewer than `size` changes stay unwritten.
        """
        is_written = True
        while is_written and self._count() >= size and self._writing.acquire(blocking=False):
            try:
                is_written = self._write()
            finally:
                self._writing.release()
        if not is_written:
            self._write_later()

    def _write(self) -> bool:
        """Write all changes; return False if another process has locked the table."""
        if self._table.is_locked:
            return False
        with self._lock:
            changes, confirmed = dict(self._changes), dict(self._confirmed)
        if not changes and not confirmed:
            return True
        is_written = self._table.apply(changes, confirmed)
        if is_written:
            with self._lock:
                _remove(changes, self._changes)
                _remove(confirmed, self._confirmed)
                waiting, self._waiting = self._waiting, []
            for urls, call in waiting:
                self.when_written(urls, call)
        return is_written

    def close(self) -> None:
        """Write once more; drop what cannot be written now."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.flush()

    def _bounded(self) -> int:
        """Drop the oldest if there are too many; return how many are left. `_lock` is held."""
        if len(self._confirmed) > _MAX_CHANGES:
            del self._confirmed[next(iter(self._confirmed))]
        if len(self._changes) > _MAX_CHANGES:
            del self._changes[next(iter(self._changes))]
        return self._count()

    def _count(self) -> int:
        return len(self._changes) + len(self._confirmed)

    def _write_later(self) -> None:
        with self._lock, suppress(RuntimeError):  # no thread can be started: the interpreter ends
            if self._timer is None and not self._closed:
                timer = threading.Timer(LOCKED_S + 0.1, self._write_again)
                timer.daemon = True
                timer.start()
                self._timer = timer

    def _write_again(self) -> None:
        with self._lock:
            self._timer = None
        self.flush()


def _remove(written: Mapping[str, _Change], changes: dict[str, _Change]) -> None:
    """Remove the changes that were written, but not newer ones of the same URLs."""
    for url, change in written.items():
        if url in changes and changes[url] is change:
            del changes[url]
