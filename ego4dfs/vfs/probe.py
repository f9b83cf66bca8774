"""One question to a store that nothing has been asked yet, so that its state is known."""

from __future__ import annotations

import logging

from ego4dfs.catalog import metadata_url
from ego4dfs.errors import AccessDenied, Ego4DError, ObjectMissing
from ego4dfs.metrics import KEY_REFUSED, NOT_ASKED
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)


def probe(vfs: VFS) -> None:
    """Ask for the facts of ego4d.json unless a request was made; `vfs.metrics.store` is the answer.

    Everything else that a mount over kept manifests needs is on disk, so it would look like one
    that can fetch. A key that is refused even ego4d.json is refused everything.
    """
    if vfs.metrics.store != NOT_ASKED:
        return
    try:
        vfs.store.head(metadata_url(vfs.catalog.version))
    except ObjectMissing:
        return  # an answer all the same
    except AccessDenied as error:
        vfs.metrics.store = KEY_REFUSED
        log.warning("only what is cached can be read: %s", error)
    except Ego4DError as error:
        log.warning("only what is cached can be read: %s", error)
