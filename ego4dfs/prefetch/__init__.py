"""Prefetch: bulk downloads, resumed and compared with ETags, into copies or the block cache."""

from ego4dfs.prefetch.cache_warmer import CacheWarmer
from ego4dfs.prefetch.destination import Destination
from ego4dfs.prefetch.disk_space import DiskSpace, disks_of, room_on, without_space
from ego4dfs.prefetch.fetcher import JOBS, Fetcher
from ego4dfs.prefetch.head_requests import Revalidator
from ego4dfs.prefetch.index_warmer import IndexTotals, IndexWarmer
from ego4dfs.prefetch.mirror import Mirror
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import (
    COMPLETE,
    TO_FETCH,
    UNAVAILABLE,
    DatasetPlan,
    Item,
    Plan,
    Share,
)
from ego4dfs.prefetch.planner import Planner
from ego4dfs.prefetch.release_files import ReleaseFiles
from ego4dfs.prefetch.report import NodeReport, Problem, Report, Status
from ego4dfs.prefetch.selection_history import Expected, Selections
from ego4dfs.prefetch.shard import Shard
from ego4dfs.prefetch.windows import WindowPlan, WindowPlanner

__all__ = [
    "COMPLETE",
    "JOBS",
    "TO_FETCH",
    "UNAVAILABLE",
    "CacheWarmer",
    "DatasetPlan",
    "Destination",
    "DiskSpace",
    "Expected",
    "Fetcher",
    "IndexTotals",
    "IndexWarmer",
    "Item",
    "Mirror",
    "NodeReport",
    "Outage",
    "Plan",
    "Planner",
    "Problem",
    "ReleaseFiles",
    "Report",
    "Revalidator",
    "Selections",
    "Shard",
    "Share",
    "Status",
    "WindowPlan",
    "WindowPlanner",
    "disks_of",
    "room_on",
    "without_space",
]
