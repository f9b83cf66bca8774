"""Mounts over a store behind the fault gateway, for long runs that are commands and tests."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.demo.server import S3Server
from kit.gateway import Gateway
from kit.mounts import Mounts
from kit.server import SHARING, Release, environment


@dataclass(frozen=True)
class FaultyMounts:
    """A server with release v1, the gateway in front of it, and mounts of it with one cache."""

    directory: Path
    server: S3Server
    release: Release
    front: Gateway
    env: dict[str, str]
    mounts: Mounts

    @property
    def cache(self) -> Path:
        """The directory of the cache."""
        return Path(self.env["EGO4DFS_CACHE_DIR"])


@contextmanager
def faulty_mounts(
    directory: Path, *, libfuse: str, transport: str, host: str = "127.0.0.1"
) -> Iterator[FaultyMounts]:
    """Start all of it in `directory`; end it, and unmount what is mounted, at the end."""
    with ExitStack() as stack:
        server = stack.enter_context(S3Server(directory / "s3"))
        server.create_bucket(SHARING)
        front = stack.enter_context(Gateway(server.endpoint_url, host=host))
        ours = {"AWS_ENDPOINT_URL_S3": front.url, "EGO4DFS_HEDGE": "auto"}
        env = environment(server, directory / "home", transport, **ours)
        mounts = Mounts(directory, libfuse)
        stack.callback(mounts.clear)
        yield FaultyMounts(directory, server, Release(server, "v1"), front, env, mounts)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all long runs have."""
    parser.add_argument("--libfuse", default="3", choices=("2", "3"))
    parser.add_argument("--transport", default="obstore", choices=("obstore", "s3fs"))
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
