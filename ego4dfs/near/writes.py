"""Writes: what goes to the near tier, by a few threads, from a queue that is limited in bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from ego4dfs.near.lease import Lease
from ego4dfs.near.tier import NearFailed, NearTier
from ego4dfs.runtime.daemon_threads import DaemonThreadPool

THREADS = 4


class Writes:
    """The queue of writes. What does not fit, or comes while reads or writes pause, is dropped.

    What is queued can be read from here until it is written. Safe from several threads;
    `_changed` guards all state and is not held while a request runs.
    """

    def __init__(self, tier: NearTier) -> None:
        """Write to `tier`; threads start with the first write."""
        self._tier = tier
        self._pool = DaemonThreadPool("near")
        self._queued: dict[str, memoryview] = {}
        self._removed: set[str] = set()  # never written again by this process
        self._bytes = 0
        self._running = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def queued(self, name: str) -> memoryview | None:
        """Return content that is not written yet, or None."""
        return self._queued.get(name)

    def put(
        self, name: str, content: memoryview | bytes, lease: Lease | None, *, wait: bool = False
    ) -> bool:
        """Queue an object; `lease` is kept until it is written. False if it was dropped.

        With `wait`, waits until there is room.
        """
        data, limit = memoryview(content), self._tier.limits.queue_bytes
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._bytes + len(data) <= limit)
            is_refused = self._is_closed or not self._tier.is_fillable()
            if is_refused or self._bytes + len(data) > limit:
                return False
            self._bytes += len(data)
            self._queued[name] = data
        if lease is not None:
            lease.hold()
        self.submit(partial(self._write, name, data, lease))
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and write them no more: what was queued or is being written, too."""
        removed = list(names)
        with self._changed:
            self._removed.update(removed)
            for name in removed:
                self._queued.pop(name, None)
        self.submit(partial(self._remove, removed))

    def release(self, lease: Lease | None) -> None:
        """Give a lease back, once all that was queued under it is written."""
        if lease is not None and lease.let_go():
            self.submit(partial(self._end, lease))

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written; return whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout_s)

    def close(self) -> None:
        """Wait for writes for a bounded time; then drop the others."""
        with self._changed:
            self._is_closed = True
        self._pool.close(self._tier.limits.flush_s if self._tier.accepts_writes else 0.0)

    def submit(self, task: partial[None]) -> None:
        """Run `task` in one of the threads, or here if none can be started or this is closed."""
        with self._changed:
            self._running += 1
        if not self._pool.submit(partial(self._run, task), limit=THREADS):
            self._run(task)

    def _run(self, task: partial[None]) -> None:
        try:
            task()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _write(self, name: str, data: memoryview, lease: Lease | None) -> None:
        try:
            if name not in self._removed:
                self._tier.put(name, data)
            if name in self._removed:  # perhaps while it was written
                self._tier.delete(name)
        except NearFailed:
            pass  # another read of it writes it again
        finally:
            with self._changed:
                self._bytes -= len(data)
                if self._queued.get(name) is data:
                    del self._queued[name]
                self._changed.notify_all()
            if lease is not None and lease.let_go():
                self._end(lease)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(NearFailed):
                self._tier.delete(name)

    def _end(self, lease: Lease) -> None:
        lease.delete()
