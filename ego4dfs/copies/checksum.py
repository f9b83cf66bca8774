"""Files compared with the ETags of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ego4dfs.files import open_regular
from ego4dfs.store.etag import Comparison, compare

_READ_BYTES = 1 << 20


def compare_file(path: Path, size: int, etag: str) -> Comparison:
    """Read a file and compare it with an ETag. Raises OSError."""
    return compare(partial(_chunks, path), size, etag)


def compare_bytes(data: memoryview, etag: str) -> Comparison:
    """Compare bytes in memory with an ETag."""
    return compare(lambda: [data], len(data), etag)


def _chunks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_READ_BYTES))
    with open(open_regular(path), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        while count := file.readinto(buffer):
            yield buffer[:count]
