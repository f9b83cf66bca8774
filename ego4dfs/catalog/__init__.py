"""Which objects there are: manifests, kept and revalidated, and the part of them that is wanted."""

from ego4dfs.catalog.catalog import Catalog, Listing, Manifests
from ego4dfs.catalog.manifest_cache import (
    SHARING_BUCKET,
    CachedManifest,
    ManifestCache,
    manifest_url,
    metadata_url,
)
from ego4dfs.catalog.selection import Selection
from ego4dfs.catalog.uids import NamedUids, uids_in

__all__ = [
    "SHARING_BUCKET",
    "CachedManifest",
    "Catalog",
    "Listing",
    "ManifestCache",
    "Manifests",
    "NamedUids",
    "Selection",
    "manifest_url",
    "metadata_url",
    "uids_in",
]
