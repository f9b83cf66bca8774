"""The files of a release that are not rows of a manifest: the manifests and ego4d.json."""

from __future__ import annotations

import filecmp
import stat
from contextlib import suppress
from pathlib import Path

from ego4dfs.catalog import Listing
from ego4dfs.copies import Layout
from ego4dfs.datasets import MANIFEST, METADATA, VERSIONS, version_directory
from ego4dfs.files import Folder


class ReleaseFiles:
    """Writes them to the paths of the official tool. Raises OSError."""

    def __init__(self, layout: Layout) -> None:
        """Write below the layout's root."""
        self._layout = layout

    def manifest(self, listing: Listing) -> Path:
        """Write a dataset's manifest.csv byte for byte and return its path."""
        return self._write(self._layout.relative(listing.dataset, MANIFEST), listing)

    def top_manifest(self, listing: Listing) -> Path:
        """Write a manifest to the root, as for `--manifest`, and return its path."""
        return self._write(MANIFEST, listing)

    def offer_metadata(self) -> None:
        """Link the ego4d.json of the root into the version's directory, if it has none.

        It is then checked like any other file.
        """
        top = self._layout.root / METADATA
        if not self._layout.metadata.exists() and top.is_file():
            self._share("", self._layout.version_name)

    def metadata(self) -> Path | None:
        """Link the version's ego4d.json into the root; return its path, or None without one."""
        path, top = self._layout.metadata, self._layout.root / METADATA
        if not path.is_file():
            return None
        if not (top.exists() and top.samefile(path)):
            self._share(self._layout.version_name, "")
        return top

    def is_root_metadata_right(self) -> bool:
        """Return whether the ego4d.json of the root is that of this version or of another one.

        It is that of the version which was downloaded last. The official tool writes no other one,
        so it may be that of a version which has a directory without one. Raises OSError.
        """
        top = self._layout.root / METADATA
        if not top.is_file():
            return False
        if _are_same(top, self._layout.metadata):
            return True
        others = {version_directory(one) for one in VERSIONS} - {self._layout.version_name}
        directories = [self._layout.root / one for one in sorted(others)]
        return any(one.is_dir() and _may_be(top, one / METADATA) for one in directories)

    def _write(self, relative: str, listing: Listing) -> Path:
        path = self._layout.root / relative
        if path.is_file() and path.read_bytes() == listing.content:
            return path
        directory, _, name = relative.rpartition("/")
        with Folder.at(self._layout.root) as root, root.below(directory, make=True) as folder:
            folder.write_atomic(name, listing.content, mtime_ns=listing.mtime_ns)
        return path

    def _share(self, source: str, target: str) -> None:
        """Create a hard link of ego4d.json in another directory, or a copy if that fails."""
        with (
            Folder.at(self._layout.root) as root,
            root.below(source) as source_folder,
            root.below(target, make=True) as target_folder,
        ):
            found = source_folder.status(METADATA)
            if found is not None and stat.S_ISREG(found.st_mode):
                with suppress(OSError):
                    target_folder.link_from(METADATA, source_folder)
                    return
            path = source_folder.path / METADATA
            target_folder.write_atomic(
                METADATA, path.read_bytes(), mtime_ns=path.stat().st_mtime_ns
            )


def _may_be(top: Path, other: Path) -> bool:
    return not other.exists() or _are_same(top, other)


def _are_same(one: Path, other: Path) -> bool:
    if not other.is_file():
        return False
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)
