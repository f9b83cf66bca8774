"""Opening of regular files where others may write: a FIFO or a device never blocks."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 30
"""The default limit of `read_regular`."""


def open_regular(
    path: str | Path, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> int:
    """Open a regular file for reading; with `follow_symlinks` the path may be a link.

    Raises OSError; for anything that is not a regular file with EINVAL or EISDIR.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW)
    opened = os.open(path, flags, dir_fd=dir_fd)
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return opened
    os.close(opened)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, "is not a regular file", str(path))


def read_regular(
    path: str | Path,
    *,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
    max_bytes: int = MAX_BYTES,
) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, and its status. Raises OSError, as `open_regular`.

    A file of more than `max_bytes` is refused with EFBIG.
    """
    with open(open_regular(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(), status


def identity(path: Path) -> tuple[int, int] | None:
    """Return (st_dev, st_ino) of a file, or None if there is none: a replaced file differs."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
