"""Files of directories that others write too: a pipe or a device in a file's place never hangs."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 30


def open_regular(path: str | Path, *, dir_fd: int | None = None, is_link: bool = True) -> int:
    """Return a descriptor for reading a regular file; with `is_link` the path may be a link.

    Raises OSError, for anything else than a regular file with EINVAL or EISDIR.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if is_link else os.O_NOFOLLOW)
    opened = os.open(path, flags, dir_fd=dir_fd)
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return opened
    os.close(opened)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, "is no regular file", str(path))


def read_regular(
    path: str | Path,
    *,
    dir_fd: int | None = None,
    is_link: bool = True,
    max_bytes: int = MAX_BYTES,
) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, and its status. Raises OSError, as `open_regular`.

    A file of more than `max_bytes` is refused with EFBIG.
    """
    with open(open_regular(path, dir_fd=dir_fd, is_link=is_link), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(), status
