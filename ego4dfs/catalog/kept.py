"""Manifests as they came from the store, kept on disk and revalidated by ETag.

    <source directory>/manifests/<version>/<dataset>/manifest.csv    byte for byte
    <source directory>/manifests/<version>/<dataset>/manifest.json   etag, mtime_ns, digest

A kept copy is what makes a mount work offline and after the licence key has expired.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.errors import (
    AccessDenied,
    CacheError,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
)
from ego4dfs.store import Fetched, ObjectStore

log = logging.getLogger(__name__)

SHARING_BUCKET = "ego4d-consortium-sharing"


def manifest_url(version: str, dataset: str) -> str:
    """Return where the manifest of a dataset lives (official tool, cli/manifest.py)."""
    return f"s3://{SHARING_BUCKET}/public/{version}/{dataset}/manifest.csv"


def metadata_url(version: str) -> str:
    """Return where the primary metadata, ego4d.json, of a version lives."""
    return f"s3://{SHARING_BUCKET}/public/{version}/ego4d.json"


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """The bytes of one manifest.csv and the facts that came with them."""

    content: bytes
    etag: str
    mtime_ns: int


class KeptManifests:
    """Fetch manifests, keep them, and serve the kept ones when the store cannot.

    Safe from several threads and processes: a file appears under its name only when complete.
    """

    def __init__(
        self,
        directory: Path,
        store: ObjectStore,
        left: Callable[[str, str], tuple[bytes, int] | None] = lambda _version, _dataset: None,
    ) -> None:
        """Keep them below `directory`.

        `left` tells content and mtime_ns of a manifest that lies beside copies: it is made do
        with where there is neither a kept one nor an answer.
        """
        self._directory = directory / "manifests"
        self._store = store
        self._left = left

    def is_kept(self, version: str, dataset: str) -> bool:
        """Tell whether a copy is on disk, without a request."""
        return self._at_hand(version, dataset) is not None

    def fetch(self, version: str, dataset: str) -> KeptManifest:
        """Return the newest manifest that can be had, revalidated by one conditional request.

        Raises StoreError, with the likely cause in words, when there is neither a copy nor an
        answer.
        """
        kept = self._load(version, dataset)
        try:
            return self._ask(version, dataset, kept)
        except StoreError as error:
            kept = kept or self._at_hand(version, dataset)
            if kept is None:
                raise self._explained(error, version, dataset) from error
            log.warning("manifest of %s (%s): %s; the kept copy is used", dataset, version, error)
            return kept

    def revalidate(self, version: str, dataset: str) -> KeptManifest:
        """Return the manifest as `fetch` does, but raise where it would make do with a copy."""
        try:
            return self._ask(version, dataset, self._load(version, dataset))
        except StoreError as error:
            raise self._explained(error, version, dataset) from error

    def _ask(self, version: str, dataset: str, kept: KeptManifest | None) -> KeptManifest:
        url = manifest_url(version, dataset)
        fetched = self._store.read(url, unless_etag=kept.etag if kept else "")
        if fetched is None and kept is not None:
            return kept
        if fetched is None:
            raise StoreError(f"manifest of {dataset} ({version}): no answer", url=url)
        return self._keep(version, dataset, fetched)

    def _at_hand(self, version: str, dataset: str) -> KeptManifest | None:
        kept = self._load(version, dataset)
        left = self._left(version, dataset) if kept is None else None
        return KeptManifest(left[0], "", left[1]) if left is not None else kept

    def _paths(self, version: str, dataset: str) -> tuple[Path, Path]:
        directory = self._directory / version / dataset
        return directory / "manifest.csv", directory / "manifest.json"

    def _load(self, version: str, dataset: str) -> KeptManifest | None:
        content_path, facts_path = self._paths(version, dataset)
        try:
            facts = json.loads(facts_path.read_bytes())
            content = content_path.read_bytes()
            if _digest(content) != facts["digest"]:
                return None  # damaged, or a crash between the two renames; fetched anew
            return KeptManifest(content, facts["etag"], facts["mtime_ns"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            raise CacheError(f"kept manifest {content_path}: {error.strerror}") from error

    def _keep(self, version: str, dataset: str, fetched: Fetched) -> KeptManifest:
        manifest = KeptManifest(bytes(fetched.data), fetched.facts.etag, fetched.facts.mtime_ns)
        content_path, facts_path = self._paths(version, dataset)
        facts = {
            "etag": manifest.etag,
            "mtime_ns": manifest.mtime_ns,
            "digest": _digest(manifest.content),
        }
        try:
            content_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_whole(content_path, manifest.content)
            _write_whole(facts_path, json.dumps(facts).encode())
        except OSError as error:
            log.warning("manifest of %s cannot be kept: %s", dataset, error)
        return manifest

    def _explained(self, error: StoreError, version: str, dataset: str) -> StoreError:
        """Say which of the causes of a refusal it is: a typo, the key, or the dataset."""
        if isinstance(error, CredentialsRejected) or not isinstance(
            error, (AccessDenied, ObjectMissing)
        ):
            return error
        url = manifest_url(version, dataset)
        if dataset not in datasets.known_names():
            meant = datasets.suggest(dataset)
            advice = f"did you mean {meant}?" if meant else "--list-datasets prints the names"
            hint = "`ego4dfs ls --list-datasets` prints all names" if meant else ""
            message = f"there is no dataset {dataset!r} in {version}: {advice}"
            return AccessDenied(message, url=url, hint=hint)
        if isinstance(error, AccessDenied) and self._refuses_everything(version):
            return CredentialsRejected(
                f"this AWS key may not read Ego4D {version}: even its ego4d.json is refused"
                if version in datasets.VERSIONS
                else f"there is no Ego4D {version}, or this AWS key may not read it",
                url=url,
                hint="is it the key from your Ego4D e-mail? name its profile with"
                " --aws_profile_name; if it is older than 14 days, sign the licence again",
            )
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


def _write_whole(path: Path, content: bytes) -> None:
    writer = f"{os.getpid()}.{threading.get_native_id()}"
    partial = path.with_name(f".{path.name}.{writer}.part")
    partial.write_bytes(content)
    partial.replace(path)
