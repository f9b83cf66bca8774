"""Upkeep of the block files: what `cache verify` checks, and what nothing counts any more."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cache import blockfile
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.index import BlockIndex

_PART_AGE_S = 600


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What `verify` found: blocks that are sound, that were dropped, and stray files removed."""

    sound: int
    damaged: int
    lost: int
    stray: int


def verify(directory: Path, index: BlockIndex) -> CacheReport:
    """Check every block, drop the damaged, and remove files that no row counts."""
    sound = damaged = lost = 0
    for key in index.keys():  # noqa: SIM118 - no mapping
        try:
            if blockfile.is_sound(directory / relative_name(key), key):
                sound += 1
                continue
            damaged += 1
        except FileNotFoundError:  # evicted since, or lost
            lost += 1
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            damaged += 1
        index.forget(key)
    index.recount()
    return CacheReport(sound, damaged, lost, remove_strays(directory, index))


def remove_strays(directory: Path, index: BlockIndex) -> int:
    """Remove block files that no row counts, and abandoned parts; return how many."""
    strays = sweep_parts(directory)
    for path in directory.glob("??/*"):
        # Ask the index for each: running mounts have added rows since it was listed.
        if not index.reserved([path.parent.name + path.name]):
            with suppress(FileNotFoundError):
                path.unlink()
                strays += 1
    return strays


def sweep_parts(directory: Path) -> int:
    """Remove the parts that killed processes left behind; return how many.

    A part that is young may be another process's, which is writing it.
    """
    swept = 0
    for path in (directory / blockfile.PARTS).glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= _PART_AGE_S:
                path.unlink()
                swept += 1
    return swept
