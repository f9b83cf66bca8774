"""The filesystem that serves the URLs of registered libraries."""

from __future__ import annotations

from typing import Any

from ego4dfs.filesystem import Ego4DFileSystem

SCHEME = "ego4d"

_options: dict[str, Any] = {}


def choose(options: dict[str, Any]) -> None:
    """Use these options from now on. Raises ConfigError if one is wrong."""
    Ego4DFileSystem(**options)
    _options.clear()
    _options.update(options)


def current(**more: Any) -> Ego4DFileSystem:
    """Return the filesystem of the chosen options, and of `more`; it is kept by fsspec."""
    return Ego4DFileSystem(**{**_options, **more})


def gopen(url: str, mode: str = "rb", bufsize: int = -1, **options: Any) -> Any:
    """Open a URL as webdataset does; it adds options of its own, which have no effect."""
    del bufsize, options
    return current().open(url, mode)
