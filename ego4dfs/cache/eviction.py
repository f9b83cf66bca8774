"""Eviction queries for diskcache: LRU, or newest blocks first; pinned blocks are not evicted.

A policy of diskcache is one query. A pinned block is a row with an expiry so far ahead that it
never comes; both policies skip rows that have an expiry.

With random order over data of size D, a cache of size C = c·D that evicts the least recently used
block has a hit rate of c + (1 - c)·ln(1 - c); one that keeps the oldest blocks has a rate of c.
"""

from __future__ import annotations

import diskcache

PIN_S = 100 * 365 * 86_400.0
"""The expiry of a pinned row, in seconds from now."""

TRANSIENT_SHARE = 64
TRANSIENT_BLOCKS = 4
"""In a cache that keeps the oldest blocks, one block in 64 is transient: the newest replace each
other. At least four are, because a kernel reads one block by several requests."""

IDLE_S = 2 * 86_400
"""Blocks that were not read for this long are evicted first: two epochs of one day each."""

_LRU = "least-recently-used-unpinned"
_KEEP_OLDEST = "first-come-unpinned"
_BLOCK_ON_DISK = (1 << 20) + 4096

POLICIES = {"lru": _LRU, "none": _KEEP_OLDEST}
"""The name of each policy in diskcache's settings, by the word that users write."""

diskcache.EVICTION_POLICY[_LRU] = {
    **diskcache.EVICTION_POLICY["least-recently-used"],
    # Without its own index, each eviction would sort all rows, or scan all pins.
    "init": "CREATE INDEX IF NOT EXISTS Cache_unpinned ON Cache (access_time)"
    " WHERE expire_time IS NULL",
    "cull": "SELECT {fields} FROM Cache INDEXED BY Cache_unpinned"
    " WHERE expire_time IS NULL ORDER BY access_time LIMIT ?",
}

# The newest rows replace each other; only idle blocks are evicted before them. One query removes
# only as many rows as are certainly over the limit: ten, diskcache's number, would leave a small
# cache half a dozen blocks below it.
diskcache.EVICTION_POLICY[_KEEP_OLDEST] = {
    **diskcache.EVICTION_POLICY[_LRU],
    "cull": f"""
SELECT {{fields}} FROM Cache WHERE rowid IN (
    SELECT * FROM (
        SELECT rowid FROM Cache INDEXED BY Cache_unpinned
        WHERE expire_time IS NULL AND access_time < {{now}} - {IDLE_S}
        ORDER BY access_time LIMIT 10)
    UNION ALL SELECT * FROM (
        SELECT rowid FROM Cache WHERE expire_time IS NULL ORDER BY rowid DESC LIMIT 10 OFFSET (
            SELECT max({TRANSIENT_BLOCKS}, value / {TRANSIENT_SHARE})
            FROM Settings WHERE key = 'count'))
    UNION ALL SELECT * FROM (
        SELECT rowid FROM Cache WHERE expire_time IS NULL ORDER BY rowid LIMIT 1)
    LIMIT min(?, max(1, (
        (SELECT value FROM Settings WHERE key = 'size')
        - (SELECT value FROM Settings WHERE key = 'size_limit')) / {_BLOCK_ON_DISK})))
""",  # noqa: S608 - only our own numbers are inserted
}
