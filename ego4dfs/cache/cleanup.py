"""Verification of all cached blocks, and removal of files without a row in the index."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cache import blockfile
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.index import BlockIndex

_ABANDONED_AFTER_S = 600
_OLD_INCOMING = "parts"  # the name of `incoming` in earlier versions of ego4dfs


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What `verify` found: blocks that are valid, damaged or lost, and stray files.

    Damaged blocks and stray files were removed. A lost block has a row, but no file.
    """

    sound: int
    damaged: int
    lost: int
    stray: int


def verify(directory: Path, index: BlockIndex) -> CacheReport:
    """Check every block, remove the damaged ones, and remove files without a row.

    Raises sqlite3.Error, and OSError if a file cannot be opened or removed.
    """
    valid = damaged = lost = 0
    for key in index.keys():  # noqa: SIM118 - no mapping
        try:
            if blockfile.is_valid(directory / relative_name(key), key):
                valid += 1
                continue
            damaged += 1
        except FileNotFoundError:  # evicted since, or lost
            lost += 1
        except OSError as error:
            if error.errno not in blockfile.UNREADABLE:
                raise
            damaged += 1
        index.remove(key)
    index.recount()
    return CacheReport(valid, damaged, lost, remove_strays(directory, index))


def remove_strays(directory: Path, index: BlockIndex) -> int:
    """Remove block files without a row, and abandoned incoming files; return their number."""
    strays = sweep_incoming(directory)
    for path in directory.glob("??/*"):
        # Query the index for each file: running mounts have added rows since the listing.
        if not index.reserved([path.parent.name + path.name]):
            with suppress(FileNotFoundError):
                blockfile.remove(path)
                strays += 1
    return strays


def sweep_incoming(directory: Path) -> int:
    """Remove incoming files that killed processes left behind; return their number.

    Recent files are kept, because another process may be writing them.
    """
    swept = 0
    for name in (blockfile.INCOMING, _OLD_INCOMING):
        for path in (directory / name).glob("*"):
            with suppress(FileNotFoundError):
                # A time in the future is of a clock that has been set back since.
                if abs(time.time() - path.stat().st_mtime) >= _ABANDONED_AFTER_S:
                    path.unlink()
                    swept += 1
    with suppress(OSError):  # not there, or in use by an earlier version
        (directory / _OLD_INCOMING).rmdir()
    return swept
