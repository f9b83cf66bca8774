"""Our errors as the OSErrors that a local disk would raise: the one table of the fsspec face."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from ego4dfs.errors import (
    AccessDenied,
    ManifestError,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreError,
)


class as_os_errors:  # noqa: N801 - used like a function
    """Turn our errors into OSErrors that carry the path."""

    TABLE: tuple[tuple[type[Exception], type[OSError], int], ...] = (
        (NotFound, FileNotFoundError, errno.ENOENT),
        (ObjectMissing, FileNotFoundError, errno.ENOENT),
        (AccessDenied, PermissionError, errno.EACCES),
        (ObjectChanged, OSError, errno.ESTALE),
        (StoreError, OSError, errno.EIO),
        (ManifestError, OSError, errno.EIO),
    )

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for ours, theirs, number in self.TABLE:
            if isinstance(error, ours):
                raise theirs(number, str(error), self._path) from error


def refuse_write(path: str) -> NoReturn:
    """Refuse as a read-only disk does."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
