"""The one thread that writes a process's blocks to disk, and records which were read."""

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

from ego4dfs.cache import blockfile, upkeep
from ego4dfs.cache.checked import MOST, Checked
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.index import BlockIndex
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.throttled_log import ThrottledLog
from ego4dfs.sqlite import is_locked

log = logging.getLogger(__name__)

_BATCH_BLOCKS, _TOUCH_EVERY_S = 16, 5.0
_EXPECTED = (OSError, sqlite3.Error)


@dataclass(frozen=True, slots=True)
class Put:
    """A block to be written; `done` is called once with whether it is on disk."""

    key: str
    url: str
    data: memoryview
    done: Callable[[bool], None]


class BlockWriter:
    """Reserves room for blocks, up to 16 in one transaction, and writes them.

    Safe from several threads. A failed write costs the next reader a request, never an error.
    `_lock` guards the start of the thread.
    """

    def __init__(
        self, directory: Path, index: BlockIndex, checked: Checked, metrics: Metrics
    ) -> None:
        """Write below `directory`, which `index` counts; note what is sound in `checked`."""
        self._directory = directory
        self._index = index
        self._generation = index.generation
        self._checked = checked
        self._metrics = metrics
        self.touched: set[str] = set()
        self.pinning: set[str] = set()
        """Objects whose blocks are pinned when they arrive."""
        self._puts: queue.SimpleQueue[Put | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._unwritable = ThrottledLog(log)
        self._lock = threading.Lock()

    @property
    def is_started(self) -> bool:
        """Whether the thread was started, or will not be any more."""
        return self._thread is not None or self._closed

    def start(self) -> None:
        """Start the thread if it does not run. Raises RuntimeError when none is to be had."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="cache", daemon=True)
                thread.start()
                self._thread = thread

    def record_touches(self) -> None:
        """Have the order of use recorded from now on."""
        try:
            self.start()
        except RuntimeError as error:
            self._unwritable.warning("the order of use is not recorded: %s", error)

    def put(self, put: Put) -> None:
        """Take a block."""
        try:
            self.start()
        except RuntimeError as error:  # no thread is to be had: who waits must hear of it
            self._note_failure(error)
            put.done(False)
            return
        self._puts.put(put)

    def close(self, timeout_s: float) -> None:
        """Write what was handed over, record what was read, and close the index, in time.

        A disk that hangs is left to a thread that ends with the process.
        """
        self._closed = True
        ending = threading.Thread(target=self._end, name="cache-end", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # no thread is to be had, or the interpreter ends
            self._end()
            return
        ending.join(timeout_s)
        if ending.is_alive():
            log.warning(
                "the cache was not closed in %.0f s; what it had to write is lost", timeout_s
            )

    def _end(self) -> None:
        thread = self._thread
        if thread is not None:
            self._puts.put(None)
            thread.join()
            self._thread = None
        self.flush_touched()
        self._index.close()

    def _run(self) -> None:
        with self._logged("the cache was not tidied: %s"):
            upkeep.sweep_parts(self._directory)
            if self._index.is_new:
                upkeep.remove_strays(self._directory, self._index)
            if self._index.recount():
                log.warning("the index of the cache had miscounted its blocks; it was set right")
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
        """Log what fails: the writer lives on, since readers wait for `done`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self._unwritable.warning(text, error, traceback=not isinstance(error, _EXPECTED))

    def _next_batch(self, wait_s: float) -> tuple[list[Put], bool]:
        batch: list[Put] = []
        try:
            put = self._puts.get(timeout=wait_s)
            while put is not None:
                batch.append(put)
                if len(batch) == _BATCH_BLOCKS:
                    return batch, True
                put = self._puts.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _store(self, batch: list[Put]) -> None:
        """Write blocks whose rows stand; those that were evicted before they came are left out.

        The look behind the writes matters as much: another process that evicts in between finds
        no file to remove, and nothing would ever count this one.
        """
        stored: set[str] = set()
        try:
            rows = [(p.key, len(p.data), p.url, self._is_pinned(p.key)) for p in batch]
            self._metrics.add_evictions(self._index.reserve(rows))
            self._note_renewal()
            keys = {put.key for put in batch}
            wanted = self._index.reserved(keys)
            written = {p.key for p in batch if p.key in wanted and self._write_one(p)}
            stored = self._index.reserved(written)
            for key in written - stored:
                (self._directory / relative_name(key)).unlink(missing_ok=True)
            self._checked.note(*stored)
        except Exception as error:  # noqa: BLE001 - the writer lives on: readers wait for `done`
            self._note_failure(error)
        finally:
            for put in batch:
                self._report(put, put.key in stored)

    def _note_renewal(self) -> None:
        """Begin anew where the directory was removed or replaced: the names are of other files."""
        if self._generation == self._index.generation:
            return
        self._generation = self._index.generation
        self._checked.clear()
        log.warning("%s was removed or replaced; its index was opened anew", self._directory)
        upkeep.remove_strays(self._directory, self._index)

    def _is_pinned(self, key: str) -> bool:
        return key.partition("-")[0] in self.pinning

    def _write_one(self, put: Put) -> bool:
        try:
            blockfile.write(self._directory / relative_name(put.key), put.key, put.data)
        except OSError as error:
            self._note_failure(error)
            self._index.forget(put.key)
            return False
        return True

    def _note_failure(self, error: Exception) -> None:
        traceback = not isinstance(error, _EXPECTED)
        self._unwritable.warning("the cache cannot be written: %s", error, traceback=traceback)
        self._metrics.add_error(f"the cache cannot be written: {error}")

    def _report(self, put: Put, stored: bool) -> None:  # noqa: FBT001 - as `done` takes it
        try:
            put.done(stored)
        except Exception:
            log.exception("what became of block %s could not be told", put.key)

    def flush_touched(self) -> None:
        """Record what was read; while another process holds the index it is kept for later."""
        touched, self.touched = self.touched, set()
        with self._logged("the order of use was not recorded: %s"):
            try:
                if touched:
                    self._index.touch(list(touched))  # a reader may be adding its last one
            except sqlite3.Error as error:
                if is_locked(error) and len(touched) < MOST:
                    self.touched |= touched
                raise
