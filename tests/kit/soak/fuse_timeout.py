"""The kernel's time limit of FUSE requests, set for mounts that are made meanwhile."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT = Path("/proc/sys/fs/fuse/default_request_timeout")


def why_not() -> str:
    """Return why the time limit cannot be set, or "" if it can."""
    if not TIMEOUT.exists():
        return "this kernel has none (Linux 6.14 and later)"
    try:
        TIMEOUT.write_text(TIMEOUT.read_text())
    except OSError as error:
        return str(error.strerror)
    return ""


@contextmanager
def request_timeout(seconds: int) -> Iterator[None]:
    """Let the kernel abort mounts made in here that do not answer a request in `seconds`.

    The kernel reads the setting when it mounts, so other mounts of the machine keep theirs. A lock
    keeps two runs from restoring each other's value. Does nothing where `why_not` has a reason.
    """
    if why_not():
        yield
        return
    with TIMEOUT.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = TIMEOUT.read_text()
        TIMEOUT.write_text(str(seconds))
        try:
            yield
        finally:
            TIMEOUT.write_text(before)
