"""The file format of one cached block: its bytes, then a trailer with a checksum.

    offset 0        the bytes of the block, so that a reader can use plain positioned reads
    offset length   magic "E4B1" · length, 4 bytes · XXH3-64 of the bytes seeded by the key, 8 bytes

The seed binds the bytes to the key: a file that was swapped with another one fails its checksum.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import threading
from pathlib import Path

import xxhash

from ego4dfs.files import make_private

_TRAILER = struct.Struct("<4sIQ")
_MAGIC = b"E4B1"
TRAILER_BYTES = _TRAILER.size
_CLUSTER_BYTES = 4096
UNREADABLE = (
    errno.EIO,
    errno.ELOOP,  # a link
    errno.EISDIR,
    errno.ESPIPE,  # a FIFO
    errno.ENXIO,  # a socket, or a device without a driver
    errno.ENODEV,
)
"""Errors that say that a file is not a block: a bad disk, or something else in its place."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO does not block

INCOMING = "incoming"
"""The directory, beside those of the blocks, of files that are being written."""

MAX_VERIFIED_KEYS = 200_000
"""These take about 25 MiB; a mount that runs for weeks reads millions of blocks."""


class VerifiedKeys(set[str]):
    """Keys of blocks whose checksum this process has verified.

    A full set is cleared; its blocks are then verified again. Safe from several threads, because
    each single call of a set is.
    """

    def record(self, *keys: str) -> None:
        """Add keys."""
        if len(self) + len(keys) > MAX_VERIFIED_KEYS:
            self.clear()
        self.update(keys)


def allocated_bytes(length: int) -> int:
    """Return the disk space of a block of `length` bytes, in clusters of 4 KiB."""
    return -(-(length + TRAILER_BYTES) // _CLUSTER_BYTES) * _CLUSTER_BYTES


def checksum(key: str, data: memoryview) -> int:
    """Return XXH3-64 of the bytes, seeded by the key."""
    return xxhash.xxh3_64_intdigest(data, seed=xxhash.xxh3_64_intdigest(key.encode()))


def write(path: str | Path, key: str, data: memoryview) -> None:
    """Write a block to a temporary file in `incoming`, and rename it to `path`.

    Raises OSError if it cannot be written; then no temporary file remains.
    """
    directory, name = os.path.split(path)  # not pathlib, and below: hot path
    incoming = f"{os.path.dirname(directory)}/{INCOMING}"  # noqa: PTH120
    # The thread's number makes the name unique for caches of one process, and for containers,
    # in which each process may have pid 1.
    temporary = f"{incoming}/{name}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        fd = _create(temporary)
        try:
            trailer = _TRAILER.pack(_MAGIC, len(data), checksum(key, data))
            written = os.writev(fd, [data, trailer])
            if written != len(data) + TRAILER_BYTES:
                raise OSError(28, "only a part of a block was written")
        finally:
            os.close(fd)
        _rename(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _create(temporary: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, 0o600)
    except FileNotFoundError:
        make_private(Path(temporary).parent)
    except FileExistsError:
        os.unlink(temporary)  # noqa: PTH108 - left by a killed process that had the same process id
    return os.open(temporary, flags, 0o600)


def _rename(temporary: str, path: str | Path) -> None:
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except FileNotFoundError:
        make_private(Path(path).parent)
        os.replace(temporary, path)  # noqa: PTH105


def read_into(path: str, start: int, view: memoryview) -> bool:
    """Fill `view` from `start` on without a check; False if the file is too short.

    Each call opens its own descriptor: a shared table of descriptors returns the wrong file once
    a number is reused. Raises OSError.
    """
    fd = os.open(path, _READ)
    try:
        return os.preadv(fd, [view], start) == len(view)
    finally:
        os.close(fd)


def is_valid(path: str | Path, key: str) -> bool:
    """Return whether the trailer has the length and checksum of the bytes. Raises OSError.

    False also for anything that is not a regular file, if it can be opened.
    """
    fd = os.open(path, _READ)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size < TRAILER_BYTES:
            return False
        content = memoryview(bytearray(status.st_size))
        if os.preadv(fd, [content], 0) != len(content):
            return False
    finally:
        os.close(fd)
    data, trailer = content[:-TRAILER_BYTES], content[-TRAILER_BYTES:]
    magic, length, expected = _TRAILER.unpack(trailer)
    return (magic, length, expected) == (_MAGIC, len(data), checksum(key, data))


def remove(path: Path) -> None:
    """Remove a block, or whatever is in its place. Raises OSError."""
    try:
        path.unlink()
    except IsADirectoryError:
        shutil.rmtree(path)
