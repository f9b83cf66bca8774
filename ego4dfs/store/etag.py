"""ETags as checksums: comparison with bytes, and in which buckets ETags are MD5s.

The ETag of an object that was uploaded at once is the MD5 of its bytes. Of a multipart upload it is
the MD5 of the MD5s of its parts, `-` and the number of parts. Under SSE-KMS or SSE-C, and in some
S3-compatible stores, it has the same form and is not an MD5.
"""

from __future__ import annotations

import enum
import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

PART_BYTES = tuple(size << 20 for size in (8, 5, 16, 64, 10, 15, 25, 32, 50, 100, 128))
"""Part sizes of upload tools: those of the AWS tools and boto3 first."""

_MIB = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-([1-9]\d{0,4})")


class Proof(enum.Enum):
    """The result of a comparison."""

    RIGHT = "md5"
    WRONG = "wrong"
    UNKNOWN = "size"

    def counts_as_wrong(self, *, size_suffices: bool) -> bool:
        """Return whether the bytes count as wrong: if they differ, or if nothing is known of them.

        `size_suffices`: an ETag that proves nothing does not make them wrong.
        """
        return self is Proof.WRONG or (self is Proof.UNKNOWN and not size_suffices)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Bytes compared with an ETag: `found` is the ETag of the bytes, as far as it is known.

    `part_bytes` is the part size that results in the ETag of a multipart upload, else 0. It is 0
    too for an upload in one part: any larger part size has the same result.
    """

    proof: Proof
    found: str = ""
    part_bytes: int = 0


def is_md5(etag: str) -> bool:
    """Return whether an ETag has the form of the MD5 of an object that was uploaded at once."""
    return _MD5.fullmatch(etag) is not None


def part_sizes(size: int, etag: str) -> list[int]:
    """Return the part sizes that may result in this ETag: the whole size if there is one part.

    Empty if the ETag is neither a plain MD5 nor that of a multipart upload with a usual part size.
    """
    if is_md5(etag):
        return [max(size, 1)]
    count = _part_count(etag)
    if count == 1:
        return [size] if size else []
    return [part for part in PART_BYTES if count and -(-size // part) == count]


def only_part_size(size: int, etag: str) -> int:
    """Return the part size of a multipart upload if only one whole number of MiB fits, else 0."""
    count = _part_count(etag)
    if count < 2:
        return 0
    least, most = -(-size // count), (size - 1) // (count - 1)
    part = most // _MIB * _MIB
    return part if part >= least and part - _MIB < least else 0


def compare(chunks: Callable[[], Iterable[memoryview]], size: int, etag: str) -> Comparison:
    """Compare bytes with an ETag, for each part size that is possible.

    `chunks` yields all bytes, in order, each time it is called. Only a plain MD5 can prove bytes
    WRONG: a multipart ETag that results from no usual part size proves nothing.
    """
    if is_md5(etag):
        digest = _new()
        for chunk in chunks():
            digest.update(chunk)
        found = digest.hexdigest()
        return Comparison(Proof.RIGHT if found == etag else Proof.WRONG, found)
    for part in part_sizes(size, etag):
        found = _multipart_etag(chunks(), part)
        if found == etag:
            return Comparison(Proof.RIGHT, found, part if part < size else 0)
    return Comparison(Proof.UNKNOWN)


class EtagEvidence:
    """In which buckets ETags are MD5s, as far as this process knows. Safe from several threads.

    One object that matches its ETag proves it for its bucket: no match happens by chance.
    Objects that do not match prove nothing, however many there are: a broken proxy can be the
    cause.
    """

    def __init__(self) -> None:
        """Begin without evidence."""
        self._lock = threading.Lock()
        self._digests: set[str] = set()
        self._parts: set[tuple[str, int]] = set()

    def matched(self, bucket: str, part_bytes: int = 0) -> None:
        """Record that an object matches its ETag, in parts of `part_bytes` if it has parts."""
        with self._lock:
            self._digests.add(bucket)
            if part_bytes:
                self._parts.add((bucket, part_bytes))

    def is_digest(self, bucket: str) -> bool:
        """Return whether an object of a bucket matched its ETag: then its ETags are MD5s."""
        with self._lock:
            return bucket in self._digests

    def is_part_size(self, bucket: str, part_bytes: int) -> bool:
        """Return whether another object of a bucket matches its ETag in parts of this size."""
        with self._lock:
            return (bucket, part_bytes) in self._parts


def _part_count(etag: str) -> int:
    parts = _MULTIPART.fullmatch(etag)
    return int(parts[1]) if parts else 0


def _multipart_etag(chunks: Iterable[memoryview], part: int) -> str:
    digests = list(_part_digests(chunks, part))
    whole = _new()
    whole.update(b"".join(digests))
    return f"{whole.hexdigest()}-{len(digests)}"


def _part_digests(chunks: Iterable[memoryview], part: int) -> Iterator[bytes]:
    left, digest = part, _new()
    for chunk in chunks:
        rest = chunk
        while rest:
            piece, rest = rest[:left], rest[left:]
            digest.update(piece)
            left -= len(piece)
            if not left:
                yield digest.digest()
                left, digest = part, _new()
    if left < part:
        yield digest.digest()


def _new() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
