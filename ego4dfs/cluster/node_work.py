"""What nodes can do with a plan: copies below a directory, blocks or indexes in their caches.

The functions that run on workers are imported when they are called: Dask is slow to import.
"""

from __future__ import annotations

from functools import partial

from ego4dfs.cluster.nodes import cache_place, copies_place
from ego4dfs.cluster.part import Part
from ego4dfs.cluster.part_reports import PartReport
from ego4dfs.cluster.work import Begun, Work
from ego4dfs.config import Config
from ego4dfs.copies import Layout


def copies_of_nodes(layout: Layout) -> Work:
    """Return the work that makes copies below the layout's root, on each node."""
    place = partial(copies_place, layout)
    return Work(place, _begin_copies, _fetch_copies, root=layout.root)


def blocks_of_nodes(config: Config, *, pin: bool) -> Work:
    """Return the work that fetches into the cache of each node; with `pin` nothing is evicted."""
    return Work(partial(cache_place, config), _begin_cache, _fetch_blocks, pin=pin)


def indexes_of_nodes(config: Config, *, pin: bool) -> Work:
    """Return the work that fetches the indexes of videos into the cache of each node."""
    return Work(partial(cache_place, config), _begin_indexes, _fetch_indexes, pin=pin)


def _begin_copies(part: Part) -> Begun:
    from ego4dfs.cluster.worker_nodes import begin_copies  # noqa: PLC0415

    return begin_copies(part)


def _fetch_copies(part: Part) -> PartReport:
    from ego4dfs.cluster.worker import fetch_part  # noqa: PLC0415

    return fetch_part(part)


def _begin_cache(part: Part) -> Begun:
    from ego4dfs.cluster.worker_cache import begin_cache  # noqa: PLC0415

    return begin_cache(part)


def _fetch_blocks(part: Part) -> PartReport:
    from ego4dfs.cluster.worker_cache import fetch_blocks  # noqa: PLC0415

    return fetch_blocks(part)


def _begin_indexes(part: Part) -> Begun:
    from ego4dfs.cluster.worker_cache import begin_indexes  # noqa: PLC0415

    return begin_indexes(part)


def _fetch_indexes(part: Part) -> PartReport:
    from ego4dfs.cluster.worker_cache import fetch_indexes  # noqa: PLC0415

    return fetch_indexes(part)
