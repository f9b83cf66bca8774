"""Limits of this process on open files, threads and memory: errors that name the one reached."""

from __future__ import annotations

import errno
import resource

from ego4dfs.errors import Ego4DError

_NO_THREAD = "start new thread"
_NO_MEMORY = ("cannot allocate memory", "failed to map segment")


def limit_reached(error: BaseException) -> Ego4DError | None:
    """Return the error that names the limit to which `error` is due; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error).lower()
    if number in (errno.EMFILE, errno.ENFILE):
        return Ego4DError(
            f"too many open files: {_now(resource.RLIMIT_NOFILE)}",
            hint="raise the limit of open files (ulimit -n)",
        )
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and _NO_THREAD in text):
        return Ego4DError(
            f"no process or thread can be started: {_now(resource.RLIMIT_NPROC)}",
            hint="raise the limit of processes (ulimit -u, or that of the container or job), or end"
            " other programs",
        )
    is_import = isinstance(error, (ImportError, OSError))
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or (is_import and any(sign in text for sign in _NO_MEMORY))
    ):
        return Ego4DError(
            f"no memory can be allocated: {_now(resource.RLIMIT_AS)}",
            hint="raise the limit of memory (ulimit -v, or that of the container or job), or end"
            " other programs",
        )
    return None


def _now(kind: int) -> str:
    limit, _ = resource.getrlimit(kind)
    return "the limit of this process is " + ("none" if limit < 0 else str(limit))
