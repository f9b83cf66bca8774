"""A Session over a store in memory, opened without a Config."""

from __future__ import annotations

from pathlib import Path

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.catalog import Catalog, ManifestCache, Selection
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.session import Session
from ego4dfs.store import ObjectStore

MIB = 1 << 20


def session_over(
    store: ObjectStore,
    directory: Path,
    *,
    version: str = "v9_1",
    max_bytes: int | None = 256 * MIB,
) -> Session:
    """Open all parts over `store`, with the cache in `directory`."""
    inner = prepare_directory(directory / "cache")
    metrics = Metrics()
    cache = BlockCache(inner, metrics, max_bytes=max_bytes)
    return Session(
        store,
        Catalog(ManifestCache(inner, store), version, Selection()),
        cache,
        FactsIndex(inner, store),
        Reader(store, cache, metrics),
        metrics,
    )
