"""FirstGets: the facts of objects by their first GET requests, which also bring some bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreError
from ego4dfs.runtime.recent import Recent
from ego4dfs.session import Session
from ego4dfs.store import Fetched, ObjectFacts

log = logging.getLogger(__name__)

_MAX_ETAG_BYTES = 256 << 10  # an answer that comes late is that of a request shortly before
_ETAG_BYTES = 256  # with its URL


class FirstGets:
    """GET requests for objects of which nothing is known. Safe from several threads.

    An answer is compared with the ETags of other objects: a proxy that has lost its place sends the
    answers of a connection to the wrong requests, and no ETag is known here that would show it.
    """

    def __init__(self, session: Session) -> None:
        """Fetch from the store of `session`, into its cache."""
        self._session = session
        self._urls: Recent[str] = Recent(_MAX_ETAG_BYTES)  # by ETag

    def fetch(
        self, url: str, wanted: range, keep: Callable[[Fetched], None] | None = None
    ) -> ObjectFacts:
        """Fetch whole parts of an object, and return the facts that come with them.

        The parts are cached, and `keep` is called with them. Raises StoreError.
        """

        def cache(fetched: Fetched) -> None:
            source, facts = self._session.store.source, fetched.facts
            ref = ObjectRef.of(source, url, facts.size, facts.etag)
            self._session.reader.put(ref, wanted.start, fetched.data)
            if keep is not None:
                keep(fetched)

        return self.fetch_uncached(url, wanted, cache)

    def fetch_uncached(
        self, url: str, wanted: range, keep: Callable[[Fetched], None]
    ) -> ObjectFacts:
        """Fetch a range of an object, and return the facts that come with it.

        `keep` is called with the bytes; not if the range is after the end. Raises StoreError.
        """
        store = self._session.store
        try:
            fetched = store.read_range(url, wanted.start, wanted.stop)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return store.head(url)  # the range may be after the end
        facts = fetched.facts
        if self.note(url, facts.etag) != url:
            log.info("%s: its ETag is that of another object; a HEAD request decides", url)
            store.renew(url)
            said = store.head(url)
            if (said.size, said.etag) != (facts.size, facts.etag):
                return said
        keep(fetched)
        return facts.confirmed()

    def note(self, url: str, etag: str) -> str:
        """Remember the ETag of an object that is used; return the first object that had it."""
        return self._urls.get(etag) or self._urls.put(etag, url, _ETAG_BYTES)
