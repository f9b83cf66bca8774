"""What leaves when room is needed: as diskcache's policies, which are one query each.

Random order over data of size D meets a cache of size C = c·D that evicts the least recently used
only c + (1 - c)·ln(1 - c) of the time, and one that keeps what came first c of the time.
"""

from __future__ import annotations

import diskcache

from ego4dfs.cache import pins

PASSING_SHARE = 64
PASSING_BLOCKS = 4
"""One block in so many of a cache that keeps what came first is on its way through, and at least
so many blocks: a kernel reads one by several requests."""

IDLE_S = 2 * 86_400
"""What was not read for so long leaves first under each policy: two epochs of a day each."""

_KEEP = "first-come-unpinned"
_BLOCK_ON_DISK = (1 << 20) + 4096

POLICIES = {"lru": pins.POLICY, "none": _KEEP}
"""diskcache's name of each policy, by the word that users say."""

# The newest rows make way for each other, and only blocks that nobody reads any more leave before
# them. As many rows at a time as are surely in excess: ten, as diskcache does, would leave a small
# cache half a dozen blocks below its bound.
diskcache.EVICTION_POLICY[_KEEP] = {
    **diskcache.EVICTION_POLICY[pins.POLICY],
    "cull": f"""
SELECT {{fields}} FROM Cache WHERE rowid IN (
    SELECT * FROM (
        SELECT rowid FROM Cache INDEXED BY Cache_unpinned
        WHERE expire_time IS NULL AND access_time < {{now}} - {IDLE_S}
        ORDER BY access_time LIMIT 10)
    UNION ALL SELECT * FROM (
        SELECT rowid FROM Cache WHERE expire_time IS NULL ORDER BY rowid DESC LIMIT 10 OFFSET (
            SELECT max({PASSING_BLOCKS}, value / {PASSING_SHARE})
            FROM Settings WHERE key = 'count'))
    UNION ALL SELECT * FROM (
        SELECT rowid FROM Cache WHERE expire_time IS NULL ORDER BY rowid LIMIT 1)
    LIMIT min(?, max(1, (
        (SELECT value FROM Settings WHERE key = 'size')
        - (SELECT value FROM Settings WHERE key = 'size_limit')) / {_BLOCK_ON_DISK})))
""",  # noqa: S608 - only numbers of our own go in
}
