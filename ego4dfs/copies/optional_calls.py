"""Calls that a copy can do without: times, syncs and modes that some filesystems refuse."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

REFUSALS = frozenset(
    getattr(errno, name) for name in ("EPERM", "EACCES", "EINVAL", "ENOSYS", "ENOTSUP", "ENOTTY")
)
"""What filesystems answer to a call that they lack, or that only the owner of a file may make."""

_warned: set[str] = set()


@contextmanager
def optional_call(what: str) -> Iterator[None]:
    """Go on if this filesystem refuses the call; `what` is named in one warning for all files."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        if what not in _warned:
            _warned.add(what)
            log.warning("this filesystem refuses %s (%s); copies are made without", what, error)
