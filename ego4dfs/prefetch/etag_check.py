"""EtagChecker: accepts, refetches, holds or rejects bytes that were compared with an ETag."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ego4dfs.blocks import ObjectRef, block_extents, part_extents
from ego4dfs.cache import BlockCache
from ego4dfs.copies.etag_trust import RecordedBucketEtags
from ego4dfs.errors import StoreError
from ego4dfs.prefetch.ranged_download import Download
from ego4dfs.store import ObjectStore
from ego4dfs.store.etag import Comparison, Proof, is_md5
from ego4dfs.store.s3_url import split_s3_url

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a file is fetched whose bytes do not agree with its ETag, or that is replaced."""


class Action(enum.Enum):
    """What happens to the bytes."""

    ACCEPT = "accept"
    RETRY = "retry"  # fetch them again, without the cache and over new connections
    HOLD = "hold"  # keep them until there is evidence about their bucket
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An action, and the proof of accepted bytes."""

    action: Action
    checksum: str = ""


class EtagChecker:
    """Decides by the ETag of an object and the evidence about its bucket. Thread-safe."""

    def __init__(
        self, store: ObjectStore, cache: BlockCache, evidence: RecordedBucketEtags
    ) -> None:
        """Remove blocks that may be wrong from `cache`."""
        self._store = store
        self._cache = cache
        self._evidence = evidence

    def outcome(self, download: Download, found: Comparison) -> Outcome:
        """Return what happens to bytes that were compared with their ETag."""
        url, facts = download.item.url, download.facts
        proof = self._evidence.proof(url, facts.size, facts.etag, found)
        if proof is Proof.RIGHT:
            self._evidence.agreed(url, found)
        if proof is not Proof.WRONG:
            return Outcome(Action.ACCEPT, proof.value)
        is_plain = is_md5(facts.etag)
        if is_plain and self._evidence.are_not_checksums(url):
            return Outcome(Action.HOLD)
        if download.attempt and found.found == download.found:
            if is_plain:
                self._evidence.disagreed(url)
            is_open = is_plain and not self._evidence.are_checksums(url)
            return Outcome(Action.HOLD if is_open else Action.REJECT)
        return Outcome(Action.REJECT if download.attempt + 1 == ATTEMPTS else Action.RETRY)

    def discard_sources(self, download: Download) -> None:
        """Remove an object from the cache, and close the connections that it was fetched over."""
        ref = ObjectRef.of(
            self._store.source, download.item.url, download.facts.size, download.facts.etag
        )
        entries = [*block_extents(ref), *part_extents(ref, 0, ref.size)]
        self._cache.remove((entry.key for entry in entries), reason="does not agree with its ETag")
        self._store.renew(download.item.url)

    def final_outcome(self, download: Download) -> Outcome:
        """Return the final outcome of a file whose outcome was deferred."""
        if self._evidence.are_not_checksums(download.item.url):
            return Outcome(Action.ACCEPT, Proof.UNKNOWN.value)
        is_known = self._evidence.are_checksums(download.item.url)
        return Outcome(Action.REJECT if is_known else Action.HOLD)


def disagreement(download: Download) -> StoreError:
    """Return the error of a file whose bytes do not agree with its ETag."""
    url = download.item.url
    return StoreError(f"{url}: its bytes do not agree with its ETag {download.facts.etag}", url=url)


def doubt(download: Download) -> StoreError:
    """Return the error of a file that disagrees with its ETag in a bucket without evidence."""
    url = download.item.url
    reason = "and it is unknown whether ETags of this bucket are MD5s; fetch more of it in one run"
    return StoreError(f"{disagreement(download)}, {reason}", url=url)


def warn_of_sizes(downloads: Iterable[Download]) -> None:
    """Log a warning for each bucket in which files were accepted by size only."""
    for bucket, count in Counter(
        split_s3_url(download.item.url)[0] for download in downloads
    ).items():
        log.warning(
            "the ETags of bucket %s are not MD5s: only the size of %s files was compared",
            bucket,
            count,
        )
