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
RCLONE_AS_LICENSEE = f"rclone copy --files-from, --transfers {STREAMS}"
"""rclone without the right to list: it is given the names, and sends a HEAD for each."""


@dataclass(frozen=True, slots=True)
class Copier:
    """A tool with arguments.

    Those with `object_names` know no manifests: they write files under the names of the objects,
    directly into the given directory. Of these, `lists` tools request a listing, and need an
    identity that may list, which licensees of Ego4D may not.
    """

    name: str
    tool: Tool
    arguments: Callable[[Dataset, Path], list[str]]
    object_names: bool = False
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
        Copier(RCLONE_AS_LICENSEE, peers.rclone(), _rclone_named, object_names=True),
        _lister("rclone copy", peers.rclone(), _rclone),
        _lister(f"rclone copy --transfers {STREAMS}", peers.rclone(), _rclone_wide),
        _lister("aws s3 sync", peers.aws(), _aws),
    )


def _lister(name: str, tool: Tool, arguments: Callable[[Dataset, Path], list[str]]) -> Copier:
    return Copier(name, tool, arguments, object_names=True, lists=True)


def _ego4dfs(dataset: Dataset, out: Path) -> list[str]:
    return ["prefetch", *_official(dataset, out), "--quiet"]


def _official(dataset: Dataset, out: Path) -> list[str]:
    return ["-o", str(out), "--version", VERSION, "--datasets", dataset.name, "-y"]


def _rclone(dataset: Dataset, out: Path) -> list[str]:
    return ["copy", f":s3:{dataset.prefix}", str(out)]


def _rclone_wide(dataset: Dataset, out: Path) -> list[str]:
    streams = str(STREAMS)
    return [*_rclone(dataset, out), "--transfers", streams, "--checkers", streams]


def _rclone_named(dataset: Dataset, out: Path) -> list[str]:
    names = out.with_name(f"{out.name}.names")
    names.write_text("".join(f"{name}\n" for name in dataset.objects))
    return [*_rclone_wide(dataset, out), "--files-from-raw", str(names), "--no-traverse"]


def _aws(dataset: Dataset, out: Path) -> list[str]:
    return ["s3", "sync", f"s3://{dataset.prefix}", str(out), "--only-show-errors"]
