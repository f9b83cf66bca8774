"""Prefetch and verify by the workers of a Dask cluster: in one directory, or on each node."""

from ego4dfs.cluster.dask_client import DaskCluster
from ego4dfs.cluster.dask_fetcher import DaskFetcher
from ego4dfs.cluster.node_fetcher import NodeFetcher
from ego4dfs.cluster.node_work import blocks_of_nodes, copies_of_nodes, indexes_of_nodes
from ego4dfs.cluster.verifier import DaskVerifier
from ego4dfs.cluster.work import Work

__all__ = [
    "DaskCluster",
    "DaskFetcher",
    "DaskVerifier",
    "NodeFetcher",
    "Work",
    "blocks_of_nodes",
    "copies_of_nodes",
    "indexes_of_nodes",
]
