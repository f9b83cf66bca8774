"""What an ETag proves about the bytes of a file."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

PART_BYTES = tuple(size << 20 for size in (8, 5, 16, 64, 10, 15, 25, 32, 50, 100, 128))
"""Part sizes that upload tools take: those of the AWS tools and boto3 first."""

_READ_BYTES = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-([1-9]\d{0,4})")


class Proof(enum.Enum):
    """What came of comparing."""

    RIGHT = "md5"
    WRONG = "wrong"
    UNKNOWN = "size"


def part_sizes(size: int, etag: str) -> list[int]:
    """Return the part sizes that could have given this ETag: the size itself for a plain MD5.

    Empty where the ETag is neither a plain MD5 nor that of an upload in parts of a usual size.
    """
    if _MD5.fullmatch(etag):
        return [max(size, 1)]
    parts = _MULTIPART.fullmatch(etag)
    count = int(parts[1]) if parts else 0
    whole = [size] if count == 1 and size else []
    return [*(part for part in PART_BYTES if count and -(-size // part) == count), *whole]


def prove(path: Path, size: int, etag: str) -> tuple[Proof, str]:
    """Read the file and compare it with the ETag, for each part size that is possible.

    WRONG only of a plain MD5: a multipart ETag that no usual part size gives proves nothing.
    The text is the MD5 that was found instead.
    """
    for part in part_sizes(size, etag):
        found = _etag_of(path, part, is_plain="-" not in etag)
        if found == etag:
            return Proof.RIGHT, found
        if "-" not in etag:
            return Proof.WRONG, found
    return Proof.UNKNOWN, ""


def prove_bytes(data: memoryview, etag: str) -> tuple[Proof, str]:
    """Compare bytes in memory with a plain MD5; UNKNOWN if the ETag is none."""
    if not _MD5.fullmatch(etag):
        return Proof.UNKNOWN, ""
    found = _md5(data)
    return (Proof.RIGHT if found == etag else Proof.WRONG), found


def _etag_of(path: Path, part: int, *, is_plain: bool) -> str:
    digests = list(_part_digests(path, part))
    if is_plain:
        return digests[0].hex() if digests else _md5(memoryview(b""))
    return f"{_md5(memoryview(b''.join(digests)))}-{len(digests)}"


def _part_digests(path: Path, part: int) -> Iterator[bytes]:
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        left, digest = part, _new()
        while count := file.readinto(buffer[: min(left, _READ_BYTES)]):
            digest.update(buffer[:count])
            left -= count
            if not left:
                yield digest.digest()
                left, digest = part, _new()
        if left < part:
            yield digest.digest()


def _md5(data: memoryview) -> str:
    digest = _new()
    digest.update(data)
    return str(digest.hexdigest())


def _new() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
