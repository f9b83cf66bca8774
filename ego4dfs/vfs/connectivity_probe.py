"""A probe of the store: one HEAD request, if none was made yet, so that its state is known."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ego4dfs.catalog import manifest_url, metadata_url
from ego4dfs.datasets import version_directory
from ego4dfs.errors import AccessDenied, Ego4DError, ObjectMissing
from ego4dfs.metrics import KEY_REFUSED, NOT_ASKED
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)


def probe(vfs: VFS) -> None:
    """Make one HEAD request unless one was made, so that `session.metrics.store` is known.

    A mount with cached manifests starts without a request. Without the probe, a mount that cannot
    fetch looks like one that can. A key that can read neither a manifest nor ego4d.json can read
    nothing.
    """
    if vfs.session.metrics.store != NOT_ASKED:
        return
    refusal = None
    for url in _urls(vfs):
        refusal = _refusal(vfs, url)
        if refusal is None:
            return
    vfs.session.metrics.store = KEY_REFUSED
    log.warning("only what is cached can be read: %s", refusal)


def _urls(vfs: VFS) -> Iterator[str]:
    version = vfs.session.catalog.version
    names = [entry.name for entry in vfs.listdir(version_directory(version)) if entry.is_dir]
    yield from (manifest_url(version, name) for name in names[:1])
    yield metadata_url(version)


def _refusal(vfs: VFS, url: str) -> AccessDenied | None:
    try:
        vfs.session.store.head(url)
    except ObjectMissing:
        return None  # the store answers
    except AccessDenied as error:
        return error
    except Ego4DError as error:
        log.warning("only what is cached can be read: %s", error)
    return None
