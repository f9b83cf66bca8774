"""Make a VFS from a Config: open the parts, resolve the selection, load the required manifests."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.catalog import (
    Catalog,
    NamedUids,
    Selection,
    check_matches,
    metadata_url,
    resolve_selection,
    uids_from_file,
)
from ego4dfs.config import Config
from ego4dfs.config.text_files import chunks
from ego4dfs.errors import (
    ConfigError,
    CredentialsRejected,
    NotFound,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.runtime.heap import keep_heap_trimmed
from ego4dfs.session import Session, open_session
from ego4dfs.store import ObjectStore
from ego4dfs.vfs.tree import Tree, join
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)

_PROBE = "annotations"  # small, and the official tool's default
_UIDS_SHOWN = 5
_CHUNK_BYTES = 4 << 20


def open_vfs(
    config: Config,
    *,
    pass_refused: bool = False,
    must_match: bool = True,
    store: ObjectStore | None = None,
    share_manifests: bool = False,
) -> VFS:
    """Make the VFS that a Config describes. Raises Ego4DError.

    Datasets that were named are loaded here, so that a wrong name or key is an error at once;
    other known datasets are loaded when they are first entered. With `pass_refused` a named
    dataset whose manifest cannot be loaded is an error only when it is entered; a key that is
    rejected is still an error here. A selection that matches no row of the named datasets is an
    error, or a warning without `must_match`. `store` is used in place of the one that the Config
    describes. For `share_manifests` see ManifestCache.
    """
    session = open_selected_session(
        config,
        pass_refused=pass_refused,
        must_match=must_match,
        store=store,
        share_manifests=share_manifests,
    )
    tree = _tree(config, config.datasets or datasets.known_names())
    keep_heap_trimmed()
    return VFS(session, tree, config.datasets or datasets.VIDEO_DATASETS)


def open_selected_session(
    config: Config,
    *,
    pass_refused: bool = False,
    must_match: bool = True,
    store: ObjectStore | None = None,
    share_manifests: bool = False,
) -> Session:
    """Open a session whose catalog has the selected rows, as `open_vfs` does, without a VFS."""
    session = open_session(config, store=store, share_manifests=share_manifests)
    try:
        return _selected(session, config, pass_refused=pass_refused, must_match=must_match)
    except BaseException:
        session.close()
        raise


def named_file(session: Session, config: Config, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file that a user names: absolute on disk, or else in the tree.

    A path of the tree may be in any dataset, and omit the directory of the version. Raises
    OSError, StoreError, and ConfigError as `text_files.chunks` does.
    """
    if Path(path).is_absolute():
        yield from chunks(Path(path))
    else:
        yield from _tree_bytes(session.with_selection(Selection()), config, path)


def _selected(session: Session, config: Config, *, pass_refused: bool, must_match: bool) -> Session:
    names = config.datasets or datasets.known_names()
    with _with_cause(session.store.source, config.version):
        whole = replace(config, metadata=True)  # ego4d.json names uids, too
        uids = uids_from_file(config, lambda path: _tree_bytes(session, whole, path))
        selection = resolve_selection(config, session.catalog, names, uids)
        session = session.with_selection(selection)
        passed = _load_required(
            session.catalog, config, names, session.store, pass_refused=pass_refused
        )
    _check_uids(session.catalog, config, names, uids, all_listed=not passed)
    _check_matches(session.catalog, config, must_match=must_match)
    return session


def _tree(config: Config, names: Iterable[str]) -> Tree:
    return Tree.of(
        datasets.version_directory(config.version),
        names,
        metadata_url=metadata_url(config.version) if config.metadata else "",
        top_manifest=datasets.PRIMARY if config.manifest else "",
    )


def _tree_bytes(session: Session, config: Config, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file of any known dataset, selected or not.

    `path` may omit the directory of the version. Raises OSError if there is no such file.
    """
    names = (*config.datasets, *datasets.known_names())
    vfs = VFS(session, _tree(config, names))
    directory = datasets.version_directory(config.version)
    full = path if path.startswith(f"{directory}/") else join(directory, path)
    try:
        handle = vfs.open(full)
    except NotFound as error:
        raise FileNotFoundError(errno.ENOENT, "neither on disk nor in the tree", path) from error
    for offset in range(0, handle.size, _CHUNK_BYTES):
        yield vfs.read(handle, offset, _CHUNK_BYTES)


@contextmanager
def _with_cause(source: str, version: str) -> Iterator[None]:
    """Add to the error of an unreachable store that no manifest is cached."""
    try:
        yield
    except StoreUnavailable as error:
        reason = str(error).removeprefix(f"{error.url}: ")
        raise StoreUnavailable(
            f"{source}: {reason}, and no manifest of {version} is cached",
            url=error.url,
            hint=error.hint
            or "check the network and --endpoint-url (AWS_ENDPOINT_URL) or --source",
        ) from error


def _load_required(
    catalog: Catalog,
    config: Config,
    names: tuple[str, ...],
    store: ObjectStore,
    *,
    pass_refused: bool,
) -> list[str]:
    """Load the manifests that are required now; return the named datasets that were refused."""
    if config.video_uids or config.clip_uids or config.uids_from:
        wanted = names
    elif config.datasets:
        wanted = tuple(name for name in names if not catalog.is_cached(name))
    else:
        wanted = () if _is_any_cached(catalog, names) else (_PROBE,)
    failed = catalog.load(wanted)
    passed = [n for n in failed if pass_refused and n in config.datasets]
    for error in failed.values():
        # If others answer, the error concerns that dataset, not the network.
        if isinstance(error, StoreUnavailable) and not (passed and len(failed) < len(wanted)):
            raise error
    if failed and len(failed) == len(wanted) and not _is_any_cached(catalog, names):
        _check_version(config.version, store)
    for name, error in failed.items():
        # Datasets that were not named may be refused; a rejected key is always an error.
        is_wanted = name in config.datasets and name not in passed
        is_general = isinstance(error, (CredentialsRejected, ConfigError)) and name not in passed
        if is_wanted or is_general or isinstance(error, CredentialsRejected):
            raise error
    return passed


def _is_any_cached(catalog: Catalog, names: tuple[str, ...]) -> bool:
    return any(catalog.is_cached(name) for name in names)


def _check_version(version: str, store: ObjectStore) -> None:
    """Raise ConfigError for a version that neither ego4dfs nor the store knows."""
    if version in datasets.VERSIONS:
        return
    try:
        store.head(metadata_url(version))
    except ObjectMissing as error:
        raise ConfigError(
            f"there is no version {version} at {store.source}: neither manifests nor ego4d.json",
            hint=f"--version is one of {', '.join(datasets.VERSIONS)}, or a newer version of Ego4D",
        ) from error
    except StoreError:
        return  # the errors of the manifests are more specific


def _check_uids(
    catalog: Catalog,
    config: Config,
    names: tuple[str, ...],
    named: NamedUids,
    *,
    all_listed: bool,
) -> None:
    """Report the uids that none of the loaded datasets has.

    For uids from an annotation file this is common, so it is a warning. Raises ConfigError for uids
    that were given one by one, unless `allow_missing` is set, or not `all_listed`: a refused
    dataset may have them.
    """
    uids = {*config.video_uids, *config.clip_uids}
    where = " ".join(config.datasets) or "any dataset"
    unknown = catalog.unknown_uids(names, uids)
    if unknown:
        message = f"{len(unknown)} of {len(uids)} uids not in {where}: {_some(unknown)}"
        if all_listed and not config.allow_missing:
            hint = "check the uids and --version, or continue without them: --allow-missing"
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
