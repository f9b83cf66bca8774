"""The catalog: the manifests of all datasets, each loaded at its first use, and their entries."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ego4dfs.catalog.manifest_cache import CachedManifest
from ego4dfs.catalog.selection import Selection
from ego4dfs.errors import ConfigError, Ego4DError, ManifestError, StoreError
from ego4dfs.manifest import CompressedBytes, Entry, Manifest, filtered, parse
from ego4dfs.runtime.daemon_threads import map_parallel

log = logging.getLogger(__name__)

_FAILURE_KEPT_S = 30.0
_MAX_PROBLEMS_LOGGED = 5
_LOAD_THREADS = 8


@dataclass(frozen=True, slots=True)
class Listing:
    """One dataset: its manifest, byte for byte, and the entries that are selected."""

    dataset: str
    entries: Sequence[Entry]
    packed: CompressedBytes
    mtime_ns: int
    manifest: Manifest

    @property
    def content(self) -> bytes:
        """The manifest byte for byte."""
        return self.packed.content()

    @property
    def size(self) -> int:
        """The length of `content` in bytes."""
        return self.packed.size

    def selected(self, selection: Selection) -> Listing:
        """Return the same dataset with the entries of another selection."""
        entries = self.manifest.entries
        if selection != Selection():
            entries = filtered(entries, selection.admits)
        return replace(self, entries=entries)

    @property
    def listed_uids(self) -> frozenset[str]:
        """The uids of all rows, selected or not."""
        return frozenset().union(*(entry.uids for entry in self.manifest.entries))


class Manifests(Protocol):
    """Where the manifests of a catalog come from."""

    def is_cached(self, version: str, dataset: str) -> bool:
        """Return whether `cached` returns one."""

    def cached(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the manifest that is on disk, without a request."""

    def fetch(self, version: str, dataset: str) -> CachedManifest:
        """Return the newest manifest available. Raises StoreError, ConfigError or ManifestError."""


class Catalog:
    """The datasets of one version.

    Safe from several threads: one of them loads a dataset while the others wait. After a failure
    a dataset raises the same error for half a minute, without a request.
    """

    def __init__(
        self,
        manifests: Manifests,
        version: str,
        selection: Selection,
        *,
        override: Mapping[str, Path] | None = None,
    ) -> None:
        """Read from `manifests`; `override` has the local manifest.csv of some datasets."""
        self.version = version
        self._manifests = manifests
        self._selection = selection
        self._override = dict(override or {})
        self._listings: dict[str, Listing] = {}
        self._failures: dict[str, tuple[float, Ego4DError]] = {}
        self._warned_of: frozenset[str] | None = None  # None: no warnings yet
        self._parsed: dict[str, tuple[bytes, Manifest]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()  # guards _locks

    def is_cached(self, dataset: str) -> bool:
        """Return whether the dataset can be listed without a request."""
        return dataset in self._override or self._manifests.is_cached(self.version, dataset)

    def peek(self, dataset: str) -> Listing | None:
        """Return the listing if it is loaded, without a request."""
        return self._listings.get(dataset)

    def cached(self, dataset: str) -> Listing | None:
        """Return the listing that is loaded, or that of the cached manifest, without a request.

        None if there is neither. A cached manifest may not be the newest.
        """
        listing = self._listings.get(dataset)
        if listing is not None or dataset in self._override:
            return listing
        cached = self._manifests.cached(self.version, dataset)
        if cached is None:
            return None
        try:
            manifest = parse(cached.content, f"{self.version}/{dataset}")
        except ManifestError:
            return None
        self._parsed[dataset] = (_digest(cached.content), manifest)
        listing = Listing(dataset, (), CompressedBytes(cached.content), cached.mtime_ns, manifest)
        return listing.selected(self._selection)

    def cached_manifest(self, dataset: str) -> CachedManifest | None:
        """Return the manifest that is on disk, byte for byte with its ETag, without a request."""
        return None if dataset in self._override else self._manifests.cached(self.version, dataset)

    def listing(self, dataset: str) -> Listing:
        """Return the listing of a dataset; load it first if it is not loaded.

        Raises StoreError if the manifest cannot be fetched, ManifestError if it is invalid, and
        ConfigError for a name that is no dataset, or a local manifest.csv that cannot be read.
        """
        listing = self._listings.get(dataset)
        if listing is not None:
            return listing
        with self._lock:
            lock = self._locks.setdefault(dataset, threading.Lock())
        with lock:
            listing = self._listings.get(dataset)
            if listing is None:
                self._raise_if_failed(dataset)
                listing = self._load(dataset)
                self._listings[dataset] = listing
            return listing

    def load(self, datasets: Iterable[str]) -> dict[str, Ego4DError]:
        """Load several datasets in parallel and return the error of each that failed."""
        names = list(datasets)
        outcomes = map_parallel(self._error_of, names, threads=_LOAD_THREADS, name="manifest")
        return {name: error for name, error in zip(names, outcomes, strict=True) if error}

    def unknown_uids(self, datasets: Iterable[str], uids: Iterable[str]) -> list[str]:
        """Return the uids that are in no row of these loaded datasets, sorted."""
        unknown = set(uids)
        for name in datasets if unknown else ():
            listing = self._listings.get(name)
            for entry in listing.manifest.entries if listing else ():
                unknown -= entry.uids
        return sorted(unknown)

    def warn_if_empty(self, *, except_for: Iterable[str]) -> None:
        """From now on, warn of each dataset that is loaded, has rows, and has none selected."""
        self._warned_of = frozenset(except_for)

    def selected(self, selection: Selection) -> Catalog:
        """Return the catalog of another selection, with the datasets that are loaded."""
        other = Catalog(self._manifests, self.version, selection, override=self._override)
        for name, listing in self._listings.items():
            other._listings[name] = listing.selected(selection)
            other._warn_if_unfiltered(listing.manifest)
        return other

    def _error_of(self, dataset: str) -> Ego4DError | None:
        try:
            self.listing(dataset)
        except Ego4DError as error:
            return error
        return None

    def _raise_if_failed(self, dataset: str) -> None:
        failed_at, error = self._failures.get(dataset, (0.0, None))
        if error is not None and time.monotonic() - failed_at < _FAILURE_KEPT_S:
            raise copy.copy(error)  # a stored error would grow a traceback with each raise

    def _load(self, dataset: str) -> Listing:
        try:
            cached = self._read(dataset)
            digest, manifest = self._parsed.pop(dataset, (b"", None))
            if manifest is None or digest != _digest(cached.content):
                manifest = parse(cached.content, f"{self.version}/{dataset}")
        except (StoreError, ManifestError, ConfigError) as error:
            self._failures[dataset] = (time.monotonic(), error)
            raise
        self._warn_of_problems(manifest)
        self._warn_if_unfiltered(manifest)
        listing = Listing(dataset, (), CompressedBytes(cached.content), cached.mtime_ns, manifest)
        listing = listing.selected(self._selection)
        rows, known = len(manifest.entries), self._warned_of
        if rows and not listing.entries and known is not None and dataset not in known:
            log.warning("0 of %d rows of %s match this selection", rows, dataset)
        return listing

    def _read(self, dataset: str) -> CachedManifest:
        path = self._override.get(dataset)
        if path is None:
            return self._manifests.fetch(self.version, dataset)
        try:
            return CachedManifest(path.read_bytes(), "", path.stat().st_mtime_ns)
        except OSError as error:
            raise ConfigError(
                f"--manifest-override-path {path}: {error.strerror}", hint="name a manifest.csv"
            ) from error

    def _warn_of_problems(self, manifest: Manifest) -> None:
        for problem in manifest.problems[:_MAX_PROBLEMS_LOGGED]:
            log.warning("%s", problem)
        rest = manifest.problem_count - _MAX_PROBLEMS_LOGGED
        if rest > 0:
            log.warning("manifest %s: %d more malformed rows", manifest.name, rest)

    def _warn_if_unfiltered(self, manifest: Manifest) -> None:
        if not self._selection.benchmarks or "benchmarks" in manifest.columns:
            return
        known = bool(self._selection.untagged_uids) and any(e.uids for e in manifest.entries)
        effect = (
            "filtered by those of its videos and clips" if known else "not filtered by benchmark"
        )
        log.warning("manifest %s has no benchmarks column: %s", manifest.name, effect)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
