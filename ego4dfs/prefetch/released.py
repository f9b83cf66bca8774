"""The files of a release that are no rows of a manifest: manifests themselves, and ego4d.json."""

from __future__ import annotations

import os
from pathlib import Path

from ego4dfs.catalog import Listing
from ego4dfs.prefetch.layout import METADATA, Layout, write_whole


class ReleaseFiles:
    """Puts them where the official tool does. Raises OSError."""

    def __init__(self, layout: Layout) -> None:
        """Write below the layout's root."""
        self._layout = layout

    def manifest(self, listing: Listing) -> Path:
        """Write a dataset's manifest.csv byte for byte and return its path."""
        return _write(self._layout.dataset(listing.dataset) / "manifest.csv", listing)

    def top_manifest(self, listing: Listing) -> Path:
        """Write a manifest to the root, as `--manifest` asks, and return its path."""
        return _write(self._layout.root / "manifest.csv", listing)

    def offer_metadata(self) -> None:
        """Let the version's directory have the ego4d.json of the root, if it has none.

        Whether it is the right one is then seen as for any other file.
        """
        path, top = self._layout.metadata, self._layout.root / METADATA
        if not path.exists() and top.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(top, path)

    def metadata(self) -> Path | None:
        """Show the version's ego4d.json in the root too; return its path, or None without one."""
        path, top = self._layout.metadata, self._layout.root / METADATA
        if not path.exists():
            return None
        if not (top.exists() and top.samefile(path)):
            _link(path, top)
        return top


def _write(path: Path, listing: Listing) -> Path:
    if path.is_file() and path.read_bytes() == listing.content:
        return path
    write_whole(path, listing.content, mtime_ns=listing.mtime_ns)
    return path


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or where that cannot be, copy it."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.link(source, partial)
    except OSError:
        _copy(source, partial)
    partial.replace(target)


def _copy(source: Path, target: Path) -> None:
    import shutil  # noqa: PLC0415 - rarely needed

    shutil.copy2(source, target)
