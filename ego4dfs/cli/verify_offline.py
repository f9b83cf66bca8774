"""The selection of `verify --offline`, resolved with the manifests on disk only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ego4dfs.catalog import (
    CachedManifest,
    Catalog,
    Listing,
    Selection,
    resolve_selection,
    uids_from_file,
)
from ego4dfs.config import Config
from ego4dfs.copies import Layout
from ego4dfs.copies.name_collisions import disk_names, with_disk_names
from ego4dfs.datasets import MANIFEST
from ego4dfs.errors import ConfigError, StoreUnavailable
from ego4dfs.files import open_regular, read_regular

_CHUNK_BYTES = 4 << 20


class _ManifestsOnDisk:
    """The manifests beside the copies, as the source of a Catalog; fetches nothing."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def is_cached(self, version: str, dataset: str) -> bool:
        """Return whether the manifest is on disk."""
        del version
        return (self._layout.dataset(dataset) / MANIFEST).is_file()

    def cached(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the manifest, None if it is not on disk."""
        return self.fetch(version, dataset) if self.is_cached(version, dataset) else None

    def fetch(self, version: str, dataset: str) -> CachedManifest:
        """Return the manifest. Raises StoreUnavailable if it is not on disk."""
        path = self._layout.dataset(dataset) / MANIFEST
        try:
            content, status = read_regular(path)
        except OSError as error:
            reason = f"the manifest of {dataset} ({version}) is needed, but is not on disk"
            hint = f"prefetch it: --manifests-only --datasets {dataset}; or leave --offline out"
            raise StoreUnavailable(f"{path}: {reason}", hint=hint) from error
        return CachedManifest(content, "", status.st_mtime_ns)


def selected_names(layout: Layout, config: Config) -> Mapping[str, frozenset[str]] | None:
    """Return the names of the selected files of each dataset; None without filters.

    Raises ConfigError if nothing is selected, and StoreUnavailable if a manifest that a filter
    needs is not on disk.
    """
    if not config.is_filtered:
        return None
    catalog = Catalog(_ManifestsOnDisk(layout), config.version, Selection())
    named = uids_from_file(config, lambda path: _chunks(layout, path))
    chosen = catalog.selected(resolve_selection(config, catalog, config.datasets, named))
    names = {
        dataset: _names(layout, dataset, chosen.listing(dataset)) for dataset in config.datasets
    }
    if not any(names.values()):
        raise ConfigError(
            f"no row of {' '.join(config.datasets)} matches this selection",
            hint="check --benchmarks, --universities, --video_uids and the other filters",
        )
    return names


def _names(layout: Layout, dataset: str, listing: Listing) -> frozenset[str]:
    other = disk_names(layout, dataset, listing.manifest.entries, writable=False)
    return frozenset(entry.name for entry in with_disk_names(listing.entries, other))


def _chunks(layout: Layout, path: str) -> Iterator[bytes]:
    """Yield the bytes of a copy; `path` may omit the directory of the version."""
    file = layout.root / path
    found = open_regular(file if file.is_file() else layout.dataset("") / path)
    with open(found, "rb") as stream:  # noqa: PTH123 - a descriptor
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
