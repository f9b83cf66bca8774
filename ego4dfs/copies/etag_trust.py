"""In which buckets ETags are checksums, as all downloads into one directory of copies have shown.

One object that agrees with its ETag proves that the ETags of its bucket are checksums, in later
runs too. If none ever agreed and several disagree, each with the same bytes over two connections,
its ETags are not checksums, as with SSE-KMS: then only sizes can be compared. One object that
disagrees, however often, proves nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Protocol

from ego4dfs.copies.journal import Journal
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Comparison, EtagEvidence, Proof, is_md5, only_part_size

OBJECTS_AGAINST = 3
"""If this many objects of a bucket disagree and none agrees, its ETags are not checksums."""

_AGREED, _PARTS, _DISAGREED = "agreed", "parts", "disagreed"


EvidenceRow = tuple[str, str, str]
"""Bucket, kind and detail."""


class KnownEvidence(Protocol):
    """What earlier runs have recorded."""

    def evidence(self, source: str, /) -> Sequence[EvidenceRow]:
        """Return the rows about the buckets of `source`, or of all sources."""


class BucketEtags:
    """The evidence about buckets that earlier runs have recorded. Safe from several threads."""

    def __init__(self, journal: KnownEvidence, source: str = "") -> None:
        """Read the evidence of earlier runs about the buckets of `source`, or of all sources."""
        self._evidence = EtagEvidence()
        self._against: dict[str, set[str]] = {}
        self._lock = threading.Lock()  # guards `_against`
        for bucket, kind, detail in journal.evidence(source):
            if kind == _DISAGREED:
                self._against.setdefault(bucket, set()).add(detail)
            elif kind == _AGREED:
                self._evidence.matched(bucket, 0)
            elif kind == _PARTS and re.fullmatch(r"[1-9][0-9]{0,14}", detail):
                self._evidence.matched(bucket, int(detail))
        self._not_checksums_before = frozenset(
            bucket for bucket, urls in self._against.items() if len(urls) >= OBJECTS_AGAINST
        )

    def are_checksums(self, url: str) -> bool:
        """Return whether an object of the same bucket agreed with its ETag."""
        return self._evidence.is_digest(_bucket(url))

    def can_prove(self, url: str, facts: ObjectFacts) -> bool:
        """Return whether a comparison with the ETag is known to show if the bytes are right."""
        if is_md5(facts.etag):
            return self.are_checksums(url)
        return self._has_known_parts(url, facts.size, facts.etag)

    def are_not_checksums(self, url: str) -> bool:
        """Return whether several objects of the same bucket disagreed and none agreed."""
        if self.are_checksums(url):
            return False
        with self._lock:
            return len(self._against.get(_bucket(url), ())) >= OBJECTS_AGAINST

    def agreed(self, url: str, found: Comparison) -> None:
        """Note that an object agrees with its ETag, for what is proved from now on."""
        self._evidence.matched(_bucket(url), found.part_bytes)

    def note(self, url: str, found: Comparison) -> None:
        """Note a comparison of bytes on disk: if they agree, that is evidence about others."""
        if found.proof is Proof.RIGHT:
            self.agreed(url, found)

    def proof(self, url: str, size: int, etag: str, found: Comparison) -> Proof:
        """Return what a comparison proves, with the evidence so far about the bucket."""
        not_checksums = _bucket(url) in self._not_checksums_before and not self.are_checksums(url)
        if found.proof is Proof.WRONG and not_checksums:
            return Proof.UNKNOWN
        if found.proof is Proof.UNKNOWN and self._has_known_parts(url, size, etag):
            return Proof.WRONG  # only this part size is possible, and with it the ETag differs
        return found.proof

    def _has_known_parts(self, url: str, size: int, etag: str) -> bool:
        part = only_part_size(size, etag)
        return bool(part) and self._evidence.is_part_size(_bucket(url), part)


class RecordedBucketEtags(BucketEtags):
    """The evidence about buckets, and what downloads show of it, which the journal keeps.

    Safe from several threads. `agreed` and `disagreed` raise JournalError.
    """

    def __init__(self, journal: Journal, source: str) -> None:
        """Read the evidence of earlier runs about the buckets of `source`, and add to it."""
        super().__init__(journal, source)
        self._journal = journal
        self._source = source

    def agreed(self, url: str, found: Comparison) -> None:
        """Record that an object agrees with its ETag."""
        bucket = _bucket(url)
        known = self._evidence.is_part_size if found.part_bytes else self._is_digest
        if known(bucket, found.part_bytes):
            return
        super().agreed(url, found)
        with self._lock:
            self._against.pop(bucket, None)
        detail = str(found.part_bytes) if found.part_bytes else ""
        kind = _PARTS if found.part_bytes else _AGREED
        self._journal.note_evidence(self._source, bucket, kind, detail, against=_DISAGREED)

    def disagreed(self, url: str) -> None:
        """Record that two independent downloads of an object had the same, other checksum."""
        bucket = _bucket(url)
        if self.are_checksums(url):
            return
        with self._lock:
            against = self._against.setdefault(bucket, set())
            if url in against or len(against) >= OBJECTS_AGAINST:
                return
            against.add(url)
        self._journal.note_evidence(self._source, bucket, _DISAGREED, url)

    def _is_digest(self, bucket: str, _part_bytes: int) -> bool:
        return self._evidence.is_digest(bucket)


def _bucket(url: str) -> str:
    """Return the bucket of a URL, also one that no request can be sent for."""
    return url.partition("://")[2].partition("/")[0]
