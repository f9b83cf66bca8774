"""Test data that follows from a name: any range can be checked without a copy of the file."""

from __future__ import annotations

import hashlib
import os

MIB = 1 << 20

# Texts that a terminal, a log or JSON must not get as they are.
HOSTILE = {
    "a line end": "\n",
    "a carriage return": "\r",
    "a line separator": "\u2028",
    "a next-line control": "\x85",
    "an escape sequence": "\x1b[2J",
    "a title": "\x1b]0;title\x07",
    "a C1 sequence": "\x9b31m",
    "backspaces": "\x08\x08",
    "DEL": "\x7f",
    "a bidi override": "\u202e",
    "an isolate": "\u2066",
    "a byte order mark": "\ufeff",
    "a lone surrogate": "\udce9",
    "a tab": "\t",
}


class Seeded:
    """Endless bytes derived from a name, different in every MiB; any part is cheap to compute."""

    def __init__(self, name: str) -> None:
        self._tile = hashlib.shake_256(name.encode()).digest(MIB + 4096)

    def part(self, offset: int, size: int) -> bytes:
        """Return the bytes [offset, offset + size)."""
        first, start = divmod(offset, MIB)
        stop = -(-(offset + size) // MIB)
        tiles = (self._tile[i * 7 % 4096 : i * 7 % 4096 + MIB] for i in range(first, stop))
        return b"".join(tiles)[start : start + size]


def seeded(name: str, size: int) -> bytes:
    """Return the first `size` bytes derived from `name`."""
    return Seeded(name).part(0, size)


def read_whole(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes, read again if the kernel returns fewer; short at the end of the file.

    The kernel answers with the pages that it has before it reports the error of the next one.
    """
    data = b""
    while len(data) < size and (piece := os.pread(fd, size - len(data), offset + len(data))):
        data += piece
    return data
