"""The catalog: manifests, cached and revalidated, and the rows of them that are selected."""

from ego4dfs.catalog.catalog import Catalog, Listing, Manifests
from ego4dfs.catalog.check_selection import check_matches
from ego4dfs.catalog.clip_parents import Parent, parents_of_clips
from ego4dfs.catalog.manifest_cache import (
    SHARING_BUCKET,
    CachedManifest,
    ManifestCache,
    manifest_url,
    metadata_url,
)
from ego4dfs.catalog.resolve_selection import NO_UIDS, resolve_selection, uids_from_file
from ego4dfs.catalog.selection import Selection
from ego4dfs.catalog.uids import NamedUids, uids_in
from ego4dfs.catalog.video_entries import VideoEntries
from ego4dfs.catalog.window_files import Place, WindowFiles

__all__ = [
    "NO_UIDS",
    "SHARING_BUCKET",
    "CachedManifest",
    "Catalog",
    "Listing",
    "ManifestCache",
    "Manifests",
    "NamedUids",
    "Parent",
    "Place",
    "Selection",
    "VideoEntries",
    "WindowFiles",
    "check_matches",
    "manifest_url",
    "metadata_url",
    "parents_of_clips",
    "resolve_selection",
    "uids_from_file",
    "uids_in",
]
