"""`ego4dfs verify --dask`: the files are read by the workers of a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ego4dfs.catalog import Listing
from ego4dfs.cli.progress import Progress
from ego4dfs.cluster import DaskCluster, DaskVerifier
from ego4dfs.copies import Journal, Layout
from ego4dfs.prefetch import Plan
from ego4dfs.verify import Compare, Finding, check_plan


@contextmanager
def comparing(cluster: DaskCluster | None, layout: Layout) -> Iterator[Compare | None]:
    """Yield what reads and compares files on a cluster, with progress; None without one."""
    if cluster is None:
        yield None
        return
    with Progress(sys.stderr) as progress:
        yield DaskVerifier(cluster, layout, progress.checked)


def checked_plan(
    cluster: DaskCluster | None,
    layout: Layout,
    plan: Plan,
    listings: Sequence[Listing],
    journal: Journal,
) -> list[Finding]:
    """Check a plan and find extra files, as `check_plan` does; a cluster reads the files."""
    with comparing(cluster, layout) as compare:
        return check_plan(layout, plan, listings, journal, layout.version, compare)
