"""Files and bytes in memory compared with the ETag of their object."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ego4dfs.store.etag import Proof, compare, is_md5, part_sizes

__all__ = ["Proof", "part_sizes", "prove", "prove_bytes"]

_READ_BYTES = 1 << 20


def prove(path: Path, size: int, etag: str) -> tuple[Proof, str]:
    """Read the file and compare it with the ETag, for each part size that is possible.

    WRONG only of a plain MD5: a multipart ETag that no usual part size gives proves nothing.
    The text is the MD5 that was found instead.
    """
    compared = compare(partial(_chunks, path), size, etag)
    return compared.proof, compared.found


def prove_bytes(data: memoryview, etag: str) -> tuple[Proof, str]:
    """Compare bytes in memory with a plain MD5; UNKNOWN if the ETag is none."""
    if not is_md5(etag):
        return Proof.UNKNOWN, ""
    compared = compare(lambda: [data], len(data), etag)
    return compared.proof, compared.found


def _chunks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]
