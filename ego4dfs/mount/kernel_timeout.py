"""The kernel's time limit of a FUSE request, after which it aborts the whole mount."""

from __future__ import annotations

import logging
from pathlib import Path

from ego4dfs.runtime.deadline import ANSWER_S

log = logging.getLogger(__name__)

SETTINGS = Path("/proc/sys/fs/fuse")
_NAMES = ("default_request_timeout", "max_request_timeout")  # seconds; since Linux 6.14
_MIN_RESERVE_S = 5.0
_RESERVED_SHARE = 0.25
"""The kernel counts from when it made the request. On a machine that is short of CPU time it may
take seconds until a worker has it, and until the answer of that worker is written."""


def request_timeout_s() -> int | None:
    """Return the time limit in seconds that a mount has if it is made now, None without one."""
    return min(filter(None, map(_setting_s, _NAMES)), default=None)


def call_limit_s() -> float | None:
    """Return how long a call may wait, so that the kernel does not abort the mount.

    None without a time limit. Logs a warning if the limit is so short that a store that does not
    answer may end the mount nevertheless.
    """
    timeout_s = request_timeout_s()
    if timeout_s is None:
        return None
    limit_s = max(1.0, timeout_s - max(_MIN_RESERVE_S, _RESERVED_SHARE * timeout_s))
    log.info("the kernel aborts mounts after %d s: calls end after %.0f s", timeout_s, limit_s)
    if limit_s < ANSWER_S:
        log.warning(
            "fs.fuse.default_request_timeout or max_request_timeout is %d s: a store that does not"
            " answer for so long may end the mount; 60 s or more are safe",
            timeout_s,
        )
    return limit_s


def _setting_s(name: str) -> int:
    try:
        return int((SETTINGS / name).read_text())
    except (OSError, ValueError):  # an older kernel
        return 0
