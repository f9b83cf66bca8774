"""From a Config to a VFS: which parts there are, and which manifests must be there at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.cache import BlockCache, prepare_directory, source_directory
from ego4dfs.catalog import Catalog, KeptManifests, Selection, metadata_url
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, CredentialsRejected, StoreUnavailable
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.store import ObjectStore, open_store
from ego4dfs.tree import Tree
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)

_PROBE = "annotations"  # small, and the official tool's default
TOP_MANIFEST = "full_scale"  # the official tool's DATASET_PRIMARY
_UIDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """What a face needs of one source: the objects, what is listed, and what is kept.

    `directory` is the source's own below the cache directory; `names` are the datasets asked
    for, else all known ones.
    """

    store: ObjectStore
    catalog: Catalog
    cache: BlockCache
    facts: FactsIndex
    metrics: Metrics
    directory: Path
    names: tuple[str, ...]

    def close(self) -> None:
        """Finish what is under way and let go of everything."""
        self.facts.close()
        self.cache.close()
        self.store.close()


def open_parts(config: Config) -> Parts:
    """Make the parts that a Config describes; nothing is requested. Raises Ego4DError."""
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
    override = config.manifest_override_path
    everything = Catalog(
        KeptManifests(directory, store),
        config.version,
        Selection(),
        override={names[0]: override} if override else {},
    )
    tree = Tree.of(
        datasets.version_directory(config.version),
        parts.names,
        metadata_url=metadata_url(config.version) if config.metadata else "",
        top_manifest=TOP_MANIFEST if config.manifest else "",
    )
    reader = Reader(store, cache, metrics)
    vfs = VFS(tree, everything, facts, reader, store=store, cache=cache, metrics=metrics)
    try:
        named = named_in(config, lambda path: _tree_file(config, vfs, path))
        vfs.catalog = everything.selected(choose(config, everything, names, named))
        _load_what_must_be_there(vfs.catalog, config, names, store.source, named)
    except BaseException:
        vfs.close()
        raise
    return vfs


def _tree_file(config: Config, vfs: VFS, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file that any known dataset has, selected or not."""


def _load_what_must_be_there(
    catalog: Catalog, config: Config, names: tuple[str, ...], source: str, named: NamedUids
) -> None:
    if config.video_uids:
        failed = catalog.load(names)
    elif config.datasets:
        failed = catalog.load(name for name in names if not catalog.is_kept(name))
    elif any(catalog.is_kept(name) for name in names):
        return
    else:
        failed = catalog.load([_PROBE])
    for name, error in failed.items():
        if isinstance(error, StoreUnavailable):
            raise _unreachable(error, source, config.version) from error
        # Of datasets that nobody named some may be refused; but no key is no mount.
        if name in config.datasets or isinstance(error, (CredentialsRejected, ConfigError)):
            raise error
    unknown = catalog.unknown_uids(names)
    if unknown:
        _tell_unknown(unknown, config)


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
