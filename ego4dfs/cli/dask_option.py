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


def cluster_of(args: argparse.Namespace, config: Config) -> DaskCluster | None:
    """Return the cluster that the option names; None without it. Raises ConfigError."""
    if args.dask is None:
        return None
    if args.shard is not None:
        raise ConfigError(
            "--dask and --shard cannot be used together",
            hint="leave out --shard: --dask divides the files itself",
        )
    if args.to == "cache":
        raise ConfigError(
            "--dask cannot be used with --to cache",
            hint="run it with --shard on each machine, or with --dask into a directory",
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
