"""The block cache: bounded, on disk, shared by processes, checked before it is believed."""

from ego4dfs.cache.blockcache import CLOSE_WAIT_S, BlockCache
from ego4dfs.cache.directory import FORMAT, prepare_directory, private_directory, source_directory
from ego4dfs.cache.pins import PIN_SHARE, Pin
from ego4dfs.cache.upkeep import CacheReport

__all__ = [
    "CLOSE_WAIT_S",
    "FORMAT",
    "PIN_SHARE",
    "BlockCache",
    "CacheReport",
    "Pin",
    "prepare_directory",
    "private_directory",
    "source_directory",
]
