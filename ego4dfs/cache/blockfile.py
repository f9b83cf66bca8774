"""One block in one file: the bytes as they are, then a trailer that proves them.

    offset 0        the block's bytes, so that a reader can use plain positioned reads
    offset length   magic "E4B1" · length, 4 bytes · XXH3-64 of the bytes seeded by the key, 8 bytes

The seed ties the bytes to the key: a file that was swapped for another's is as bad as a torn one.
"""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import xxhash

from ego4dfs.files import make_private

_TRAILER = struct.Struct("<4sIQ")
_MAGIC = b"E4B1"
TRAILER_BYTES = _TRAILER.size
_DISK_UNIT = 4096

PARTS = "parts"
"""The directory, beside those of the blocks, of blocks that are being written."""


def allocated_bytes(length: int) -> int:
    """Return what a block of `length` bytes takes on a disk of 4 KiB clusters."""
    return -(-(length + TRAILER_BYTES) // _DISK_UNIT) * _DISK_UNIT


def checksum(key: str, data: memoryview) -> int:
    """Return XXH3-64 of the bytes, seeded by the key."""
    return xxhash.xxh3_64_intdigest(data, seed=xxhash.xxh3_64_intdigest(key.encode()))


def write(path: Path, key: str, data: memoryview) -> None:
    """Write the block so that the name appears only once the bytes are complete.

    Raises OSError when the disk refuses; no partial file is left then.
    """
    parts = path.parent.parent / PARTS
    # Caches in one process differ by thread, containers that all have pid 1 by the thread's address
    partial = parts / f"{path.name}.{os.getpid()}.{threading.get_ident()}.part"
    try:
        fd = _create(partial)
        try:
            trailer = _TRAILER.pack(_MAGIC, len(data), checksum(key, data))
            written = os.writev(fd, [data, trailer])
            if written != len(data) + TRAILER_BYTES:
                raise OSError(28, "the disk took only a part of a block")
        finally:
            os.close(fd)
        _rename(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _create(partial: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(partial, flags, 0o600)
    except FileNotFoundError:
        make_private(partial.parent)
    except FileExistsError:
        partial.unlink()  # of a process of this number that was killed
    return os.open(partial, flags, 0o600)


def _rename(partial: Path, path: Path) -> None:
    try:
        partial.replace(path)
    except FileNotFoundError:
        make_private(path.parent)
        partial.replace(path)


def read_into(path: str, start: int, view: memoryview) -> bool:
    """Fill `view` from `start` on without a check; False when the file is too short.

    Each call opens a descriptor of its own: a shared table of descriptors hands out the wrong
    file once a number is reused.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.preadv(fd, [view], start) == len(view)
    finally:
        os.close(fd)


def is_sound(path: str | Path, key: str) -> bool:
    """Read the whole file and tell whether length and checksum agree with the trailer."""
    with open(path, "rb") as file:  # noqa: PTH123 - one call on a path of either kind
        content = memoryview(file.read())
    if len(content) < TRAILER_BYTES:
        return False
    data, trailer = content[:-TRAILER_BYTES], content[-TRAILER_BYTES:]
    magic, length, expected = _TRAILER.unpack(trailer)
    return (magic, length, expected) == (_MAGIC, len(data), checksum(key, data))
