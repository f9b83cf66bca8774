"""Runs on mounts that begin cold: a new mount over an empty cache for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from benchmarks import mounts
from benchmarks.mounts import Mounted, Mounter, mounted
from benchmarks.row import Contender, Sample
from benchmarks.servers import Servers

OURS, S3FS, RCLONE = "ego4dfs mount", "s3fs-fuse", "rclone mount"


def tools() -> tuple[Mounter, ...]:
    """Return the mounts that most rows compare, that of ego4dfs first."""
    return (mounts.ego4dfs(), mounts.s3fs(), mounts.rclone())


def cold(
    servers: Servers,
    shape: str,
    dataset: str,
    work: Callable[[Mounted], Sample],
    *,
    mounters: Iterable[Mounter] | None = None,
    rounds: Mapping[str, int] | None = None,
) -> list[Contender]:
    """Return a contender for each tool, which mounts the dataset cold, works, and unmounts.

    `rounds` bounds those of slow tools by their names.
    """

    def run(mounter: Mounter) -> Sample:
        kept = servers.empty("cache")
        try:
            with mounted(mounter, servers, shape, dataset, kept) as mount:
                return work(mount)
        finally:
            servers.empty("cache")

    return [
        Contender(tool.name, partial(run, tool), tool.tool.missing, (rounds or {}).get(tool.name))
        for tool in (tools() if mounters is None else mounters)
    ]
