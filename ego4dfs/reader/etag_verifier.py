"""Whole objects in the block cache compared with their ETags; what disagrees is dropped.

S3 sends no checksum with a range, so a block is kept as it arrived. Once all blocks of an object
are cached, its ETag proves them together, where it is an MD5 or made of the MD5s of parts.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

from ego4dfs.blocks import (
    BLOCK_SIZE,
    Extent,
    ObjectRef,
    block_extent,
    block_extents,
    part_extents,
)
from ego4dfs.cache import BlockCache
from ego4dfs.metrics import Metrics
from ego4dfs.store.etag import Comparison, EtagEvidence, Proof, compare, only_part_size
from ego4dfs.store.s3_url import split_s3_url

log = logging.getLogger(__name__)

MAX_REMEMBERED = 16_384
"""How many objects that disagreed, or are incomplete, are remembered; the oldest are forgotten."""


class Outcome(enum.Enum):
    """What the comparison of one object showed."""

    VERIFIED = "verified"
    REJECTED = "rejected"  # it disagreed, and its blocks were dropped
    UNPROVEN = "unproven"  # its ETag proves nothing with the evidence about its bucket
    INCOMPLETE = "incomplete"  # a block is not cached


class _IncompleteError(Exception):
    """A block is not in the cache."""


class EtagVerifier:
    """Compares objects with their ETags, and learns in which buckets ETags are MD5s.

    One object that agrees proves it for its bucket. One that disagrees before that stays cached,
    and `recheck` returns it once another has agreed. Safe from several threads; `_lock` guards
    what is remembered, and is never held while bytes are read.
    """

    def __init__(
        self,
        cache: BlockCache,
        metrics: Metrics,
        renew: Callable[[str], None] = lambda _url: None,
    ) -> None:
        """Compare what is in `cache`, counting into `metrics`.

        `renew` is called with the URL of an object that is rejected: it should be fetched again
        over new connections.
        """
        self._cache = cache
        self._metrics = metrics
        self._renew = renew
        self._evidence = EtagEvidence()
        self._first_missing: OrderedDict[str, int] = OrderedDict()  # block index by object id
        self._doubted: OrderedDict[str, ObjectRef] = OrderedDict()
        self._recheck: list[ObjectRef] = []
        self._reported: set[str] = set()  # buckets whose ETags were reported not to be MD5s
        self._drops: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def doubted(self) -> int:
        """How many objects disagree in buckets in which none has agreed."""
        return len(self._doubted)

    def drops(self, ref: ObjectRef) -> int:
        """Return how often the bytes of this object version were found wrong and dropped."""
        return self._drops[ref.object_id]

    def verify(self, ref: ObjectRef, pause: Callable[[], bool] = lambda: True) -> Outcome:
        """Compare an object with its ETag; if it disagrees, drop its blocks.

        `pause` is called after each block; if it returns False, the object counts as incomplete.
        """
        try:
            if not self._is_complete(ref):
                return Outcome.INCOMPLETE
            compared = compare(partial(self._chunks, ref, pause), ref.size, ref.etag)
        except _IncompleteError:
            return Outcome.INCOMPLETE
        return self._judge(ref, compared)

    def recheck(self) -> list[ObjectRef]:
        """Return, once each, objects that disagreed before another of their bucket agreed."""
        with self._lock:
            refs, self._recheck = self._recheck, []
        return refs

    def _is_complete(self, ref: ObjectRef) -> bool:
        """Return whether all blocks are cached; begin with the one that was missing last time."""
        with self._lock:
            index = self._first_missing.pop(ref.object_id, 0)
        while index < ref.block_count and self._has(ref, block_extent(ref, index)):
            index += 1
        if index < ref.block_count:
            self._note_missing(ref, index)
        return index == ref.block_count

    def _has(self, ref: ObjectRef, block: Extent) -> bool:
        return self._cache.contains(block.key) or all(
            self._cache.contains(part.key) for part in part_extents(ref, block.start, block.stop)
        )

    def _note_missing(self, ref: ObjectRef, index: int) -> None:
        with self._lock:
            self._first_missing[ref.object_id] = index
            if len(self._first_missing) > MAX_REMEMBERED:
                self._first_missing.popitem(last=False)

    def _chunks(self, ref: ObjectRef, pause: Callable[[], bool]) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(BLOCK_SIZE, ref.size)))
        for index in range(ref.block_count):
            view = buffer[: ref.block_length(index)]
            if not self._read(ref, block_extent(ref, index), view):
                self._note_missing(ref, index)
                raise _IncompleteError
            yield view
            if not pause():
                raise _IncompleteError

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

    def _judge(self, ref: ObjectRef, compared: Comparison) -> Outcome:
        bucket = split_s3_url(ref.url)[0]
        if compared.proof is Proof.RIGHT:
            self._metrics.add_verified()
            self._learn(bucket, compared.part_bytes)
            return Outcome.VERIFIED
        if self._doubt(bucket, ref, compared):
            return Outcome.UNPROVEN
        self._reject(ref)
        return Outcome.REJECTED

    def _learn(self, bucket: str, part_bytes: int) -> None:
        """Record that an object agrees; those of its bucket that disagreed are compared again."""
        is_known = self._evidence.is_digest(bucket) and (
            not part_bytes or self._evidence.is_part_size(bucket, part_bytes)
        )
        self._evidence.matched(bucket, part_bytes)
        if is_known:
            return
        with self._lock:
            refs = [ref for ref in self._doubted.values() if split_s3_url(ref.url)[0] == bucket]
            for ref in refs:
                del self._doubted[ref.object_id]
            self._recheck += refs

    def _is_wrong(self, bucket: str, ref: ObjectRef, compared: Comparison) -> bool:
        if compared.proof is Proof.WRONG:
            return self._evidence.is_digest(bucket)
        part = only_part_size(ref.size, ref.etag)
        return part > 0 and self._evidence.is_part_size(bucket, part)

    def _doubt(self, bucket: str, ref: ObjectRef, compared: Comparison) -> bool:
        """Remember an object that another one may prove wrong later; False if one has already.

        Both under the lock: else `_learn` could look for those in doubt between the two.
        """
        with self._lock:
            if self._is_wrong(bucket, ref, compared):
                return False
            self._doubted[ref.object_id] = ref
            if len(self._doubted) > MAX_REMEMBERED:
                self._doubted.popitem(last=False)
            if compared.proof is not Proof.WRONG or bucket in self._reported:
                return True
            self._reported.add(bucket)
        log.warning(
            "%s disagrees with its ETag; no object of %s has agreed so far, so its ETags are"
            " not treated as checksums",
            ref.url,
            bucket,
        )
        return True

    def _reject(self, ref: ObjectRef) -> None:
        parts = part_extents(ref, 0, ref.size)
        self._cache.remove(extent.key for extent in (*block_extents(ref), *parts))
        with self._lock:
            self._drops[ref.object_id] += 1
        self._renew(ref.url)
        self._metrics.add_verify_failure()
        text = f"{ref.url}: its cached bytes disagreed with its ETag; they were dropped"
        self._metrics.add_error(text)
        log.warning("%s and will be fetched again", text)
