"""OSErrors of writes: which fail one file (EFBIG), and which end the whole run (ENOSPC)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ego4dfs.copies.journal import JournalError
from ego4dfs.errors import os_error_text
from ego4dfs.prefetch.failure_limit import FailureLimit

_OF_PROCESS = frozenset((errno.EMFILE, errno.ENFILE))
_OF_DISK = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "ENODEV", "ENXIO", "ESTALE")
)
_HOPELESS = frozenset(
    getattr(errno, name)
    for name in ("EFBIG", "EINVAL", "EILSEQ", "ENAMETOOLONG", "EISDIR", "ENOTEMPTY")
)
_GIVE_UP_AFTER = 16
_REASONS = {
    errno.EFBIG: "too large for this disk, or for a limit that is set (ulimit -f)",
    errno.EINVAL: "this disk does not allow this name",
    errno.EILSEQ: "this disk does not allow this name",
    errno.ENAMETOOLONG: "the name is too long for this disk",
    errno.EISDIR: "there is a directory of this name",
    errno.ENOTEMPTY: "there is a directory of this name",
}


def reason_of(error: OSError) -> str:
    """Return a message that says why a file could not be written."""
    known = _REASONS.get(error.errno or 0)
    return known or f"cannot be written: {os_error_text(error)}"


def is_hopeless(error: OSError) -> bool:
    """Return whether a retry would fail in the same way, so that no part file is kept."""
    return error.errno in _HOPELESS


def concerns_process(error: OSError) -> bool:
    """Return whether an error would be the same in all directories: too many files are open."""
    return error.errno in _OF_PROCESS


def is_of_own_disk(error: OSError, directory: Path, root: Path) -> bool:
    """Return whether an error is of a disk that has this directory but not the root.

    A dataset's directory may be a link to another disk, or another one may be mounted there.
    """
    if isinstance(error, JournalError) or error.errno not in _OF_DISK:
        return False
    try:
        return _disk(directory) != _disk(root)
    except OSError:
        return False


def _disk(directory: Path) -> tuple[int, int]:
    """Return what identifies a disk; its flags differ where it is also mounted read-only."""
    return directory.stat().st_dev, os.statvfs(directory).f_flag


class DiskErrors:
    """Counts errors of the disk."""

    def __init__(self, root: Path) -> None:
        """Watch the directory of copies."""
        self._root = root
        self._same_error = FailureLimit(_GIVE_UP_AFTER)

    def affects_all(self, error: OSError) -> bool:
        """Return whether an error ends the run: a full disk, or one error many times in a row."""
        if isinstance(error, JournalError) or error.errno in _OF_DISK | _OF_PROCESS:
            return True
        if error.errno == errno.ENOENT and not os.path.isdir(self._root):  # noqa: PTH112 - no raise
            return True
        return self._same_error.failed(error.errno or 0) and not is_hopeless(error)

    def reset(self) -> None:
        """Restart the count, after a file was written."""
        self._same_error.succeeded()
