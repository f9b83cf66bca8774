"""The block cache on disk: limited in size, shared by processes, verified by checksums."""

from ego4dfs.cache.admin import PIN_SHARE, CacheAdmin, Pin
from ego4dfs.cache.blockcache import CLOSE_WAIT_S, BlockCache
from ego4dfs.cache.cleanup import CacheReport
from ego4dfs.cache.directory import (
    FORMAT,
    prepare_directory,
    private_directory,
    source_directory,
    source_names,
)
from ego4dfs.cache.index import Usage
from ego4dfs.cache.readahead_limits import ReadaheadLimit

__all__ = [
    "CLOSE_WAIT_S",
    "FORMAT",
    "PIN_SHARE",
    "BlockCache",
    "CacheAdmin",
    "CacheReport",
    "Pin",
    "ReadaheadLimit",
    "Usage",
    "prepare_directory",
    "private_directory",
    "source_directory",
    "source_names",
]
