"""The cache of manifests on disk, revalidated by ETag.

    <source directory>/manifests/<version>/<dataset>/manifest.csv    byte for byte
    <source directory>/manifests/<version>/<dataset>/manifest.json   etag, mtime_ns, digest, proof

With cached manifests a mount works offline, and after the licence key has expired. Therefore only
a valid manifest replaces a cached one, and a power failure leaves the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
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
    StoreUnavailable,
)
from ego4dfs.files import read_regular, write_atomic
from ego4dfs.manifest import check
from ego4dfs.runtime.range_locks import RangeLocks
from ego4dfs.store import Fetched, ObjectStore
from ego4dfs.store.etag import Proof, compare

log = logging.getLogger(__name__)

SHARING_BUCKET = "ego4d-consortium-sharing"

SHARED_S = 60.0
"""How long after the request of one process other processes may use its answer, if they share."""

_REPETITIONS = 2
_asked_here: dict[Path, tuple[int, int]] = {}  # process and time of its last answer, by path


def manifest_url(version: str, dataset: str) -> str:
    """Return the URL of the manifest of a dataset (as in the official tool, cli/manifest.py)."""
    return f"s3://{SHARING_BUCKET}/public/{version}/{dataset}/{datasets.MANIFEST}"


def metadata_url(version: str) -> str:
    """Return the URL of the primary metadata of a version, ego4d.json."""
    return f"s3://{SHARING_BUCKET}/public/{version}/{datasets.METADATA}"


@dataclass(frozen=True, slots=True)
class CachedManifest:
    """The bytes of one manifest.csv and the facts that came with them."""

    content: bytes
    etag: str
    mtime_ns: int

    @property
    def proof(self) -> Proof:
        """The result of a comparison of the bytes with the ETag."""
        content = memoryview(self.content)
        return compare(lambda: [content], len(content), self.etag).proof


class ManifestCache:
    """Fetches manifests and caches them on disk; uses the cached ones if the store fails.

    Safe from several threads and processes: files are replaced atomically.
    """

    def __init__(
        self,
        directory: Path,
        store: ObjectStore,
        beside_copies: Callable[[str, str], tuple[bytes, int] | None] | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """Cache them below `directory`.

        With `is_shared`, what another process has fetched or revalidated less than SHARED_S ago
        is used without a request: workers start one after the other, and need the same manifests.

        `beside_copies` returns content and mtime_ns of a manifest beside prefetched copies. That
        one is used if none is cached and the store does not answer.
        """
        self._directory = directory / "manifests"
        self._store = store
        self._beside_copies = beside_copies
        self._is_shared = is_shared
        self._lock_path = directory / "requests.lock"

    def is_cached(self, version: str, dataset: str) -> bool:
        """Return whether `cached` returns a manifest, without a request."""
        return self.cached(version, dataset) is not None

    def fetch(self, version: str, dataset: str) -> CachedManifest:
        """Return the newest manifest, revalidated by one conditional request.

        Processes that do so at the same moment share one request.
        If the store fails, returns the cached one. Without one, raises ConfigError or StoreError
        with the probable cause, or ManifestError for an answer that is not a manifest.
        """
        began_ns = time.time_ns()
        # Before the look at the disk: what is found then is at least as new as that answer.
        is_answered = self._is_answered(version, dataset, began_ns)
        cached = self._load(version, dataset)
        if cached is not None and is_answered:
            return cached
        try:
            return self._asked_once(version, dataset, cached, began_ns)
        except (StoreError, ManifestError) as error:
            cached = cached or self.cached(version, dataset)
            if cached is None and isinstance(error, StoreError):
                raise self._with_cause(error, version, dataset) from error
            if cached is None:
                raise
            reason = f"{error} ({error.hint})" if error.hint else str(error)
            log.warning("manifest of %s (%s): %s; the cached one is used", dataset, version, reason)
            return cached

    def revalidate(self, version: str, dataset: str) -> CachedManifest:
        """Return the manifest as `fetch` does, but raise if the store fails."""
        try:
            return self._revalidated(version, dataset, self._load(version, dataset))
        except StoreError as error:
            raise self._with_cause(error, version, dataset) from error

    def _asked_once(
        self, version: str, dataset: str, cached: CachedManifest | None, began_ns: int
    ) -> CachedManifest:
        """Return the manifest that another process has received meanwhile, or revalidate it."""
        locks = RangeLocks(self._lock_path)
        try:
            with locks.held(manifest_url(version, dataset)):
                if self._is_answered(version, dataset, began_ns):
                    received = self._load(version, dataset)
                    if received is not None:
                        return received
                return self._revalidated(version, dataset, cached)
        finally:
            locks.close()

    def _is_answered(self, version: str, dataset: str, began_ns: int) -> bool:
        """Return whether the store needs not be asked, as it has answered another process.

        It has since `began_ns`, or less than SHARED_S ago if processes share its answers.
        """
        path, now_ns = self._paths(version, dataset)[0], time.time_ns()
        asked_ns = _asked_at_ns(path)
        if not self._is_shared or _asked_here.get(path) == (os.getpid(), asked_ns):
            return began_ns <= asked_ns <= now_ns
        return 0 <= now_ns - asked_ns < SHARED_S * 1e9

    def _revalidated(
        self, version: str, dataset: str, cached: CachedManifest | None
    ) -> CachedManifest:
        url = manifest_url(version, dataset)
        fetched = self._read(url, cached, self._paths(version, dataset)[0].parent)
        if fetched is None and cached is not None:
            _note_answer(self._paths(version, dataset)[0])
            return cached
        if fetched is None:
            raise StoreError(f"manifest of {dataset} ({version}): no answer", url=url)
        manifest = CachedManifest(bytes(fetched.data), fetched.facts.etag, fetched.facts.mtime_ns)
        check(manifest.content, f"{version}/{dataset}")
        if self._write(version, dataset, manifest, cached):
            _note_answer(self._paths(version, dataset)[0])
        return manifest

    def _read(self, url: str, cached: CachedManifest | None, directory: Path) -> Fetched | None:
        """Fetch a manifest unless it is the cached one; repeat it if it disagrees with its ETag.

        Bytes that were changed in transit would be cached, and their ETag be confirmed for ever.
        In buckets whose ETags are not MD5s each answer disagrees in the same way, and is accepted,
        unless the manifest cached in `directory` proves that they are MD5s: a proxy that changes
        each answer looks the same, and its rows must not replace proven ones. The hint of the error
        then says how to accept the answers, if the encryption of the bucket was changed to SSE-KMS.
        Raises StoreError.
        """
        fetched = self._store.read(url, unless_etag=cached.etag if cached else "")
        if fetched is None or not _is_wrong(fetched.data, fetched.facts.etag):
            return fetched
        log.warning("%s disagrees with its ETag; it is fetched again", url)
        is_md5_bucket = cached is not None and cached.proof is Proof.RIGHT
        for _ in range(_REPETITIONS):
            self._store.renew(url)
            before, fetched = fetched, self._store.read(url)
            if fetched is None or not _is_wrong(fetched.data, fetched.facts.etag):
                return fetched
            if fetched.data == before.data and not is_md5_bucket:
                return fetched
        raise StoreUnavailable(
            f"{url}: what the store sends disagrees with its ETag",
            url=url,
            hint="a proxy may change it; if the bucket now uses SSE-KMS or SSE-C, its ETags are no"
            f" MD5s: then remove {directory}"
            if is_md5_bucket
            else "a proxy or the network may change it: try another network",
        )

    def cached(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the cached manifest, or one beside copies, without a request."""
        cached = self._load(version, dataset)
        if cached is not None or self._beside_copies is None:
            return cached
        found = self._beside_copies(version, dataset)
        return CachedManifest(found[0], "", found[1]) if found is not None else None

    def add(self, version: str, dataset: str, manifest: CachedManifest) -> bool:
        """Cache a manifest that another machine has fetched, unless the cached one is as new.

        Returns whether it is cached now. It is revalidated at its first use as all are, so an ETag
        that its bytes do not prove must be empty. Raises OSError.
        """
        cached = self._load(version, dataset)
        if cached is not None and cached.mtime_ns >= manifest.mtime_ns:
            return False
        self._replace(version, dataset, manifest, cached)
        os.utime(self._paths(version, dataset)[0], (0, 0))  # the store was not asked
        return True

    def _paths(self, version: str, dataset: str) -> tuple[Path, Path]:
        directory = self._directory / version / dataset
        return directory / datasets.MANIFEST, directory / "manifest.json"

    def _load(self, version: str, dataset: str) -> CachedManifest | None:
        """Return the manifest on disk; None if it is missing, damaged or unreadable."""
        content_path, facts_path = self._paths(version, dataset)
        try:
            facts = json.loads(read_regular(facts_path)[0])
            content, _ = read_regular(content_path)
            digest = _digest(content)
            for known in (facts, facts.get("before") or {}):
                if known.get("digest") == digest and _is_unchanged(known):
                    check(content, f"{version}/{dataset}")
                    return CachedManifest(content, str(known["etag"]), int(known["mtime_ns"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cached manifest %s cannot be read: %s", content_path, error.strerror)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ManifestError):
            log.warning("cached manifest %s is damaged and not used", content_path)
        return None

    def _write(
        self, version: str, dataset: str, manifest: CachedManifest, before: CachedManifest | None
    ) -> bool:
        try:
            self._replace(version, dataset, manifest, before)
        except OSError as error:
            log.warning("manifest of %s cannot be cached: %s", dataset, error)
            return False
        return True

    def _replace(
        self, version: str, dataset: str, manifest: CachedManifest, before: CachedManifest | None
    ) -> None:
        """Replace the manifest on disk; until that is done, the facts describe the old one too.

        Raises OSError.
        """
        content_path, facts_path = self._paths(version, dataset)
        facts = _facts(manifest)
        content_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        both = {**facts, "before": _facts(before)} if before else facts
        write_atomic(facts_path, json.dumps(both).encode())
        write_atomic(content_path, manifest.content)

    def _with_cause(
        self, error: StoreError, version: str, dataset: str
    ) -> StoreError | ConfigError:
        """Return an error that names the cause of a refusal: a typo, the key, or the dataset."""
        if isinstance(error, CredentialsRejected) or not isinstance(
            error, (AccessDenied, ObjectMissing)
        ):
            return error
        url = manifest_url(version, dataset)
        if isinstance(error, AccessDenied) and self._refuses_all(version):
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

    def _refuses_all(self, version: str) -> bool:
        try:
            self._store.head(metadata_url(version))
        except AccessDenied:
            return True
        except StoreError:
            return False
        return False


def _note_answer(path: Path) -> None:
    """Record in the time of a manifest that the store has answered now."""
    now_ns = time.time_ns() // 1000 * 1000  # filesystems may round it
    with suppress(OSError):
        os.utime(path, ns=(now_ns, now_ns))
        _asked_here[path] = os.getpid(), path.stat().st_mtime_ns


def _asked_at_ns(path: Path) -> int:
    """Return when a process has last got an answer of the store; 0 if that is unknown."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_wrong(content: memoryview, etag: str) -> bool:
    """Return whether bytes disagree with an ETag of the form of an MD5."""
    return compare(lambda: [content], len(content), etag).proof is Proof.WRONG


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
    written = json.dumps([facts["etag"], facts["mtime_ns"], facts["digest"]])
    return _digest(written.encode())


def _is_unchanged(facts: dict[str, Any]) -> bool:
    """Return whether the facts are unchanged since they were written; old ones have no checksum."""
    return "proof" not in facts or facts["proof"] == _proof(facts)
