"""Changes to the facts that are not on disk yet."""

from __future__ import annotations

import threading
from contextlib import suppress

from ego4dfs.facts.table import HELD_S, FactsTable
from ego4dfs.store import ObjectFacts

_MOST = 100_000
"""So many changes wait for a file that another process holds; what is older costs a HEAD again."""


class WriteQueue:
    """Facts to be written, and URLs whose rows are to be dropped, by URL; None says drop.

    Safe from several threads. A table that another process holds is written later, in the
    background. `_lock` guards the changes and is never held while the disk works.
    """

    def __init__(self, table: FactsTable) -> None:
        """Write to `table`."""
        self._table = table
        self._changes: dict[str, ObjectFacts | None] = {}
        self._timer: threading.Timer | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # one transaction at a time, in the order of the changes

    def put(self, url: str, facts: ObjectFacts | None, *, most: int = 1) -> None:
        """Take a change, and write all of them once there are `most`."""
        with self._lock:
            self._changes.pop(url, None)
            self._changes[url] = facts
            count = len(self._changes)
            if count > _MOST:
                del self._changes[next(iter(self._changes))]
        if count >= most:
            self.flush()

    def is_dropped(self, url: str) -> bool:
        """Tell whether the row on disk is not to be believed."""
        return url in self._changes and self._changes.get(url) is None

    def flush(self) -> None:
        """Write what there is, now if nobody holds the table, else later."""
        if self._table.is_held:
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
        """Try once more, and give up what cannot be written now."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.flush()

    def _write_later(self) -> None:
        with self._lock, suppress(RuntimeError):  # the interpreter ends: no thread is to be had
            if self._timer is None and not self._closed:
                timer = threading.Timer(HELD_S + 0.1, self._write_again)
                timer.daemon = True
                timer.start()
                self._timer = timer

    def _write_again(self) -> None:
        with self._lock:
            self._timer = None
        self.flush()
