"""From a Config to a VFS: which parts there are, and which manifests must be there at once."""

from __future__ import annotations

import logging

from ego4dfs import datasets
from ego4dfs.cache import BlockCache, prepare_directory, source_directory
from ego4dfs.catalog import Catalog, KeptManifests, Selection, metadata_url
from ego4dfs.config import Config
from ego4dfs.errors import (
    ConfigError,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.store import ObjectStore, check_profile, open_store
from ego4dfs.tree import Tree
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)

_PROBE = "annotations"  # small, and the official tool's default
_TOP_MANIFEST = "full_scale"  # the official tool's DATASET_PRIMARY
_UIDS_SHOWN = 5


def open_vfs(config: Config) -> VFS:
    """Make the VFS that a Config describes.

    Datasets that were named are loaded here, so that a wrong name or key is told at once; those
    that merely are known are loaded when they are first entered. Raises Ego4DError.
    """
    if not config.source:
        check_profile(config.aws_profile_name)  # kept manifests would hide a wrong name for long
    metrics = Metrics()
    store = open_store(
        source=config.source,
        endpoint_url=config.endpoint_url,
        profile=config.aws_profile_name,
        transport=config.transport,
        metrics=metrics,
    )
    inner = prepare_directory(config.cache_dir)
    directory = source_directory(inner, store.source)
    names = config.datasets or datasets.known_names()
    catalog = _catalog(config, KeptManifests(directory, store), names)
    tree = Tree.of(
        datasets.version_directory(config.version),
        names,
        metadata_url=metadata_url(config.version) if config.metadata else "",
        top_manifest=_TOP_MANIFEST if config.manifest else "",
    )
    cache = BlockCache(inner, metrics, max_bytes=config.cache_max_bytes)
    facts = FactsIndex(directory, store)
    reader = Reader(store, cache, metrics)
    vfs = VFS(tree, catalog, facts, reader, store=store, cache=cache, metrics=metrics)
    try:
        _load_what_must_be_there(catalog, config, names, store)
    except BaseException:
        vfs.close()
        raise
    return vfs


def _catalog(config: Config, manifests: KeptManifests, names: tuple[str, ...]) -> Catalog:
    override = config.manifest_override_path
    return Catalog(
        manifests,
        config.version,
        Selection.of(
            benchmarks=config.benchmarks,
            universities=config.universities,
            video_uids=config.video_uids,
            annotations=config.annotations,
        ),
        override={names[0]: override} if override else {},
    )


def _load_what_must_be_there(
    catalog: Catalog, config: Config, names: tuple[str, ...], store: ObjectStore
) -> None:
    if config.video_uids:
        wanted = names
    elif config.datasets:
        wanted = tuple(name for name in names if not catalog.is_kept(name))
    else:
        wanted = () if _is_any_kept(catalog, names) else (_PROBE,)
    failed = catalog.load(wanted)
    for error in failed.values():
        if isinstance(error, StoreUnavailable):
            raise _unreachable(error, store.source, config.version) from error
    if failed and len(failed) == len(wanted) and not _is_any_kept(catalog, names):
        _check_version(config.version, store)
    for name, error in failed.items():
        # Of datasets that nobody named some may be refused; but no key is no mount.
        if name in config.datasets or isinstance(error, (CredentialsRejected, ConfigError)):
            raise error
    unknown = catalog.unknown_uids(names)
    if unknown:
        _tell_unknown(unknown, config)


def _is_any_kept(catalog: Catalog, names: tuple[str, ...]) -> bool:
    return any(catalog.is_kept(name) for name in names)


def _check_version(version: str, store: ObjectStore) -> None:
    """Refuse a version that nothing tells of: not known here, nor to the store."""
    if version in datasets.VERSIONS:
        return
    try:
        store.head(metadata_url(version))
    except ObjectMissing as error:
        raise ConfigError(
            f"there is no version {version} at {store.source}: neither manifests nor ego4d.json",
            hint=f"--version is one of {', '.join(datasets.VERSIONS)}, or a newer one of Ego4D's",
        ) from error
    except StoreError:
        return  # the manifests' own errors say more


def _unreachable(error: StoreUnavailable, source: str, version: str) -> StoreUnavailable:
    reason = str(error).removeprefix(f"{error.url}: ")
    return StoreUnavailable(
        f"{source}: {reason}, and no manifest of {version} is kept from before",
        url=error.url,
        hint=error.hint or "check the network and --endpoint-url (AWS_ENDPOINT_URL) or --source",
    )


def _tell_unknown(unknown: list[str], config: Config) -> None:
    shown = ", ".join(unknown[:_UIDS_SHOWN]) + (", …" if len(unknown) > _UIDS_SHOWN else "")
    where = " ".join(config.datasets) or "any dataset"
    message = f"{len(unknown)} of {len(config.video_uids)} uids not in {where}: {shown}"
    if not config.allow_missing:
        raise ConfigError(
            message, hint="check the uids and --version, or go on without them: --allow-missing"
        )
    log.warning("%s", message)
