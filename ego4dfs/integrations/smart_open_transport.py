"""The transport of smart_open for `ego4d://`: the names that it looks for in a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ego4dfs.integrations.filesystem import SCHEME, current

__all__ = ["SCHEME", "open", "open_uri", "parse_uri"]


def parse_uri(uri_as_string: str) -> dict[str, str]:
    """Return the parts of a URL."""
    return {"scheme": SCHEME, "uri_path": uri_as_string.partition("://")[2]}


def open_uri(uri: str, mode: str, transport_params: Mapping[str, Any]) -> Any:
    """Open a URL; `transport_params` are options of Ego4DFileSystem."""
    return open(uri, mode, **transport_params)


def open(uri: str, mode: str = "rb", **options: Any) -> Any:  # noqa: A001 - the name is required
    """Open a path or a URL with these options, and those of `ego4dfs.register`."""
    return current(**options).open(uri, mode)
