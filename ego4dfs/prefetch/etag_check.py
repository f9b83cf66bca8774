"""What becomes of the bytes of a file once all are here: the one rule for small and large files."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ego4dfs.blocks import ObjectRef, block_entries, part_entries
from ego4dfs.cache import BlockCache
from ego4dfs.copies.bucket_etags import BucketEvidence
from ego4dfs.errors import StoreError
from ego4dfs.prefetch.downloads import Copy
from ego4dfs.store import ObjectStore
from ego4dfs.store.etag import Comparison, Proof, is_md5
from ego4dfs.store.s3_url import split_s3_url

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a file is fetched whose bytes do not agree with its ETag, or that is replaced."""


class Verdict(enum.Enum):
    """What is to be done with the bytes."""

    ACCEPT = "accept"
    AGAIN = "again"  # fetch them anew, past the cache and over other connections
    OPEN = "open"  # keep them until more is known of their bucket
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and how bytes that are accepted were proved."""

    verdict: Verdict
    checksum: str = ""


class Prover:
    """Decides by the ETag of an object and by what is known of its bucket. Safe from threads."""

    def __init__(self, store: ObjectStore, cache: BlockCache, evidence: BucketEvidence) -> None:
        """Take blocks that may be wrong out of `cache`."""
        self._store = store
        self._cache = cache
        self._evidence = evidence

    def outcome(self, copy: Copy, found: Comparison) -> Outcome:
        """Decide about bytes that were compared with their ETag."""
        url, facts = copy.item.url, copy.facts
        proof = self._evidence.proof(url, facts.size, facts.etag, found)
        if proof is Proof.RIGHT:
            self._evidence.agreed(url, found)
        if proof is not Proof.WRONG:
            return Outcome(Verdict.ACCEPT, proof.value)
        is_plain = is_md5(facts.etag)
        if is_plain and self._evidence.are_none(url):
            return Outcome(Verdict.OPEN)
        if copy.attempt and found.found == copy.found:
            if is_plain:
                self._evidence.disagreed(url)
            is_open = is_plain and not self._evidence.are_checksums(url)
            return Outcome(Verdict.OPEN if is_open else Verdict.REJECT)
        return Outcome(Verdict.REJECT if copy.attempt + 1 == ATTEMPTS else Verdict.AGAIN)

    def distrust(self, copy: Copy) -> None:
        """Drop what the cache has of an object, and the connections over which it came."""
        ref = ObjectRef.of(self._store.source, copy.item.url, copy.facts.size, copy.facts.etag)
        entries = [*block_entries(ref), *part_entries(ref, 0, ref.size)]
        self._cache.drop((entry.key for entry in entries), "does not agree with its ETag")
        self._store.renew(copy.item.url)

    def last_outcome(self, copy: Copy) -> Outcome:
        """Decide in the end about bytes that were kept open."""
        if self._evidence.are_none(copy.item.url):
            return Outcome(Verdict.ACCEPT, Proof.UNKNOWN.value)
        is_known = self._evidence.are_checksums(copy.item.url)
        return Outcome(Verdict.REJECT if is_known else Verdict.OPEN)


def disagreement(copy: Copy) -> StoreError:
    """Return the error of a file whose bytes do not agree with its ETag."""
    url = copy.item.url
    return StoreError(f"{url}: its bytes do not agree with its ETag {copy.facts.etag}", url=url)


def doubt(copy: Copy) -> StoreError:
    """Return the error of such a file in a bucket of which nothing more is known."""
    url = copy.item.url
    reason = "nor is it known that the ETags of this bucket are no MD5s; fetch more of it at once"
    return StoreError(f"{disagreement(copy)}, {reason}", url=url)


def warn_of_sizes(copies: Iterable[Copy]) -> None:
    """Say in which buckets files were accepted by their sizes alone."""
    for bucket, count in Counter(split_s3_url(copy.item.url)[0] for copy in copies).items():
        log.warning(
            "the ETags of bucket %s are no MD5s: of %s files only the size was compared",
            bucket,
            count,
        )
