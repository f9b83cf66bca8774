"""Limits of this process on open files, threads and memory: errors that name the one reached."""

from __future__ import annotations

import errno
import resource

from ego4dfs.errors import Ego4DError, MountError, ProcessLimit
from ego4dfs.text import human_size

MIN_ADDRESS_SPACE = 2 << 30
"""Bytes: each of up to 200 threads reserves 8 MiB, most of which is never used."""

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
    is_no_thread = isinstance(error, RuntimeError) and _NO_THREAD in text
    if is_no_thread or isinstance(error, ProcessLimit):
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


def check_address_space() -> None:
    """Raise MountError if the limit on virtual memory is too small for a mount.

    obstore ends the process where memory cannot be allocated, and the mount with it.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        raise MountError(
            f"a mount needs {human_size(MIN_ADDRESS_SPACE)} of virtual memory, and the limit of"
            f" this process is {human_size(limit)}",
            hint="raise the limit (ulimit -v), or limit the resident memory instead",
        )


def _now(kind: int) -> str:
    limit, _ = resource.getrlimit(kind)
    return "the limit of this process is " + ("none" if limit < 0 else str(limit))
