"""Checks of the network, the key, and the manifest of each dataset.

They run in the order of their dependencies. A check that can no longer succeed is left out, so
without a network the report is complete within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ego4dfs import datasets
from ego4dfs.cache import prepare_directory, source_directory
from ego4dfs.catalog import SHARING_BUCKET, ManifestCache, metadata_url
from ego4dfs.config import Config
from ego4dfs.copies import Copies
from ego4dfs.doctor.checks import Check, Level, TimedCall, run_all
from ego4dfs.errors import (
    AccessDenied,
    CacheError,
    ConfigError,
    CredentialsRejected,
    Ego4DError,
    StoreUnavailable,
)
from ego4dfs.manifest import parse
from ego4dfs.metrics import Metrics
from ego4dfs.session import open_configured_store
from ego4dfs.store import ObjectStore, clock
from ego4dfs.store.diagnose import configured_region, key_origin, reach
from ego4dfs.vfs import open_selected_session

_AWS = "s3.amazonaws.com"
_STEP_S = 15.0
_MANIFESTS_S = 30.0


def check_remote(config: Config) -> Iterator[Check]:
    """Check network, region, credentials, licence, datasets and selection."""
    store = open_configured_store(config, Metrics())
    with ExitStack() as stack:
        stack.callback(store.close)
        try:
            directory = source_directory(prepare_directory(config.cache_dir), store.source)
        except CacheError:  # reported already; the rest can be checked without it
            directory = Path(stack.enter_context(TemporaryDirectory()))
        copies = None
        if config.copies:
            try:
                copies = Copies(config.copies, store.source, lambda _: None)
                stack.callback(copies.close)
            except ConfigError as error:
                yield Check.failed("copies", error)
        manifests = ManifestCache(directory, store, copies.manifest if copies else None)
        yield from _check(config, store, manifests)


def _check(config: Config, store: ObjectStore, manifests: ManifestCache) -> Iterator[Check]:
    usable = True
    if not config.source:
        for check in (
            *_network(store.source, config.aws_profile_name),
            _region(config),
            _credentials(config),
        ):
            usable = usable and check.level is not Level.FAIL
            yield check
    if not usable:
        yield from _cached_datasets(config, manifests)
        return
    licence = _licence(config, store)
    yield licence
    if isinstance(licence.error, (CredentialsRejected, StoreUnavailable)):
        yield from _cached_datasets(config, manifests)
        return
    checks = list(_datasets(config, manifests))
    yield from checks
    if not any(check.level is Level.FAIL for check in checks):
        yield from _selection(config)


def _network(source: str, profile: str) -> Iterator[Check]:
    endpoint = "" if source == _AWS else source
    try:
        reached = TimedCall(lambda: reach(endpoint, SHARING_BUCKET, profile)).result(_STEP_S)
    except Ego4DError as error:
        yield Check.failed("network", error)
        return
    where = f"; the bucket is in {reached.region}" if reached.region else ""
    yield Check("network", Level.OK, f"{source} answers{where}")
    if reached.ahead_s is not None:
        yield _clock(reached.ahead_s)


def _clock(ahead_s: float) -> Check:
    if abs(ahead_s) < clock.ALLOWED_S:
        found = "right to the minute" if abs(ahead_s) < 60 else clock.skew_text(ahead_s)
        return Check("clock", Level.OK, found)
    # Not every store refuses requests for it: the check of the licence decides.
    return Check("clock", Level.WARN, clock.skew_text(ahead_s), clock.HINT)


def _region(config: Config) -> Check:
    try:
        region = configured_region(config.aws_profile_name)
    except Ego4DError as error:
        return Check.failed("region", error, Level.WARN)
    return Check("region", Level.OK, region or "found for each bucket")


def _credentials(config: Config) -> Check:
    try:
        origin = TimedCall(lambda: key_origin(config.aws_profile_name)).result(_STEP_S)
    except Ego4DError as error:
        return Check.failed("credentials", error)
    return Check("credentials", Level.OK, f"a key from {origin}")


def _licence(config: Config, store: ObjectStore) -> Check:
    url = metadata_url(config.version)
    try:
        TimedCall(lambda: store.head(url)).result(_STEP_S)
    except CredentialsRejected as error:
        return Check.failed("licence", error)
    except AccessDenied as error:
        # Some releases refuse ego4d.json but no manifest: the checks of the datasets decide.
        return replace(Check.failed("licence", error, Level.WARN), remedy="see the datasets below")
    except Ego4DError as error:
        return Check.failed("licence", error)
    return Check("licence", Level.OK, f"Ego4D {config.version} can be read")


def _datasets(config: Config, manifests: ManifestCache) -> Iterator[Check]:
    names = config.datasets or datasets.known_names()
    found = run_all(
        {name: partial(_manifest, config.version, manifests, name) for name in names},
        _MANIFESTS_S,
    )
    refused = [o for o in found.values() if isinstance(o, CredentialsRejected)]
    if len(refused) == len(found):  # it is due to the key, not to a dataset
        yield Check.failed("datasets", refused[0])
        return
    for name, outcome in found.items():
        if isinstance(outcome, str):
            yield Check(name, Level.OK, outcome)
        else:
            # Without --datasets all are checked, and some of those are not published.
            is_optional = isinstance(outcome, AccessDenied) and not config.datasets
            yield Check.failed(name, outcome, Level.WARN if is_optional else Level.FAIL)


def _manifest(version: str, manifests: ManifestCache, name: str) -> str:
    cached = manifests.revalidate(version, name)
    manifest = parse(cached.content, f"{version}/{name}")
    malformed = f", {manifest.problem_count} malformed rows" if manifest.problem_count else ""
    return f"{len(manifest.entries)} files{malformed}"


def _cached_datasets(config: Config, manifests: ManifestCache) -> Iterator[Check]:
    """Report which datasets can be used without the store: those with a cached manifest."""
    names = config.datasets or datasets.known_names()
    cached = [name for name in names if manifests.is_cached(config.version, name)]
    remedy = "fix the failed checks above first"
    if cached:
        found = f"not checked; usable with their cached manifests: {', '.join(cached)}"
        yield Check("datasets", Level.WARN, found, remedy)
    else:
        yield Check("datasets", Level.WARN, "not checked, and no manifest is cached", remedy)


def _selection(config: Config) -> Iterator[Check]:
    if not config.is_filtered:
        return
    try:
        session = open_selected_session(config)
    except Ego4DError as error:
        yield Check.failed("selection", error)
        return
    try:
        names = config.datasets or datasets.known_names()
        failed = session.catalog.load(names)
        listings = [session.catalog.listing(name) for name in names if name not in failed]
    finally:
        session.close()
    selected = sum(len(listing.entries) for listing in listings)
    total = sum(len(listing.manifest.entries) for listing in listings)
    remedy = "" if selected else "check --version and the filters: no file matches all of them"
    level = Level.OK if selected else Level.WARN
    yield Check("selection", level, f"{selected} of {total} files", remedy)
