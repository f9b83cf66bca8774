"""What is kept from eviction: pins, and what they may take.

A pin is diskcache's expiry, set so far ahead that it never comes: eviction passes over rows that
have one. diskcache has no question for them, so its table is asked directly.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache

from ego4dfs.errors import CacheError
from ego4dfs.sqlite import LOCK_STEP_S, connect, retry_while_locked

PIN_SHARE = 0.8
"""Share of the bound that pinned blocks may take: the rest of the data needs room, too."""

PIN_S = 100 * 365 * 86_400.0
POLICY = "least-recently-used-unpinned"
_LOCK_WAIT_S = 3.0

diskcache.EVICTION_POLICY[POLICY] = {
    **diskcache.EVICTION_POLICY["least-recently-used"],
    # Without an index of its own, each eviction would sort all rows, or look through all pins.
    "init": "CREATE INDEX IF NOT EXISTS Cache_unpinned ON Cache (access_time)"
    " WHERE expire_time IS NULL",
    "cull": "SELECT {fields} FROM Cache INDEXED BY Cache_unpinned"
    " WHERE expire_time IS NULL ORDER BY access_time LIMIT ?",
}


@dataclass(frozen=True, slots=True)
class Pin:
    """The pinned blocks of one object, and what they take on disk."""

    url: str
    blocks: int
    bytes: int


def pins(directory: Path) -> list[Pin]:
    """Return what is pinned in a cache, object by object."""
    query = "SELECT tag, COUNT(*), SUM(size) FROM Cache WHERE expire_time IS NOT NULL"
    return [Pin(*row) for row in _rows(directory, f"{query} GROUP BY tag ORDER BY tag")]


def pinned_keys(directory: Path) -> list[tuple[str, str]]:
    """Return the pinned blocks as (key, URL of the object)."""
    rows = _rows(directory, "SELECT key, tag FROM Cache WHERE expire_time IS NOT NULL")
    return [(key, url) for key, url in rows]


def pinned_bytes(directory: Path) -> int:
    """Return what the pinned blocks take; 0 where there is no cache, or none that can be read."""
    if not (directory / "cache.db").exists():
        return 0
    try:
        return sum(pin.bytes for pin in pins(directory))
    except sqlite3.Error:
        return 0  # opening it as a cache will tell


def check_limit(directory: Path, max_bytes: int | None) -> None:
    """Raise CacheError when the blocks that are pinned need more than a bound leaves to them."""
    pinned = pinned_bytes(directory) if max_bytes is not None else 0
    if max_bytes is not None and pinned > max_bytes * PIN_SHARE:
        raise CacheError(
            f"a cache of {max_bytes / 2**30:.2f} GiB has no room beside its pins,"
            f" which take {pinned / 2**30:.2f} GiB",
            hint="`ego4dfs cache unpin` lets them go, or give a larger --cache-size",
        )


def _rows(directory: Path, query: str) -> list[tuple[Any, ...]]:
    uri = f"{(directory / 'cache.db').absolute().as_uri()}?mode=ro"
    return retry_while_locked(lambda: _fetched(uri, query), wait_s=_LOCK_WAIT_S)


def _fetched(uri: str, query: str) -> list[tuple[Any, ...]]:
    with closing(connect(uri, lock_wait_s=LOCK_STEP_S)) as database:
        return database.execute(query).fetchall()
