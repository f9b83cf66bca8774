"""The Config of a part on a worker's machine."""

from __future__ import annotations

import os
from dataclasses import replace

from ego4dfs.config import Config, resolve


def worker_config(config: Config) -> Config:
    """Return the Config with the cache that EGO4DFS_CACHE_DIR names on this machine, if it does."""
    if not os.environ.get("EGO4DFS_CACHE_DIR"):
        return config
    return replace(config, cache_dir=resolve({}).cache_dir)
