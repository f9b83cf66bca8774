"""Whole objects in the cache compared with their ETags in the background, by one slow thread.

S3 gives no checksum with a range, so a block is kept as it came. Once all blocks of an object are
in the cache, its ETag proves them together, where it is an MD5 or made of the MD5s of parts.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from ego4dfs.blocks import BLOCK_SIZE, Extent, ObjectRef, block_extent, block_extents, part_extents
from ego4dfs.cache import BlockCache
from ego4dfs.metrics import Metrics
from ego4dfs.store.etag import Comparison, EtagEvidence, Proof, compare, only_part_size, part_sizes
from ego4dfs.store.s3_url import split_s3_url

log = logging.getLogger(__name__)

CPU_SHARE = 0.2
"""Share of one core that is taken at the most, while there is something to compare."""
QUIET_S = 2.0
"""How long nothing of an object must have come before it is looked at."""
MAX_WAITING = 16_384
"""How many objects may wait; of more, those that came first are not compared."""

_REST_AFTER_S = 0.005
_CLOSE_S = 1.0
_NICE = 10


class _NotWholeError(Exception):
    """A block left the cache meanwhile, or the thread is to end."""


class BackgroundVerifier:
    """Compares each object with its ETag once the last of its blocks has come.

    One that disagrees leaves the cache, and is fetched again by whoever reads it next. What came
    before this process, or is not compared when it ends, stays as it is. Safe from several
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
        """Compare what is in `cache`, counting into `metrics`.

        `renew` is called with the URL of an object that disagreed: it is to come by new
        connections.
        """
        self._renew = renew
        self._cache = cache
        self._metrics = metrics
        self._quiet_s = quiet_s
        self._evidence = EtagEvidence()
        self._touched: OrderedDict[str, tuple[ObjectRef, float]] = OrderedDict()
        self._lacking: OrderedDict[str, int] = OrderedDict()  # first block that was not there
        self._doubted: OrderedDict[str, ObjectRef] = OrderedDict()
        self._reported: set[str] = set()  # buckets whose ETags are taken for no MD5s
        self._drops: Counter[str] = Counter()
        self._rested_s = 0.0  # of the thread's CPU time
        self._changed = threading.Condition()  # guards _touched and the start of the thread
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def stored(self, ref: ObjectRef) -> None:
        """Note that a block or a part of an object is in the cache now."""
        if ref.object_id not in self._touched and not part_sizes(ref.size, ref.etag):
            return
        with self._changed:
            self._touched[ref.object_id] = (ref, time.monotonic() + self._quiet_s)
            self._touched.move_to_end(ref.object_id)
            if len(self._touched) > MAX_WAITING:
                self._touched.popitem(last=False)
            if len(self._touched) == 1:
                self._changed.notify()
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._run, name="verify", daemon=True)
                with suppress(RuntimeError):  # no thread is to be had now: the next block tries
                    thread.start()
                    self._thread = thread

    def drops(self, ref: ObjectRef) -> int:
        """Count how often the bytes of this object version left the cache for being wrong."""
        return self._drops[ref.object_id]

    def close(self) -> None:
        """End the thread; what is not compared yet is not compared any more."""
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
            if self._is_whole(ref):
                self._judge(ref, compare(partial(self._chunks, ref), ref.size, ref.etag))
        except _NotWholeError:
            log.debug("%s is not whole in the cache any more", ref.url)
        except Exception as error:  # noqa: BLE001 - the cache may have been removed below us
            log.warning("%s could not be compared with its ETag: %s", ref.url, error)

    def _next(self) -> ObjectRef | None:
        """Wait for an object that has been quiet; None at the end."""
        with self._changed:
            while not self._closed.is_set():
                if not self._touched:
                    self._changed.wait()
                    continue
                object_id, (ref, due_s) = next(iter(self._touched.items()))
                wait_s = due_s - time.monotonic()
                if wait_s <= 0:
                    del self._touched[object_id]
                    return ref
                self._changed.wait(wait_s)
        return None

    def _is_whole(self, ref: ObjectRef) -> bool:
        """Look for the blocks, from the one on that was not there at the last look."""
        index = self._lacking.pop(ref.object_id, 0)
        while index < ref.block_count and self._has(ref, block_extent(ref, index)):
            index += 1
        if index < ref.block_count:
            self._note_lacking(ref, index)
        return index == ref.block_count

    def _has(self, ref: ObjectRef, block: Extent) -> bool:
        return self._cache.contains(block.key) or all(
            self._cache.contains(part.key) for part in part_extents(ref, block.start, block.stop)
        )

    def _note_lacking(self, ref: ObjectRef, index: int) -> None:
        self._lacking[ref.object_id] = index
        if len(self._lacking) > MAX_WAITING:
            self._lacking.popitem(last=False)

    def _chunks(self, ref: ObjectRef) -> Iterator[memoryview]:
        """Yield the object's blocks from the cache, resting between them."""
        buffer = memoryview(bytearray(min(BLOCK_SIZE, ref.size)))
        for index in range(ref.block_count):
            view = buffer[: ref.block_length(index)]
            if not self._read(ref, block_extent(ref, index), view):
                self._note_lacking(ref, index)
                raise _NotWholeError
            yield view
            self._rest(_REST_AFTER_S)
            if self._closed.is_set():
                raise _NotWholeError

    def _rest(self, after_s: float) -> None:
        """Sleep in proportion to the CPU time since the last rest, if that is `after_s`."""
        spent_s = time.thread_time() - self._rested_s
        if spent_s >= after_s:
            self._closed.wait(spent_s * (1 / CPU_SHARE - 1))
            self._rested_s = time.thread_time()

    def _read(self, ref: ObjectRef, block: Extent, view: memoryview) -> bool:
        if self._cache.read_into(block.key, 0, view, is_use=False):
            return True
        return all(
            self._cache.read_into(
                part.key,
                0,
                view[part.start - block.start : part.stop - block.start],
                is_use=False,
            )
            for part in part_extents(ref, block.start, block.stop)
        )

    def _judge(self, ref: ObjectRef, compared: Comparison) -> None:
        bucket = split_s3_url(ref.url)[0]
        part = compared.part_bytes
        if compared.proof is Proof.RIGHT:
            self._metrics.add_verified()
            is_news = not self._evidence.is_digest(bucket) or (
                part and not self._evidence.is_part_size(bucket, part)
            )
            self._evidence.matched(bucket, part)
            if is_news:
                self._doubt_no_more(bucket)
        elif self._is_wrong(bucket, ref, compared):
            self._reject(ref)
        else:
            self._doubt(bucket, ref, compared)

    def _is_wrong(self, bucket: str, ref: ObjectRef, compared: Comparison) -> bool:
        if compared.proof is Proof.WRONG:
            return self._evidence.is_digest(bucket)
        part = only_part_size(ref.size, ref.etag)
        return part > 0 and self._evidence.is_part_size(bucket, part)

    def _doubt(self, bucket: str, ref: ObjectRef, compared: Comparison) -> None:
        """Keep in mind what another object of the bucket may prove wrong later."""
        self._doubted[ref.object_id] = ref
        if len(self._doubted) > MAX_WAITING:
            self._doubted.popitem(last=False)
        if compared.proof is Proof.WRONG and bucket not in self._reported:
            self._reported.add(bucket)
            log.warning(
                "%s disagrees with its ETag; as no object of %s has agreed so far, ETags are"
                " taken for no checksums there",
                ref.url,
                bucket,
            )

    def _doubt_no_more(self, bucket: str) -> None:
        again = [ref for ref in self._doubted.values() if split_s3_url(ref.url)[0] == bucket]
        for ref in again:
            del self._doubted[ref.object_id]
            self.stored(ref)

    def _reject(self, ref: ObjectRef) -> None:
        parts = part_extents(ref, 0, ref.size)
        self._cache.remove(entry.key for entry in (*block_extents(ref), *parts))
        self._drops[ref.object_id] += 1
        self._renew(ref.url)
        self._metrics.add_verify_failure()
        text = f"{ref.url}: its cached bytes disagreed with its ETag; they were dropped"
        self._metrics.add_error(text)
        log.warning("%s and will be fetched again", text)
