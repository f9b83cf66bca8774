"""Session: store, catalog, block cache, facts, reader, metrics and copies, opened from a Config."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from ego4dfs.cache import CLOSE_WAIT_S, BlockCache, prepare_directory, source_directory
from ego4dfs.catalog import Catalog, ManifestCache, Selection
from ego4dfs.config import Config
from ego4dfs.copies import Copies
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.near import NearLimits, NearStore, NearTier
from ego4dfs.reader import BackgroundVerifier, Hedging, Reader
from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.runtime.deadline import CLOSE_S, Deadline
from ego4dfs.store import ObjectStore, StoreLimits, check_profile, open_store
from ego4dfs.store.bucket import Bucket

log = logging.getLogger(__name__)

_DISK_S = CLOSE_S * 0.9  # the cache's writer has ended by then, or reports the blocks that it lost


@dataclass(frozen=True, slots=True)
class Session:
    """The parts that a mount, a filesystem or a command works with, each opened once.

    Safe from several threads, as all its parts are. `open_session` makes one from a Config.
    """

    store: ObjectStore
    catalog: Catalog
    cache: BlockCache
    facts: FactsIndex
    reader: Reader
    metrics: Metrics
    copies: Copies | None = None
    """Prefetched copies to read from before cache and store."""

    def with_selection(self, selection: Selection) -> Session:
        """Return the same parts with the catalog of a selection; close only one of the two."""
        return replace(self, catalog=self.catalog.selected(selection))

    def close(self) -> None:
        """Finish running requests and writes, and close all parts, within CLOSE_S seconds."""
        try:
            call_with_timeout(CLOSE_S, partial(self._close, Deadline.after(_DISK_S)), name="close")
        except CallTimeout:
            log.warning("not closed within %.0f s; what was not written yet is lost", CLOSE_S)

    def _close(self, disk: Deadline) -> None:
        self.store.close()  # first: it ends the waits between attempts of a request
        self.facts.close()
        self.reader.close()
        if self.copies is not None:
            self.copies.close()
        self.cache.close(max(CLOSE_WAIT_S, disk.remaining_s))  # with the time that is left


def open_configured_store(config: Config, metrics: Metrics) -> ObjectStore:
    """Open the store that a Config describes, without a request. Raises ConfigError."""
    if config.emulate:
        log.warning("the store is emulated as slower and less reliable: %s", config.emulate)
    return open_store(
        source=config.source,
        endpoint_url=config.endpoint_url,
        profile=config.aws_profile_name,
        transport=config.transport,
        emulation=config.emulate,
        limits=StoreLimits(
            bytes_per_s=config.limit_rate_bytes_per_s,
            requests_per_s=config.limit_requests_per_s,
        ),
        metrics=metrics,
    )


def _hedging(config: Config, metrics: Metrics) -> Hedging | None:
    """Return when late requests are sent again; None where a second one would not be faster.

    It would wait for the same limit, or for the same transfer from or to a near tier, which has
    answers of its own for requests that are late.
    """
    is_limited = config.limit_rate_bytes_per_s or config.limit_requests_per_s
    return None if config.hedge == "off" or is_limited or config.near else Hedging(metrics)


def open_near_tier(config: Config, metrics: Metrics, limits: NearLimits | None = None) -> NearTier:
    """Open the near tier that a Config names, without a request. Raises ConfigError."""
    check_profile(config.near_profile)
    bucket = Bucket(config.near, endpoint_url=config.near_endpoint, profile=config.near_profile)
    return NearTier(bucket, metrics, limits)


def open_session(
    config: Config, *, store: ObjectStore | None = None, share_manifests: bool = False
) -> Session:
    """Open the parts that a Config describes, with an unfiltered catalog, without a request.

    `store` is used in place of the one that the Config describes. For `share_manifests` see
    ManifestCache. Raises Ego4DError; then every
    part that was opened is closed again.
    """
    metrics = Metrics()
    with ExitStack() as opened:
        store = store or _checked_store(config, metrics)
        opened.callback(store.close)
        inner = prepare_directory(config.cache_dir)
        directory = source_directory(inner, store.source)
        copies = None
        if config.copies:
            copies = Copies(config.copies, store.source, metrics.add_error)
            opened.callback(copies.close)
        cache = BlockCache(
            inner, metrics, max_bytes=config.cache_max_bytes, eviction=config.eviction
        )
        opened.callback(cache.close)
        shared = store.shared if isinstance(store, NearStore) else None
        facts = FactsIndex(directory, store, shared)
        opened.callback(facts.close)
        verifier = None
        if config.verify == "auto":
            verifier = BackgroundVerifier(cache, metrics, store.renew)
        reader = Reader(store, cache, metrics, verifier, facts.confirm, _hedging(config, metrics))
        opened.callback(reader.close)
        manifests = ManifestCache(
            directory, store, copies.manifest if copies else None, is_shared=share_manifests
        )
        session = Session(store, _catalog(config, manifests), cache, facts, reader, metrics, copies)
        opened.pop_all()  # the session closes them from now on
    return session


def _checked_store(config: Config, metrics: Metrics) -> ObjectStore:
    if not config.source:
        check_profile(config.aws_profile_name)  # cached manifests would hide a wrong name
    store = open_configured_store(config, metrics)
    if not config.near:
        return store
    return NearStore(store, open_near_tier(config, metrics), fills=config.fill_near)


def _catalog(config: Config, manifests: ManifestCache) -> Catalog:
    override = {}
    if config.manifest_override_path is not None:
        override[config.datasets[0]] = config.manifest_override_path
    return Catalog(manifests, config.version, Selection(), override=override)
