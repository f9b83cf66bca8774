"""Room for what a plan adds to the cache: on its disk."""

from __future__ import annotations

import os
from pathlib import Path

from ego4dfs.errors import CacheError
from ego4dfs.prefetch.plan import TO_FETCH, Plan
from ego4dfs.session import Session
from ego4dfs.text import distinct_sizes


def bytes_to_fetch(plan: Plan) -> int:
    """Return how many bytes of a plan are not cached."""
    return plan.bytes(*TO_FETCH) - plan.partial_bytes


def check_disk(session: Session, needed: int, directory: Path) -> None:
    """Raise CacheError if the disk has no space for what the cache grows by with `needed` bytes."""
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    growth = min(needed, session.cache.admin.max_bytes - session.cache.admin.used_bytes)
    if growth > free:
        growth_size, free_size = distinct_sizes(growth, free)
        raise CacheError(
            f"{directory}: the cache needs {growth_size} more for this, and {free_size} are free",
            hint="free some space, select less, or choose another disk with --cache-dir",
        )
