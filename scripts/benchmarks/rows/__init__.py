"""All rows, group by group; a group is a module here, or a few, each with a tuple `ROWS`."""

from __future__ import annotations

from benchmarks.row import Row
from benchmarks.rows import (
    browse,
    mount_epochs,
    mount_features,
    mount_latency,
    mount_list,
    mount_memory,
    mount_speed,
    mount_together,
    mount_windows,
    prefetch,
    prefetch_many,
    torch_epoch,
    url_features,
    windows,
    windows_epoch,
)

_MODULES = (
    prefetch,
    prefetch_many,
    mount_list,
    mount_memory,
    mount_latency,
    mount_speed,
    mount_together,
    mount_features,
    mount_windows,
    mount_epochs,
    windows,
    windows_epoch,
    torch_epoch,
    url_features,
    browse,
)
ROWS: tuple[Row, ...] = tuple(row for module in _MODULES for row in module.ROWS)
