"""The thread that writes the blocks of a process to disk, and records which were read."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cache import blockfile, cleanup
from ego4dfs.cache.blockfile import MAX_VERIFIED_KEYS, VerifiedKeys
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.index import BlockIndex
from ego4dfs.errors import os_error_text
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.throttled_log import ThrottledLog
from ego4dfs.sqlite import is_locked

log = logging.getLogger(__name__)

_BATCH_BLOCKS = 16
_BATCH_BYTES = 4 << 20  # who waits for a block waits for its batch
_TOUCH_EVERY_S = 5.0
_EXPECTED = (OSError, sqlite3.Error)


@dataclass(frozen=True, slots=True)
class Put:
    """A block to be written; `done` is called once, with True if the block is on disk."""

    key: str
    url: str
    data: memoryview
    done: Callable[[bool], None]


class BlockWriter:
    """Reserves space for blocks, up to 16 or 4 MiB in one transaction, and writes them.

    Safe from several threads. A failed write costs the next reader a request, never an error.
    `_lock` guards the start and the end of the thread: each block is queued before its end, or
    not at all.
    """

    def __init__(
        self, directory: Path, index: BlockIndex, verified: VerifiedKeys, metrics: Metrics
    ) -> None:
        """Write below `directory`, counted by `index`; add the keys of new blocks to `verified`."""
        self._directory = directory
        self._prefix = f"{directory}/"
        self._index = index
        self._generation = index.generation
        self.verified = verified
        self._metrics = metrics
        self.touched: set[str] = set()
        self.pinned_objects: set[str] = set()
        """Ids of objects whose blocks are pinned when they are written."""
        self._puts: queue.SimpleQueue[Put | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._unwritable = ThrottledLog(log)
        self._lock = threading.Lock()

    @property
    def is_started(self) -> bool:
        """Whether the thread was started, or the writer is closed."""
        return self._thread is not None or self._closed

    def record_touches(self) -> None:
        """Record the order of use from now on."""
        try:
            with self._lock:
                self._start()
        except RuntimeError as error:
            self._unwritable.warning("the order of use is not recorded: %s", error)

    def put(self, put: Put) -> None:
        """Queue a block; once the writer is closed, none is written."""
        try:
            with self._lock:
                is_open = self._start()
                if is_open:
                    self._puts.put(put)
        except RuntimeError as error:  # no thread can be started; readers wait for `done`
            self._note_failure(error, (RuntimeError,))
            is_open = False
        if not is_open:
            self._report(put, stored=False)

    def _start(self) -> bool:
        """Start the thread if it does not run; False once the writer is closed. `_lock` is held.

        Raises RuntimeError if no thread can be started.
        """
        if self._closed:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
            thread.start()
            self._thread = thread
        return True

    def close(self, timeout_s: float) -> None:
        """Write the queued blocks, record which were read, and close the index.

        Returns after `timeout_s` if the disk hangs; the thread then ends with the process.
        """
        ending = threading.Thread(target=self._end, name="cache-close", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # no thread can be started, or the interpreter ends
            self._end()
            return
        ending.join(timeout_s)
        if ending.is_alive():
            log.warning(
                "the cache was not closed within %.0f s; unwritten blocks are lost", timeout_s
            )

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is not None:
                self._puts.put(None)
        if thread is not None:
            thread.join()
            self._thread = None
        self.flush_touched()
        self._index.close()

    def _run(self) -> None:
        with self._logged("the cache directory could not be cleaned up: %s"):
            cleanup.sweep_incoming(self._directory)
            if self._index.is_new:
                cleanup.remove_strays(self._directory, self._index)
            if self._index.recount():
                log.warning("the totals of the cache index were wrong; they were corrected")
        next_touch = time.monotonic() + _TOUCH_EVERY_S
        running = True
        while running:
            batch, running = self._next_batch(max(0.0, next_touch - time.monotonic()))
            if batch:
                self._store(batch)
            if time.monotonic() >= next_touch:
                self.flush_touched()
                next_touch = time.monotonic() + _TOUCH_EVERY_S

    @contextmanager
    def _logged(self, text: str) -> Iterator[None]:
        """Log an error and continue: readers wait for `done`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self._unwritable.warning(text, error, traceback=not isinstance(error, _EXPECTED))

    def _next_batch(self, wait_s: float) -> tuple[list[Put], bool]:
        batch: list[Put] = []
        count = 0
        try:
            put = self._puts.get(timeout=wait_s)
            while put is not None:
                batch.append(put)
                count += len(put.data)
                if len(batch) == _BATCH_BLOCKS or count >= _BATCH_BYTES:
                    return batch, True
                put = self._puts.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _store(self, batch: list[Put]) -> None:
        """Write the blocks that have a row; some may have been evicted before they are written.

        The index is queried again after the writes: another process that evicts a block in between
        finds no file to remove, and no row would count the file that is written then.
        """
        stored: set[str] = set()
        try:
            rows = [(p.key, len(p.data), p.url, self._is_pinned(p.key)) for p in batch]
            evicted = self._index.reserve(rows)
            self._metrics.add_evictions(evicted)
            self._note_replacement()
            keys = {put.key for put in batch}
            wanted = self._index.reserved(keys) if evicted else keys
            written = {p.key for p in batch if p.key in wanted and self._write_one(p)}
            stored = self._index.reserved(written)
            for key in written - stored:
                (self._directory / relative_name(key)).unlink(missing_ok=True)
            self.verified.record(*stored)
        except Exception as error:  # noqa: BLE001 - readers wait for `done`
            self._note_failure(error)
        finally:
            for put in batch:
                self._report(put, stored=put.key in stored)

    def _note_replacement(self) -> None:
        """Clear the verified keys if the directory was replaced: they are of other files."""
        if self._generation == self._index.generation:
            return
        self._generation = self._index.generation
        self.verified.clear()
        log.warning("%s was removed or replaced; a new index was opened", self._directory)
        cleanup.remove_strays(self._directory, self._index)

    def _is_pinned(self, key: str) -> bool:
        return key.partition("-")[0] in self.pinned_objects

    def _write_one(self, put: Put) -> bool:
        try:
            blockfile.write(self._prefix + relative_name(put.key), put.key, put.data)
        except OSError as error:
            self._note_failure(error)
            self._index.remove(put.key)
            return False
        return True

    def _note_failure(
        self, error: Exception, expected: tuple[type[Exception], ...] = _EXPECTED
    ) -> None:
        traceback = not isinstance(error, expected)
        reason = os_error_text(error) if isinstance(error, OSError) else error
        self._unwritable.warning("the cache cannot be written: %s", reason, traceback=traceback)
        self._metrics.add_error(f"the cache cannot be written: {reason}")

    def _report(self, put: Put, *, stored: bool) -> None:
        try:
            put.done(stored)
        except Exception:
            log.exception("the callback for block %s failed", put.key)

    def flush_touched(self) -> None:
        """Record which blocks were read; retry later if another process has locked the index."""
        touched, self.touched = self.touched, set()
        with self._logged("the order of use was not recorded: %s"):
            try:
                if touched:
                    self._index.touch(list(touched))  # a copy: a reader may still add a key
            except sqlite3.Error as error:
                if is_locked(error) and len(touched) < MAX_VERIFIED_KEYS:
                    self.touched |= touched
                raise
