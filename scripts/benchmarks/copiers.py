"""The command lines of the tools that copy from S3, so that each leaves the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.peers import Tool
from benchmarks.samples import VERSION, Dataset
from benchmarks.servers import Servers

# As many streams as ego4dfs has by default for small files, for a tool that takes a number.
STREAMS = 32


@dataclass(frozen=True, slots=True)
class Copier:
    """A tool with arguments. `lists` tools request a listing instead of reading manifests.

    They need an identity that may list, which licensees of Ego4D may not. They write files under
    the names of the objects, directly into the given directory.
    """

    name: str
    tool: Tool
    arguments: Callable[[Dataset, Path], list[str]]
    lists: bool = False

    def command(self, dataset: Dataset, out: Path) -> list[str]:
        """Return the command line that copies the dataset to `out`."""
        return [*self.tool.command, *self.arguments(dataset, out)]

    def environment(self, servers: Servers, shape: str, cache: Path) -> Mapping[str, str]:
        """Return the variables of a run; it is cold if `cache`, the cache of ego4dfs, is empty."""
        return servers.environment(shape, cache, may_list=self.lists)


def copiers() -> tuple[Copier, ...]:
    """Return all of them, ego4dfs first."""
    return (
        Copier("ego4dfs prefetch", peers.ego4dfs(), _ego4dfs),
        Copier("official ego4d", peers.official(), _official),
        Copier("rclone copy", peers.rclone(), _rclone, lists=True),
        Copier(f"rclone copy --transfers {STREAMS}", peers.rclone(), _rclone_wide, lists=True),
        Copier("aws s3 sync", peers.aws(), _aws, lists=True),
    )


def _ego4dfs(dataset: Dataset, out: Path) -> list[str]:
    return ["prefetch", *_official(dataset, out), "--quiet"]


def _official(dataset: Dataset, out: Path) -> list[str]:
    return ["-o", str(out), "--version", VERSION, "--datasets", dataset.name, "-y"]


def _rclone(dataset: Dataset, out: Path) -> list[str]:
    return ["copy", f":s3:{dataset.prefix}", str(out)]


def _rclone_wide(dataset: Dataset, out: Path) -> list[str]:
    streams = str(STREAMS)
    return [*_rclone(dataset, out), "--transfers", streams, "--checkers", streams]


def _aws(dataset: Dataset, out: Path) -> list[str]:
    return ["s3", "sync", f"s3://{dataset.prefix}", str(out), "--only-show-errors"]
