"""BlockCache: put blocks in, read parts of them out, never above the bound."""

from __future__ import annotations

import errno
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import diskcache

from ego4dfs.cache import blockfile, pins, upkeep
from ego4dfs.cache.ahead import Ahead
from ego4dfs.cache.checked import Checked
from ego4dfs.cache.directory import doubt_limit, share_of_disk
from ego4dfs.cache.index import BlockIndex, relative_name
from ego4dfs.cache.upkeep import CacheReport
from ego4dfs.deadline import CLOSE_S
from ego4dfs.errors import CacheError
from ego4dfs.metrics import Metrics
from ego4dfs.seldom import Seldom

log = logging.getLogger(__name__)

_BATCH_BLOCKS, _TOUCH_EVERY_S = 16, 5.0
_EXPECTED = (OSError, sqlite3.Error, diskcache.Timeout)


@dataclass(frozen=True, slots=True)
class _Put:
    key: str
    url: str
    data: memoryview
    done: Callable[[bool], None]


class BlockCache:
    """Blocks of objects on disk, bounded, shared by threads, mounts and processes.

    A read opens the block's file by its name, past the index. One writer thread reserves room and
    writes; it starts with the first hit or `put`, so a cache may be opened before a fork. A cache
    that cannot be written goes on serving what it has: a failed write costs the next reader a
    request, never an error.
    """

    def __init__(
        self,
        inner: Path,
        metrics: Metrics,
        *,
        max_bytes: int | None = None,
        eviction: str | None = None,
    ) -> None:
        """Open the blocks below `inner` (see prepare_directory).

        None keeps what an existing cache has; a new one takes a share of the free disk, and lru.
        Raises CacheError when the pinned blocks need more.
        """
        self._directory = inner / "blocks"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CacheError(f"cache directory {self._directory}: {error.strerror}") from error
        if max_bytes is None and not (self._directory / "cache.db").exists():
            max_bytes = share_of_disk(self._directory)
        elif max_bytes is not None:
            doubt_limit(self._directory, max_bytes)
        pins.check_limit(self._directory, max_bytes)
        self._index = BlockIndex(self._directory, max_bytes, eviction)
        self.ahead = Ahead(self._index)
        self._metrics = metrics
        self._prefix = f"{self._directory}/"
        self._checked = Checked()
        self._touched: set[str] = set()
        self._pinning: set[str] = set()  # objects whose blocks are pinned when they arrive
        self._puts: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._closed = False
        self._unreadable, self._unwritable = Seldom(log), Seldom(log)
        self._lock = threading.Lock()  # guards the start of the writer

    @property
    def max_bytes(self) -> int:
        """The bound in bytes; the last that any mount of this directory was given."""
        return self._index.max_bytes

    @property
    def eviction(self) -> str:
        """What leaves first, `lru` or `none`; the last that any mount of this directory said."""
        return self._index.eviction

    @property
    def used_bytes(self) -> int:
        """Bytes taken now, on disk."""
        return self._index.used_bytes

    def __len__(self) -> int:
        return len(self._index)

    def contains(self, key: str) -> bool:
        """Tell whether the block's file is there, without a check of its bytes."""
        return os.path.exists(self._prefix + relative_name(key))  # noqa: PTH110 - hot path

    def read_into(self, key: str, start: int, view: memoryview) -> bool:
        """Fill `view` with the block's bytes from `start` on; False when it cannot be had here.

        A block is checked as a whole before its first use in this process; one that is damaged
        is dropped and reported as not there. One that cannot be opened now stays.
        """
        path = self._prefix + relative_name(key)
        try:
            if key not in self._checked:
                if not blockfile.is_sound(path, key):
                    return self._drop(key, "is damaged")
                self._checked.note(key)
            if not blockfile.read_into(path, start, view):
                return self._drop(key, "is cut short")
        except FileNotFoundError:
            self._checked.discard(key)
            return False
        except OSError as error:
            if error.errno == errno.EIO:
                return self._drop(key, f"cannot be read ({error.strerror})")
            self._unreadable.warning("cached block %s cannot be opened: %s", key, error)
            return False  # no descriptors, no memory: that says nothing about the block
        self._touched.add(key)
        if self._writer is None and not self._closed:
            self._record_touches()
        return True

    def put(self, key: str, url: str, data: memoryview, done: Callable[[bool], None]) -> None:
        """Hand a block to the writer; `done` is told once whether it is on disk or given up."""
        try:
            self._start_writer()
        except RuntimeError as error:  # no thread is to be had: who waits must hear of it
            self._tell_failure(error)
            done(False)
            return
        self._puts.put(_Put(key, url, data, done))

    def drop(self, keys: Iterable[str], why: str) -> None:
        """Drop those of some blocks that are here: their bytes were found wrong."""
        for key in keys:
            if self.contains(key):
                self._drop(key, why)

    @property
    def room_to_pin(self) -> int:
        """Bytes that may still be pinned."""
        return max(0, int(self.max_bytes * pins.PIN_SHARE) - pins.pinned_bytes(self._directory))

    def pin(self, object_id: str, keys: Iterable[str]) -> int:
        """Pin the blocks of an object: those that are here, counted, and those put from now on.

        A pinned block leaves only by `unpin`, `clear`, or by being damaged.
        """
        self._pinning.add(object_id)
        return self._index.pin(keys)

    def unpin(self, urls: Iterable[str] | None = None) -> int:
        """Let the blocks of these objects, or of all, be evicted again; count the blocks."""
        self._pinning.clear()
        wanted = None if urls is None else frozenset(urls)
        found = pins.pinned_keys(self._directory)
        return self._index.pin((k for k, u in found if wanted is None or u in wanted), on=False)

    def pins(self) -> list[pins.Pin]:
        """Return what is pinned, object by object."""
        return pins.pins(self._directory)

    def verify(self) -> CacheReport:
        """Check every block, drop the damaged, and remove files that no row counts."""
        return upkeep.verify(self._directory, self._index)

    def clear(self) -> int:
        """Drop every block and return how many there were; running mounts fetch anew."""
        count = self._index.clear()
        self._checked.clear()
        upkeep.remove_strays(self._directory, self._index)
        return count

    def close(self) -> None:
        """Write what was handed over, a second at most, then stop the writer."""
        self._closed = True
        writer = self._writer
        if writer is not None:
            self._puts.put(None)
            writer.join(CLOSE_S / 4)
            self._writer = None
        self._flush_touched()
        self._index.close()

    def _start_writer(self) -> None:
        with self._lock:
            if self._writer is None:
                writer = threading.Thread(target=self._write, name="cache", daemon=True)
                writer.start()
                self._writer = writer

    def _record_touches(self) -> None:
        try:
            self._start_writer()
        except RuntimeError as error:
            self._unwritable.warning("the order of use is not recorded: %s", error)

    def _drop(self, key: str, what: str) -> bool:
        log.warning("cached block %s %s; it will be fetched again", key, what)
        self._metrics.error(f"cached block {key} {what}; fetched again")
        self._checked.discard(key)
        try:
            self._index.forget(key)
        except (sqlite3.Error, diskcache.Timeout) as error:
            log.warning("the cache index is busy: %s", error)
        with suppress(OSError):  # not there, or not ours to remove
            Path(self._prefix + relative_name(key)).unlink()
        return False

    def _write(self) -> None:
        self._sweep_parts()
        next_touch = time.monotonic() + _TOUCH_EVERY_S
        running = True
        while running:
            batch, running = self._next_batch(max(0.0, next_touch - time.monotonic()))
            if batch:
                self._store(batch)
            if time.monotonic() >= next_touch:
                self._flush_touched()
                next_touch = time.monotonic() + _TOUCH_EVERY_S

    def _sweep_parts(self) -> None:
        try:
            upkeep.sweep_parts(self._directory)
        except OSError as error:
            log.warning("parts of blocks were not swept: %s", error)

    def _next_batch(self, wait_s: float) -> tuple[list[_Put], bool]:
        batch: list[_Put] = []
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

    def _store(self, batch: list[_Put]) -> None:
        """Write blocks whose rows stand; those that were evicted before they came are left out.

        The look behind the writes matters as much: another process that evicts in between finds
        no file to remove, and nothing would ever count this one.
        """
        stored: set[str] = set()
        try:
            rows = [(p.key, len(p.data), p.url, self._is_pinned(p.key)) for p in batch]
            self._metrics.add("evictions", self._index.reserve(rows))
            keys = {put.key for put in batch}
            wanted = self._index.reserved(keys)
            written = {p.key for p in batch if p.key in wanted and self._write_one(p)}
            stored = self._index.reserved(written)
            for key in written - stored:
                Path(self._prefix + relative_name(key)).unlink(missing_ok=True)
            self._checked.note(*stored)
        except Exception as error:  # noqa: BLE001 - the writer lives on: readers wait for `done`
            self._tell_failure(error)
        finally:
            for put in batch:
                self._report(put, put.key in stored)

    def _is_pinned(self, key: str) -> bool:
        return key.partition("-")[0] in self._pinning

    def _write_one(self, put: _Put) -> bool:
        try:
            blockfile.write(self._directory / relative_name(put.key), put.key, put.data)
        except OSError as error:
            self._tell_failure(error)
            self._index.forget(put.key)
            return False
        return True

    def _tell_failure(self, error: Exception) -> None:
        traceback = not isinstance(error, _EXPECTED)
        self._unwritable.warning("the cache cannot be written: %s", error, traceback=traceback)
        self._metrics.error(f"the cache cannot be written: {error}")

    def _report(self, put: _Put, stored: bool) -> None:  # noqa: FBT001 - as `done` takes it
        try:
            put.done(stored)
        except Exception:
            log.exception("what became of block %s could not be told", put.key)

    def _flush_touched(self) -> None:
        touched, self._touched = self._touched, set()
        try:
            if touched:
                self._index.touch(list(touched))  # a reader may be adding its last one
        except Exception as error:  # noqa: BLE001 - the order of use is not worth the writer
            text = "the order of use was not recorded: %s"
            self._unwritable.warning(text, error, traceback=not isinstance(error, _EXPECTED))
