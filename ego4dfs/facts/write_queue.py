"""A queue of changes to the facts table: writes in batches, deferred while it is locked."""

from __future__ import annotations

import threading
from contextlib import suppress

from ego4dfs.facts.table import LOCKED_S, FactsTable
from ego4dfs.store import ObjectFacts

_MAX_CHANGES = 100_000
"""Limit of unwritten changes; each one dropped costs a HEAD request in the next process."""


class WriteQueue:
    """Unwritten changes by URL: new facts, or None to delete the row.

    Safe from several threads. If another process has locked the table, it is written later, in
    the background. `_lock` guards the changes and is never held during I/O.
    """

    def __init__(self, table: FactsTable) -> None:
        """Write to `table`."""
        self._table = table
        self._changes: dict[str, ObjectFacts | None] = {}
        self._timer: threading.Timer | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # one transaction at a time, in the order of the changes

    def put(self, url: str, facts: ObjectFacts | None, *, batch: int = 1) -> None:
        """Add a change; write all of them once there are `batch`."""
        with self._lock:
            self._changes.pop(url, None)
            self._changes[url] = facts
            count = len(self._changes)
            if count > _MAX_CHANGES:
                del self._changes[next(iter(self._changes))]
        if count >= batch:
            self.flush()

    def is_deleted(self, url: str) -> bool:
        """Return whether the row on disk is waiting to be deleted."""
        return url in self._changes and self._changes.get(url) is None

    def flush(self) -> None:
        """Write all changes now, or later if another process has locked the table."""
        if self._table.is_locked:
            self._write_later()
            return
        with self._writing:
            with self._lock:
                changes = dict(self._changes)
            if not changes:
                return
            is_written = self._table.apply(changes)
            with self._lock:
                for url, facts in changes.items() if is_written else ():
                    if url in self._changes and self._changes[url] is facts:
                        del self._changes[url]
        if not is_written:
            self._write_later()

    def close(self) -> None:
        """Write once more; drop what cannot be written now."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.flush()

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
