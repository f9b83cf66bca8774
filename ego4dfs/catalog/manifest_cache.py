"""Manifests as they came from the store, kept on disk and revalidated by ETag.

    <source directory>/manifests/<version>/<dataset>/manifest.csv    byte for byte
    <source directory>/manifests/<version>/<dataset>/manifest.json   etag, mtime_ns, digest, proof

A kept copy is what makes a mount work offline and after the licence key has expired. So only an
answer that is a manifest takes its place, and a power cut leaves the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego4dfs import datasets
from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRejected,
    ManifestError,
    ObjectMissing,
    StoreError,
)
from ego4dfs.files import write_atomic
from ego4dfs.manifest import check
from ego4dfs.store import ObjectStore

log = logging.getLogger(__name__)

SHARING_BUCKET = "ego4d-consortium-sharing"


def manifest_url(version: str, dataset: str) -> str:
    """Return where the manifest of a dataset lives (official tool, cli/manifest.py)."""
    return f"s3://{SHARING_BUCKET}/public/{version}/{dataset}/{datasets.MANIFEST}"


def metadata_url(version: str) -> str:
    """Return where the primary metadata, ego4d.json, of a version lives."""
    return f"s3://{SHARING_BUCKET}/public/{version}/{datasets.METADATA}"


@dataclass(frozen=True, slots=True)
class CachedManifest:
    """The bytes of one manifest.csv and the facts that came with them."""

    content: bytes
    etag: str
    mtime_ns: int


class ManifestCache:
    """Fetch manifests, keep them, and serve the kept ones when the store cannot.

    Safe from several threads and processes: a file appears under its name only when complete.
    """

    def __init__(
        self,
        directory: Path,
        store: ObjectStore,
        beside_copies: Callable[[str, str], tuple[bytes, int] | None] | None = None,
    ) -> None:
        """Cache them below `directory`.

        `beside_copies` returns content and mtime_ns of a manifest beside prefetched copies. It is
        used if there is neither a cached one nor an answer of the store.
        """
        self._directory = directory / "manifests"
        self._store = store
        self._beside_copies = beside_copies

    def is_cached(self, version: str, dataset: str) -> bool:
        """Tell whether a copy is on disk, without a request."""
        return self.cached(version, dataset) is not None

    def fetch(self, version: str, dataset: str) -> CachedManifest:
        """Return the newest manifest that can be had, revalidated by one conditional request.

        Raises StoreError, with the likely cause in words, or ManifestError for an answer that is
        no manifest, when there is no copy either.
        """
        kept = self._load(version, dataset)
        try:
            return self._ask(version, dataset, kept)
        except (StoreError, ManifestError) as error:
            kept = kept or self.cached(version, dataset)
            if kept is None and isinstance(error, StoreError):
                raise self._explained(error, version, dataset) from error
            if kept is None:
                raise
            log.warning("manifest of %s (%s): %s; the kept copy is used", dataset, version, error)
            return kept

    def revalidate(self, version: str, dataset: str) -> CachedManifest:
        """Return the manifest as `fetch` does, but raise where it would make do with a copy."""
        try:
            return self._ask(version, dataset, self._load(version, dataset))
        except StoreError as error:
            raise self._explained(error, version, dataset) from error

    def _ask(self, version: str, dataset: str, kept: CachedManifest | None) -> CachedManifest:
        url = manifest_url(version, dataset)
        fetched = self._store.read(url, unless_etag=kept.etag if kept else "")
        if fetched is None and kept is not None:
            return kept
        if fetched is None:
            raise StoreError(f"manifest of {dataset} ({version}): no answer", url=url)
        manifest = CachedManifest(bytes(fetched.data), fetched.facts.etag, fetched.facts.mtime_ns)
        check(manifest.content, f"{version}/{dataset}")
        self._keep(version, dataset, manifest, kept)
        return manifest

    def cached(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the cached manifest, or one beside copies, without a request."""
        cached = self._load(version, dataset)
        if cached is not None or self._beside_copies is None:
            return cached
        found = self._beside_copies(version, dataset)
        return CachedManifest(found[0], "", found[1]) if found is not None else None

    def _paths(self, version: str, dataset: str) -> tuple[Path, Path]:
        directory = self._directory / version / dataset
        return directory / datasets.MANIFEST, directory / "manifest.json"

    def _load(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the copy on disk; None where it is damaged, unreadable, or no manifest."""
        content_path, facts_path = self._paths(version, dataset)
        try:
            facts = json.loads(facts_path.read_bytes())
            content = content_path.read_bytes()
            digest = _digest(content)
            for of_one in (facts, facts.get("before") or {}):
                if of_one.get("digest") == digest and _is_proved(of_one):
                    check(content, f"{version}/{dataset}")
                    return CachedManifest(content, str(of_one["etag"]), int(of_one["mtime_ns"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("kept manifest %s cannot be read: %s", content_path, error.strerror)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ManifestError):
            log.warning("kept manifest %s is damaged and not used", content_path)
        return None

    def _keep(
        self, version: str, dataset: str, manifest: CachedManifest, before: CachedManifest | None
    ) -> None:
        """Replace the copy on disk; until it is there, the facts describe the old one, too."""
        content_path, facts_path = self._paths(version, dataset)
        facts = _facts(manifest)
        try:
            content_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            both = {**facts, "before": _facts(before)} if before else facts
            write_atomic(facts_path, json.dumps(both).encode())
            write_atomic(content_path, manifest.content)
        except OSError as error:
            log.warning("manifest of %s cannot be kept: %s", dataset, error)

    def _explained(self, error: StoreError, version: str, dataset: str) -> StoreError | ConfigError:
        """Say which of the causes of a refusal it is: a typo, the key, or the dataset."""
        if isinstance(error, CredentialsRejected) or not isinstance(
            error, (AccessDenied, ObjectMissing)
        ):
            return error
        url = manifest_url(version, dataset)
        if isinstance(error, AccessDenied) and self._refuses_everything(version):
            return CredentialsRejected(
                f"this AWS key may not read Ego4D {version}: even its ego4d.json is refused"
                if version in datasets.VERSIONS
                else f"there is no Ego4D {version}, or this AWS key may not read it",
                url=url,
                hint="is it the key from your Ego4D e-mail? name its profile with"
                " --aws_profile_name; if it is older than 14 days, sign the licence again",
            )
        if dataset not in datasets.known_names():
            meant = datasets.suggest(dataset)
            advice = f"did you mean {meant}?" if meant else "--list-datasets prints the names"
            hint = "`ego4dfs ls --list-datasets` prints all names" if meant else ""
            message = f"there is no dataset {dataset!r} in {version}: {advice}"
            return ConfigError(message, hint=hint)
        return AccessDenied(
            f"dataset {dataset} is refused in {version}, though the key works for others",
            url=url,
            hint="it is announced but not published, or not part of your licence;"
            " another --version may have it",
        )

    def _refuses_everything(self, version: str) -> bool:
        try:
            self._store.head(metadata_url(version))
        except AccessDenied:
            return True
        except StoreError:
            return False
        return False


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _facts(manifest: CachedManifest) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "etag": manifest.etag,
        "mtime_ns": manifest.mtime_ns,
        "digest": _digest(manifest.content),
    }
    return {**facts, "proof": _proof(facts)}


def _proof(facts: dict[str, Any]) -> str:
    told = json.dumps([facts["etag"], facts["mtime_ns"], facts["digest"]])
    return _digest(told.encode())


def _is_proved(facts: dict[str, Any]) -> bool:
    """Tell whether the facts are as they were written; earlier versions wrote no proof."""
    return "proof" not in facts or facts["proof"] == _proof(facts)
