"""From a Config to a VFS: which parts there are, and which manifests must be there at once."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ego4dfs import datasets
from ego4dfs.cache import BlockCache, prepare_directory, source_directory
from ego4dfs.catalog import (
    NO_UIDS,
    Catalog,
    ManifestCache,
    NamedUids,
    Selection,
    check_matches,
    metadata_url,
    resolve_selection,
    uids_from_file,
)
from ego4dfs.config import Config
from ego4dfs.copies import Copies
from ego4dfs.errors import (
    ConfigError,
    CredentialsRejected,
    NotFound,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.reader import BackgroundVerifier, Reader
from ego4dfs.store import ObjectStore, check_profile, open_store
from ego4dfs.tree import Tree, join
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)

_PROBE = "annotations"  # small, and the official tool's default
_TOP_MANIFEST = "full_scale"  # the official tool's DATASET_PRIMARY
_UIDS_SHOWN = 5
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a VFS is made of. `names` are the datasets asked for, else all known ones.

    `named` are the uids of the file that --uids-from names.
    """

    store: ObjectStore
    catalog: Catalog
    cache: BlockCache
    facts: FactsIndex
    metrics: Metrics
    names: tuple[str, ...]
    copies: Copies | None = None
    named: NamedUids = NO_UIDS

    def close(self) -> None:
        """Finish what is under way and let go of everything."""
        self.store.close()  # first: what waits to try a request again need not be waited for
        self.facts.close()
        if self.copies is not None:
            self.copies.close()
        self.cache.close()


def _open_parts(config: Config) -> _Parts:
    """Make the parts that a Config describes, with a catalog of what is selected.

    Nothing is requested but what --splits, --clip_uids and --uids-from are said in terms of.
    Raises Ego4DError.
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
    override = config.manifest_override_path
    copies = Copies(config.copies, store.source, metrics.error) if config.copies else None
    manifests = ManifestCache(directory, store, copies.manifest if copies else _nothing)
    everything = _Parts(
        store=store,
        catalog=Catalog(
            manifests,
            config.version,
            Selection(),
            override={names[0]: override} if override else {},
        ),
        cache=BlockCache(
            inner, metrics, max_bytes=config.cache_max_bytes, eviction=config.eviction
        ),
        facts=FactsIndex(directory, store),
        metrics=metrics,
        names=names,
        copies=copies,
    )
    try:
        with _explained(store.source, config.version):
            return _chosen(everything, config)
    except BaseException:
        everything.close()
        raise


def _nothing(_version: str, _dataset: str) -> None:
    return None


def _chosen(parts: _Parts, config: Config) -> _Parts:
    """Return the same parts with the catalog of what the options select."""
    named = uids_from_file(config, lambda path: _tree_bytes(parts, config, path))
    selection = resolve_selection(config, parts.catalog, parts.names, named)
    return replace(parts, catalog=parts.catalog.selected(selection), named=named)


def _tree_bytes(parts: _Parts, config: Config, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file that any known dataset has, selected or not."""
    reader = Reader(parts.store, parts.cache, parts.metrics)
    try:
        yield from _file_bytes(_vfs(parts, config, reader, datasets.known_names()), path)
    finally:
        reader.close()


def _file_bytes(vfs: VFS, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file of the tree; its path may leave the version's directory out.

    Raises OSError when the tree has no such file.
    """
    directory = datasets.version_directory(vfs.catalog.version)
    full = path if path.startswith(f"{directory}/") else join(directory, path)
    try:
        handle = vfs.open(full)
    except NotFound as error:
        raise FileNotFoundError(errno.ENOENT, "neither on disk nor in the tree", path) from error
    for offset in range(0, handle.size, _CHUNK_BYTES):
        yield vfs.read(handle, offset, _CHUNK_BYTES)


def _reader(parts: _Parts, config: Config) -> Reader:
    verifier = None
    if config.verify == "auto":
        verifier = BackgroundVerifier(parts.cache, parts.metrics, parts.store.renew)
    return Reader(parts.store, parts.cache, parts.metrics, verifier)


def _vfs(parts: _Parts, config: Config, reader: Reader, more: Iterable[str] = ()) -> VFS:
    tree = Tree.of(
        datasets.version_directory(config.version),
        (*parts.names, *more),
        metadata_url=metadata_url(config.version) if config.metadata else "",
        top_manifest=_TOP_MANIFEST if config.manifest else "",
    )
    vfs = VFS(
        tree,
        parts.catalog,
        parts.facts,
        reader,
        store=parts.store,
        cache=parts.cache,
        metrics=parts.metrics,
    )
    vfs.copies = parts.copies
    return vfs


def open_vfs(config: Config, *, pass_refused: bool = False, must_match: bool = True) -> VFS:
    """Make the VFS that a Config describes.

    Datasets that were named are loaded here, so that a wrong name or key is told at once; those
    that merely are known are loaded when they are first entered. With `pass_refused` a named
    dataset whose manifest cannot be had is no error here, but when it is asked for; a key that is
    rejected is one all the same. A selection that matches no row of the named datasets is an
    error, or a warning without `must_match`. Raises Ego4DError.
    """
    parts = _open_parts(config)
    vfs = _vfs(parts, config, _reader(parts, config))
    try:
        with _explained(parts.store.source, config.version):
            passed = _load_what_must_be_there(
                parts.catalog, config, parts.names, parts.store, pass_refused=pass_refused
            )
        _check_uids(parts.catalog, config, parts.names, parts.named, all_listed=not passed)
        _check_matches(parts.catalog, config, must_match=must_match)
    except BaseException:
        vfs.close()
        raise
    return vfs


@contextmanager
def _explained(source: str, version: str) -> Iterator[None]:
    """Say of an unreachable store that no copy of a manifest is kept either."""
    try:
        yield
    except StoreUnavailable as error:
        reason = str(error).removeprefix(f"{error.url}: ")
        raise StoreUnavailable(
            f"{source}: {reason}, and no manifest of {version} is kept from before",
            url=error.url,
            hint=error.hint
            or "check the network and --endpoint-url (AWS_ENDPOINT_URL) or --source",
        ) from error


def _load_what_must_be_there(
    catalog: Catalog,
    config: Config,
    names: tuple[str, ...],
    store: ObjectStore,
    *,
    pass_refused: bool = False,
) -> list[str]:
    """Load them, and return the named datasets that were passed over."""
    if config.video_uids or config.clip_uids or config.uids_from:
        wanted = names
    elif config.datasets:
        wanted = tuple(name for name in names if not catalog.is_cached(name))
    else:
        wanted = () if _is_any_kept(catalog, names) else (_PROBE,)
    failed = catalog.load(wanted)
    passed = [n for n in failed if pass_refused and n in config.datasets]
    for error in failed.values():
        # One that fails beside others that answer is that dataset's trouble, not the network's.
        if isinstance(error, StoreUnavailable) and not (passed and len(failed) < len(wanted)):
            raise error
    if failed and len(failed) == len(wanted) and not _is_any_kept(catalog, names):
        _check_version(config.version, store)
    for name, error in failed.items():
        # Of datasets that nobody named some may be refused; but no key is no mount.
        is_wanted = name in config.datasets and name not in passed
        if is_wanted or isinstance(error, (CredentialsRejected, ConfigError)):
            raise error
    return passed


def _is_any_kept(catalog: Catalog, names: tuple[str, ...]) -> bool:
    return any(catalog.is_cached(name) for name in names)


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


def _check_uids(
    catalog: Catalog,
    config: Config,
    names: tuple[str, ...],
    named: NamedUids = NO_UIDS,
    *,
    all_listed: bool = True,
) -> None:
    """Say which uids none of the loaded datasets has.

    In an annotation file that is common, and a warning. Raises ConfigError for those that were
    given one by one, unless `allow_missing`, or not `all_listed`: a refused dataset may have them.
    """
    asked = {*config.video_uids, *config.clip_uids}
    where = " ".join(config.datasets) or "any dataset"
    unknown = catalog.unknown_uids(names, asked)
    if unknown:
        message = f"{len(unknown)} of {len(asked)} uids not in {where}: {_some(unknown)}"
        if all_listed and not config.allow_missing:
            hint = "check the uids and --version, or go on without them: --allow-missing"
            raise ConfigError(message, hint=hint)
        log.warning("%s", message)
    from_file = named.videos | named.clips
    absent = catalog.unknown_uids(names, from_file)
    if absent and config.datasets:
        count = f"{len(absent)} of {len(from_file)}"
        log.warning("%s uids of %s are not in %s", count, config.uids_from, where)


def _check_matches(catalog: Catalog, config: Config, *, must_match: bool) -> None:
    loaded = [name for name in datasets.known_names() if catalog.peek(name)]
    try:
        check_matches(config, catalog, [*loaded, *({_PROBE} - {*loaded})])
    except ConfigError as error:
        if must_match:
            raise
        log.warning("%s; %s", error, error.hint)
    catalog.warn_if_empty(except_for=config.datasets)


def _some(uids: list[str]) -> str:
    return ", ".join(uids[:_UIDS_SHOWN]) + (", …" if len(uids) > _UIDS_SHOWN else "")
