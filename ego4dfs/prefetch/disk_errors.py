"""Errors of the disk: which are one file's, and which are those of all that follow."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ego4dfs.copies.journal import JournalError

_OF_ALL = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "ENODEV", "ENXIO", "ESTALE", "EMFILE", "ENFILE")
)
_HOPELESS = frozenset((errno.EFBIG, errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG))
_IN_A_ROW = 16
_REASONS = {
    errno.EFBIG: "too large for this disk, or for a limit that is set (ulimit -f)",
    errno.EINVAL: "this disk takes no file of this name",
    errno.EILSEQ: "this disk takes no file of this name",
    errno.ENAMETOOLONG: "the name is too long for this disk",
    errno.EISDIR: "a directory lies under this name",
    errno.ENOTEMPTY: "a directory lies under this name",
}


def reason_of(error: OSError) -> str:
    """Return in words why a file could not be written."""
    told = _REASONS.get(error.errno or 0)
    return told or f"cannot be written: {(error.strerror or str(error)).lower()}"


def is_hopeless(error: OSError) -> bool:
    """Tell whether it would end in the same way another time, so that no part is to be kept."""
    return error.errno in _HOPELESS


class DiskErrors:
    """Counts errors of the disk."""

    def __init__(self, root: Path) -> None:
        """Watch the directory of copies."""
        self._root = root
        self._last = 0
        self._in_a_row = 0

    def affects_all(self, error: OSError) -> bool:
        """Tell whether an error ends the run: a full disk, or the same one for many in a row."""
        if isinstance(error, JournalError) or error.errno in _OF_ALL:
            return True
        if error.errno == errno.ENOENT and not os.path.isdir(self._root):  # noqa: PTH112 - no raise
            return True
        number = error.errno or 0
        self._in_a_row = self._in_a_row + 1 if number == self._last else 1
        self._last = number
        return self._in_a_row >= _IN_A_ROW and not is_hopeless(error)

    def over(self) -> None:
        """Note that a file arrived."""
        self._last = self._in_a_row = 0
