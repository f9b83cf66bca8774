"""The option --dask ADDRESS, and what it cannot be combined with."""

from __future__ import annotations

import argparse

from ego4dfs.cluster import DaskCluster
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError
from ego4dfs.text import masked


def add_dask(group: argparse._ArgumentGroup) -> None:
    """Add the option."""
    group.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="fetch with the workers of a Dask cluster, which share the directory: tcp://HOST:PORT"
        " of its scheduler, or local:N for N processes on this machine. What a lost worker has not"
        " finished is taken over by another one",
    )
    group.add_argument(
        "--each-node",
        action="store_true",
        help="with --dask: each node fetches all files into its own directory at the path of -o,"
        " and its workers share that work",
    )


def cluster_of(args: argparse.Namespace, config: Config) -> DaskCluster | None:
    """Return the cluster that the option names; None without it. Raises ConfigError."""
    if args.dask is None:
        if args.each_node:
            raise ConfigError("--each-node: only for --dask", hint="add --dask ADDRESS")
        return None
    if args.shard is not None:
        raise ConfigError(
            "--dask and --shard cannot be used together",
            hint="leave out --shard: --dask divides the files itself",
        )
    if args.each_node:
        _check_each_node(args, config)
    for flag, url in (("--source", config.source), ("--endpoint-url", config.endpoint_url)):
        if masked(url) != url:
            raise ConfigError(
                f"{flag}: has a password, and --dask sends it to the workers",
                hint="leave it out of the URL, and set it on each machine, or use --shard",
            )
    cluster = DaskCluster(args.dask, config)
    cluster.check()
    return cluster


def _check_each_node(args: argparse.Namespace, config: Config) -> None:
    if args.to == "cache":
        text = "--each-node: not needed with --to cache"
        raise ConfigError(text, hint="leave it out: the cache of each node is filled")
    if config.bypass_existing:
        text = "--bypass-existing: not allowed with --each-node"
        raise ConfigError(text, hint="leave it out: files of each node are compared with ETags")
