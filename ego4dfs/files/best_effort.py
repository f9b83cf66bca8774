"""System calls that may fail: times, syncs and modes, which some filesystems refuse."""

from __future__ import annotations

import errno
import logging

log = logging.getLogger(__name__)

REFUSALS = frozenset(
    getattr(errno, name) for name in ("EPERM", "EACCES", "EINVAL", "ENOSYS", "ENOTSUP", "ENOTTY")
)
"""Errors of calls that the filesystem does not support, or that only a file's owner may make."""

_OPTIONAL = REFUSALS | {errno.EROFS}

_warned: set[str] = set()


class optional_call:  # noqa: N801 - used like `suppress`; a class is faster for many small files
    """Continue if this filesystem refuses the call in the block.

    `what` is named in one warning for all files.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, OSError) or error.errno not in _OPTIONAL:
            return False
        if self._what not in _warned:
            _warned.add(self._what)
            log.warning(
                "this filesystem refuses %s (%s); copies are made without it", self._what, error
            )
        return True
