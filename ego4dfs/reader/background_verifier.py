"""Background thread that compares whole cached objects with their ETags, at a bounded CPU share."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from ego4dfs.blocks import ObjectRef
from ego4dfs.cache import BlockCache
from ego4dfs.metrics import Metrics
from ego4dfs.reader.etag_verifier import MAX_REMEMBERED, EtagVerifier
from ego4dfs.store.etag import part_sizes

log = logging.getLogger(__name__)

CPU_SHARE = 0.2
"""The largest share of one core that is used while there is something to compare."""
QUIET_S = 2.0
"""An object is compared when none of its blocks has arrived for this long."""

_REST_AFTER_S = 0.005
_CLOSE_S = 1.0
_NICE = 10


class BackgroundVerifier:
    """Compares each object with its ETag once the last of its blocks is cached.

    One that disagrees is dropped, and fetched again by its next reader. Objects that were cached
    before this process started, or that wait when it ends, are not compared. Safe from several
    threads; the thread starts with the first block.
    """

    def __init__(
        self,
        cache: BlockCache,
        metrics: Metrics,
        renew: Callable[[str], None] = lambda _url: None,
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Compare what is in `cache`; see EtagVerifier for `metrics` and `renew`."""
        self._verifier = EtagVerifier(cache, metrics, renew)
        self._quiet_s = quiet_s
        self._waiting: OrderedDict[str, tuple[ObjectRef, float]] = OrderedDict()
        self._rested_s = 0.0  # CPU time of the thread at its last rest
        self._changed = threading.Condition()  # guards _waiting and the start of the thread
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many objects wait for their comparison."""
        return len(self._waiting)

    @property
    def doubted(self) -> int:
        """How many objects disagree in buckets in which none has agreed."""
        return self._verifier.doubted

    def stored(self, ref: ObjectRef) -> None:
        """Note that a block or a part of an object was cached now."""
        if ref.object_id not in self._waiting and not part_sizes(ref.size, ref.etag):
            return
        with self._changed:
            self._waiting[ref.object_id] = (ref, time.monotonic() + self._quiet_s)
            self._waiting.move_to_end(ref.object_id)
            if len(self._waiting) > MAX_REMEMBERED:
                self._waiting.popitem(last=False)
            if len(self._waiting) == 1:
                self._changed.notify()
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._run, name="verify", daemon=True)
                with suppress(RuntimeError):  # no thread can be started now: the next block retries
                    thread.start()
                    self._thread = thread

    def drops(self, ref: ObjectRef) -> int:
        """Return how often the bytes of this object version were found wrong and dropped."""
        return self._verifier.drops(ref)

    def close(self) -> None:
        """End the thread; objects in its queue are not compared."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (ref := self._next()) is not None:
            self._compare(ref)
            self._rest(_REST_AFTER_S)

    def _compare(self, ref: ObjectRef) -> None:
        try:
            self._verifier.verify(ref, self._pause)
        except Exception as error:  # noqa: BLE001 - the cache may have been removed
            log.warning("%s could not be compared with its ETag: %s", ref.url, error)
        for other in self._verifier.recheck():
            self.stored(other)

    def _next(self) -> ObjectRef | None:
        """Wait for an object whose blocks have stopped arriving; None once this is closed."""
        with self._changed:
            while not self._closed.is_set():
                if not self._waiting:
                    self._changed.wait()
                    continue
                object_id, (ref, due_s) = next(iter(self._waiting.items()))
                wait_s = due_s - time.monotonic()
                if wait_s <= 0:
                    del self._waiting[object_id]
                    return ref
                self._changed.wait(wait_s)
        return None

    def _pause(self) -> bool:
        self._rest(_REST_AFTER_S)
        return not self._closed.is_set()

    def _rest(self, after_s: float) -> None:
        """Sleep in proportion to the CPU time since the last rest, if `after_s` or more."""
        spent_s = time.thread_time() - self._rested_s
        if spent_s >= after_s:
            self._closed.wait(spent_s * (1 / CPU_SHARE - 1))
            self._rested_s = time.thread_time()
