"""Prefetch by the workers of a Dask cluster, which write into one shared directory."""

from ego4dfs.cluster.dask_client import DaskCluster
from ego4dfs.cluster.dask_fetcher import DaskFetcher

__all__ = ["DaskCluster", "DaskFetcher"]
