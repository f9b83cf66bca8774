"""The options --dask ADDRESS and --each-node, and what they cannot be combined with."""

from __future__ import annotations

import argparse

from ego4dfs.cluster import DaskCluster
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError
from ego4dfs.text import masked


def add_dask(group: argparse._ActionsContainer, does: str) -> None:
    """Add the option of a command that does this with files."""
    group.add_argument(
        "--dask",
        metavar="ADDRESS",
        help=f"{does} with the workers of a Dask cluster: tcp://HOST:PORT of its scheduler, or"
        " local:N for N processes on this machine. What a lost worker has not finished is taken"
        " over by another one",
    )


def add_each_node(group: argparse._ActionsContainer) -> None:
    """Add the option of prefetch."""
    group.add_argument(
        "--each-node",
        action="store_true",
        help="with --dask: each node fetches all files into its own directory at the path of -o,"
        " and its workers share that work; without it all workers share one directory",
    )


def cluster_for_prefetch(args: argparse.Namespace, config: Config) -> DaskCluster | None:
    """Return the cluster that the options of prefetch name. Raises ConfigError."""
    if args.each_node:
        _check_each_node(args, config)
    return cluster_of(args, config)


def cluster_of(args: argparse.Namespace, config: Config) -> DaskCluster | None:
    """Return the cluster that --dask names; None without it. Raises ConfigError."""
    if args.dask is None:
        return None
    if args.shard is not None:
        raise ConfigError(
            "--dask and --shard cannot be used together",
            hint="leave out --shard: --dask divides the files itself",
        )
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
    if args.dask is None:
        raise ConfigError("--each-node: only for --dask", hint="add --dask ADDRESS")
    if args.to == "cache":
        text = "--each-node: not needed with --to cache"
        raise ConfigError(text, hint="leave it out: the cache of each node is filled")
    if config.bypass_existing:
        text = "--bypass-existing: not allowed with --each-node"
        raise ConfigError(text, hint="leave it out: files of each node are compared with ETags")
