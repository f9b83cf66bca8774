"""Translation of ego4dfs errors to the OSErrors that a local disk would raise."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ego4dfs.errors import ManifestError, NotFound, StoreError, errno_of


@contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """Raise errors about one path as OSErrors that carry it; other errors pass unchanged."""
    try:
        yield
    except (NotFound, StoreError, ManifestError) as error:
        raise as_os_error(error, path) from error


def as_os_error(error: Exception, path: str) -> Exception:
    """Return an error about one path as as_os_errors would raise it."""
    if not isinstance(error, (NotFound, StoreError, ManifestError)):
        return error
    # OSError makes a FileNotFoundError or PermissionError of itself, by the errno.
    translated = OSError(errno_of(error), str(error), path)
    translated.__cause__ = error
    return translated


def refuse_write(path: str) -> NoReturn:
    """Raise the error of a read-only filesystem."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
