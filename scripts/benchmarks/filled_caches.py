"""Caches of ego4dfs that are not empty before a run: with indexes of videos, or after an import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import measure, peers
from benchmarks.samples import VERSION
from benchmarks.servers import Servers

CACHED, IMPORTED = "indexes cached", "index file imported"
"""How contenders say what their caches have."""

Fill = Callable[[Path], None]
"""Fills the cache in an empty directory, before anything is measured. Raises RunError."""


def with_indexes(servers: Servers, dataset: str) -> Fill:
    """Return what fetches the indexes of all videos of a dataset into a cache."""

    def fill(cache_dir: Path) -> None:
        words = ["prefetch", "-y", "--quiet", "--to", "cache", "--indexes"]
        _run(servers, cache_dir, *words, *_selection(dataset))

    return fill


def with_import(servers: Servers, dataset: str, *, key_frames: bool = False) -> Fill:
    """Export what another cache knows of a dataset, now, and return what imports it.

    These are the sizes of all files, and with `key_frames` those of all videos. No cached bytes
    of files are part of it.
    """
    other = servers.empty("export")
    file = servers.directory / f"{dataset}.sqlite"
    if key_frames:
        with_indexes(servers, dataset)(other)
    words = ["index", "export", str(file), "--overwrite", "--no-metadata"]
    _run(servers, other, *words, *_selection(dataset))
    servers.empty("export")
    return lambda cache_dir: _run(servers, cache_dir, "index", "import", str(file))


def _selection(dataset: str) -> list[str]:
    return ["--version", VERSION, "--datasets", dataset]


def _run(servers: Servers, cache_dir: Path, *words: str) -> None:
    # From the distant server as everything else: the facts of a cache belong to one endpoint.
    measure.run(
        [*peers.ego4dfs().command, *words],
        environment=servers.environment("wan", cache_dir),
        log=servers.directory / "fill.log",
        directory=servers.directory,
    )
